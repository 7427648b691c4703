"""Hits: the files of commits that can't be restored, because a chunk of theirs is nowhere whole."""

from dataclasses import dataclass

from dumont.errors import Corrupt
from dumont.model.commit import CommitId
from dumont.repository.record import CommitRecord, commit_of
from dumont.repository.repository import Repository
from dumont.repository.upkeep.reach import Directories, is_directory, needed_chunks
from dumont.snapshot.tree import EMPTY_DIRECTORY, TOP, join


@dataclass(frozen=True)
class Hit:
    """A file of a commit that can't be restored. `below`: nothing is known of what the directory `path` holds.

    `branch` is the prefix of a branch's commits, or empty.
    """

    commit: CommitId
    branch: str
    path: bytes
    below: bool = False


class Lost:
    """Which chunks are nowhere whole. `bad`: packs' names with chunks that they are said to hold and don't."""

    def __init__(self, repo: Repository, bad: set[tuple[str, bytes]]) -> None:
        self._repo, self._bad = repo, bad

    def has(self, chunk: bytes) -> bool:
        """Whether `chunk` is lost."""
        return all((spot[0].name, chunk) in self._bad for spot in self._repo.catalogue.places(chunk))


async def find_hits(
    repo: Repository, records: list[tuple[str, CommitRecord]], lost: Lost, hits_max: int
) -> tuple[list[Hit], int]:
    """The files of those commits (with their keys) that are hit, at most `hits_max` of them, and how many there are.

    Costs what the trees hold once; trees that are hit are walked for each commit that holds them.
    """
    walk = _Walk(repo, lost)
    hits: list[Hit] = []
    count = 0
    for key, record in records:
        for path, below in await walk.hits(record.commit.root):
            count += 1
            if len(hits) < hits_max:
                branch = key.rpartition("commits/")[0].removeprefix("state/")
                hits.append(Hit(commit_of(key), branch, path, below))
    return hits, count


class _Walk:
    def __init__(self, repo: Repository, lost: Lost) -> None:
        self._directories, self._lost = Directories(repo), lost
        self._whole: set[bytes] = {EMPTY_DIRECTORY}

    async def hits(self, root: bytes) -> list[tuple[bytes, bool]]:
        """The paths hit below `root`; whether it is all that is below them."""
        found: list[tuple[bytes, bool]] = []
        stack: list[tuple[bytes, bytes, int]] = [(TOP, root, -1)]
        while stack:
            path, id, before = stack.pop()
            if before >= 0:
                if len(found) == before:
                    self._whole.add(id)  # and all below it is
                continue
            if id in self._whole:
                continue
            try:
                listing = await self._directories.get(id)
            except Corrupt:
                found.append((path, True))
                continue
            stack.append((path, id, len(found)))
            for name, entry, below in listing:
                if any(self._lost.has(chunk) for chunk in needed_chunks(entry)):
                    found.append((join(path, name), False))
                if is_directory(entry):
                    stack.append((join(path, name) if name else path, below, -1))
        return found
