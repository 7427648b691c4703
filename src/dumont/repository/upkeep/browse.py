"""Browsing: which commits a repository holds, and what a directory of one held."""

from dataclasses import dataclass

from dumont.errors import NotStored
from dumont.model.commit import CommitId, Entry
from dumont.repository.record import CommitRecord, parse_commit
from dumont.repository.repository import Repository
from dumont.repository.upkeep.labels import labelled
from dumont.repository.upkeep.reach import Directories, is_directory
from dumont.snapshot.tree import EMPTY_DIRECTORY, TOP, checked, join


@dataclass(frozen=True)
class Row:
    """A commit as people see it. `at_ns`: Unix time. `plain_bytes` it holds; `new_bytes` of packs are new."""

    id: CommitId
    at_ns: int
    host: str
    path: bytes
    name: str
    tags: tuple[str, ...]
    files: int
    plain_bytes: int
    new_bytes: int
    consistent: bool


async def rows(repo: Repository) -> list[Row]:
    """The commits of the main line, oldest first, with their present names and tags. Raises Corrupt, StoreError."""
    return [row_of(record) for record in await labelled(repo, await repo.look())]


def row_of(record: CommitRecord) -> Row:
    """A commit's row."""
    commit = record.commit
    return Row(
        commit.id,
        commit.at_ns,
        record.host,
        record.path,
        record.name,
        record.tags,
        record.files,
        record.plain_bytes,
        record.stored_bytes,
        commit.consistent,
    )


async def find_commit(repo: Repository, text: str) -> CommitRecord:
    """The commit that `text` means: `latest`, a commit's name, or its number. Raises NotStored, BadInput."""
    records = await labelled(repo, await repo.look())
    if not records:
        raise NotStored("there is no commit yet: `dumont snapshot save` makes one")
    if text == "latest":
        return max(records, key=lambda record: (record.commit.at_ns, record.commit.id))
    named = [record for record in records if record.name == text]
    if named:
        return named[-1]
    id = parse_commit(text)
    for record in records:
        if record.commit.id == id:
            return record
    raise NotStored(f"there is no commit {id}; `dumont snapshot ls` shows what there is")


async def entries_at(repo: Repository, root: bytes, path: bytes) -> list[tuple[bytes, Entry]]:
    """What the tree with that root holds at `path`: a directory's names, with their paths in order, or one file.

    Reads only the directories on the way; the catalogue must know them. Raises NotStored when there is no such path,
    BadInput for one that makes no sense, Corrupt.
    """
    directories = Directories(repo)
    top = await directories.get(root)
    at, entry, below = (TOP, top[0][1], top[0][2]) if top else (TOP, None, EMPTY_DIRECTORY)
    for part in checked(path).split(b"/") if path else ():
        found = {name: (child, id) for name, child, id in await directories.get(below)} if is_directory(entry) else {}
        if part not in found:
            raise NotStored(f"the commit holds no {path.decode(errors='backslashreplace')}")
        (entry, below), at = found[part], join(at, part)
    if not is_directory(entry):
        assert entry is not None
        return [(at, entry)]
    listing = await directories.get(below)
    return [(join(at, name), child) for name, child, _ in listing if child is not None]
