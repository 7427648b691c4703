"""Blocks: the content of one stored file, in order, each verified as it is read."""

from collections.abc import AsyncIterator

from dumont.errors import Corrupt
from dumont.model.commit import HOLE, Entry
from dumont.repository.fetch import data_fetcher
from dumont.repository.repository import Repository
from dumont.snapshot.chunk import block_ranges


async def read_file(repository: Repository, entry: Entry) -> AsyncIterator[bytes]:
    """The bytes of the file `entry`, block by block; `learn` first.

    Raises Corrupt, before the first byte when it is known already that a block is not stored, and StoreError.
    """
    missing = sum(1 for chunk in entry.chunks if chunk != HOLE and repository.catalogue.find(chunk) is None)
    if missing:
        raise Corrupt(f"{missing} blocks of the file are not in the store")
    fetcher = data_fetcher(repository)
    for chunk, (start, length) in zip(entry.chunks, block_ranges(entry.size, entry.bounds), strict=True):
        data = bytes(length) if chunk == HOLE else await fetcher.chunk(chunk)
        if len(data) != length:
            raise Corrupt(f"the block at byte {start} has {len(data)} bytes where {length} belong")
        yield data
