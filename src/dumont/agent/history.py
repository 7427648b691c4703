"""History: what an agent does with the store. It keeps branches, adds commits now and then, and restores one."""

from pathlib import Path

from dumont.clock import Clock
from dumont.model.commit import Commit, CommitId
from dumont.replication.ports import Kept
from dumont.snapshot.live import LiveTree
from dumont.snapshot.restore import restore
from dumont.snapshot.save import branch_prefix, save
from dumont.snapshot.tree import TOP, Tree, parent_of
from dumont.store.base import Store
from dumont.wire.control import BranchSaved

_PATHS_TOLD_MAX = 1_000


class StoredHistory:
    """Port `History` over a store. `aside` is a directory on the workspace's file system where files are built.

    Raises StoreError when the store can't be reached; nothing is lost by trying again.
    """

    def __init__(self, store: Store, workspace_dir: Path, aside: Path, clock: Clock) -> None:
        self._store = store
        self._aside = aside
        self._workspace_dir = workspace_dir
        self._clock = clock

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
        """Fetch a stored commit into the workspace directory, every chunk verified."""
        restored = await restore(self._store, id, self._workspace_dir, aside=self._aside)
        return Kept(head=restored.commit, tree=restored.tree)

    async def _save(self, tree: Tree, draft: Commit, prefix: str) -> Commit:
        live = LiveTree(self._workspace_dir)
        try:
            return (await save(self._store, live, tree, draft, prefix)).commit
        finally:
            live.close()

    def _now_ns(self) -> int:
        return int(self._clock.now().timestamp() * 1_000_000) * 1_000


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
