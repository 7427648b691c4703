"""Reach: every chunk that commits need, by their trees."""

from collections.abc import Iterator

import msgspec

from dumont.errors import Corrupt
from dumont.model.commit import HOLE, Entry, Kind
from dumont.repository.fetch import directory_fetcher
from dumont.repository.repository import Repository
from dumont.snapshot.tree import EMPTY_DIRECTORY

Directory = list[tuple[bytes, Entry | None, bytes]]
_decode = msgspec.msgpack.Decoder(Directory).decode


class Directories:
    """The directory objects of a repository, read and verified."""

    def __init__(self, repo: Repository) -> None:
        self._fetcher = directory_fetcher(repo)

    async def get(self, id: bytes) -> Directory:
        """What the directory `id` lists. Raises Corrupt when it is nowhere whole, StoreError."""
        if id == EMPTY_DIRECTORY:
            return []
        return decoded(await self._fetcher.chunk(id), id)


class Reach:
    """Grows by trees. `chunks` holds the ids of all chunks of files and of directory objects; nothing plain is kept."""

    def __init__(self, repo: Repository) -> None:
        self._directories = Directories(repo)
        self.chunks: set[bytes] = set()

    async def add(self, root: bytes) -> None:
        """All that the tree `root` needs. Costs what is new. Raises Corrupt, StoreError; then nothing was added.

        A directory that is among `chunks` is not read again, so all that is below it must be among them as well.
        """
        found: set[bytes] = set()
        unread = [root]
        while unread:
            id = unread.pop()
            if id in self.chunks or id in found or id == EMPTY_DIRECTORY:
                continue
            for _, entry, below in await self._directories.get(id):
                found.update(needed_chunks(entry))
                if is_directory(entry):
                    unread.append(below)
            found.add(id)
        self.chunks |= found


def decoded(body: bytes, id: bytes) -> Directory:
    """A directory object. Raises Corrupt."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"directory {id.hex()} can't be read: {error}") from error


def is_directory(entry: Entry | None) -> bool:
    """Whether the subtree beside `entry` counts."""
    return entry is None or entry.kind is Kind.DIRECTORY


def needed_chunks(entry: Entry | None) -> Iterator[bytes]:
    """The chunks of a file."""
    return (chunk for chunk in entry.chunks if chunk != HOLE) if entry else iter(())
