"""History: what an agent does with the store. It keeps branches, adds commits now and then, and restores one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from dumont.clock import Clock
from dumont.errors import BadInput, Corrupt, StoreError, WrongKey
from dumont.model.commit import Commit, CommitId
from dumont.replication.ports import Kept
from dumont.repository.apart import apart
from dumont.repository.hands import Hand, Start, ThreadHand
from dumont.repository.progress import Progress
from dumont.repository.record import branch_prefix
from dumont.repository.repository import Repository
from dumont.repository.restoring.restore import Restored, Wanted, restore, start_restoring
from dumont.repository.saving.save import Draft, save, start_saving
from dumont.snapshot.tree import TOP, Tree, parent_of
from dumont.store.base import Store
from dumont.wire.control import BranchSaved

_PATHS_TOLD_MAX = 1_000
_HANDS = 2
"""A trainer runs beside a save: no more threads than that, each with a pack and two or three batches in memory."""

Opening = Callable[[], Awaitable[Repository]]
"""Gives the repository, or raises StoreError while there is no way to it."""


class StoredHistory:
    """Port `History` over a repository. `aside` is a directory on the workspace's file system where files are built.

    One thing at a time, apart from the engine's loop. Raises StoreError when the store can't be reached or used; to try
    again loses nothing.
    """

    def __init__(self, opening: Opening, workspace_dir: Path, aside: Path, clock: Clock) -> None:
        self._opening = opening
        self._aside = aside
        self._workspace_dir = workspace_dir
        self._clock = clock
        self._turn = asyncio.Lock()

    async def keep_branch(self, name: str, tree: Tree, forked_from: CommitId | None, paths: set[bytes]) -> BranchSaved:
        """Store the divergent `paths` of `tree` with the directories above them; the whole tree when none are named."""
        wanted = _only(tree, paths) if paths else tree
        base = forked_from or CommitId(0, 0)
        draft = Commit(CommitId(base.epoch, base.seq + 1), forked_from, b"", self._now_ns(), consistent=True)
        saved = await self._save(wanted, draft, branch_prefix(name))
        told = tuple(sorted(paths)[:_PATHS_TOLD_MAX])
        return BranchSaved(name, saved.id, saved.root, forked_from, told)

    async def keep(self, head: Commit, tree: Tree) -> Commit:
        """Store the commit `head`, whose tree is `tree`. Files that moved on meanwhile make it fuzzy, and are named."""
        return await self._save(tree, head, "")

    async def restore(self, id: CommitId) -> Kept:
        """Fetch a stored commit into the workspace directory, every chunk verified. Raises Corrupt."""
        async with self._turn:
            repo = await self._opening()
            try:
                restored = await apart(lambda: self._restored(repo, id))
            except (BadInput, WrongKey) as error:
                raise StoreError(f"commit {id} can't be restored: {error}") from error
        assert restored.tree is not None, "it was wanted"
        return Kept(head=restored.commit, tree=restored.tree)

    async def _save(self, tree: Tree, commit: Commit, prefix: str) -> Commit:
        """`host` and `path` of the record stay empty: machines come and go, a workspace's commits are one history."""
        draft = Draft(self._now_ns(), commit=commit, known=tree, prefix=prefix)
        async with self._turn:
            repo = await self._opening()
            try:
                return await apart(lambda: self._saved(repo, draft))
            except (BadInput, Corrupt, WrongKey) as error:  # of the store: what is on this disk is as good as before
                raise StoreError(f"commit {commit.id} can't be stored: {error}") from error

    async def _saved(self, repo: Repository, draft: Draft) -> Commit:
        async with _hands(start_saving, repo.store) as hands:
            return (await save(repo, self._workspace_dir, draft, hands, Progress())).record.commit

    async def _restored(self, repo: Repository, id: CommitId) -> Restored:
        record = await repo.commit(id)
        async with _hands(start_restoring, repo.store) as hands:
            wanted = Wanted(aside=self._aside, with_tree=True)
            return await restore(repo, record, self._workspace_dir, hands, wanted)

    def _now_ns(self) -> int:
        return int(self._clock.now().timestamp() * 1_000_000) * 1_000


@asynccontextmanager
async def _hands(start: Start, store: Store) -> AsyncIterator[list[Hand]]:
    """Threads for one piece of work; a process forked off an engine would hold its locks and sockets."""
    hands: list[Hand] = [ThreadHand(start, store) for _ in range(_HANDS)]
    try:
        yield hands
    finally:
        for hand in hands:
            await hand.close()


def _only(tree: Tree, paths: set[bytes]) -> Tree:
    wanted = Tree()
    for path in paths:
        while True:
            if entry := tree.get(path):
                wanted.put(path, entry)
            if path == TOP:
                break
            path = parent_of(path)
    return wanted
