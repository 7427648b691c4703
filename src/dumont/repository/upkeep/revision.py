"""Revision: index objects are replaced by ones that name only packs that are there; by fewer when there are many."""

from collections import defaultdict

from dumont.errors import NotStored
from dumont.repository.keys import Keys, writer_keys
from dumont.repository.record import PACKS, VERSION, IndexObject, Pack, index_key, pack_key, pack_up
from dumont.repository.repository import Listing, Repository, parts
from dumont.repository.seal import close_object

_SMALL_CHUNKS = 10_000
_SMALL_MAX = 32


async def revise_index(repo: Repository, listing: Listing, gone: set[str]) -> int:
    """Take the packs `gone`, and those that are not in the store, out of the index; how many objects were replaced.

    New objects are stored before old ones are deleted. An offer stays an offer of whoever made it.
    """
    present: set[str] | None = None
    old: dict[str, list[str]] = defaultdict(list)
    packs: dict[str, dict[str, Pack]] = defaultdict(dict)
    small: list[tuple[str, str, list[Pack]]] = []
    read = []
    for name in sorted(listing.indexes):
        try:
            read.append((name, *await repo.read_index(name)))
        except NotStored:
            continue
    present = {key.rpartition("/")[2] async for key in repo.store.keys(PACKS)}
    for name, index, writer in read:
        stay = [pack for pack in index.packs if pack.name not in gone and await _is_there(repo, pack, present)]
        if len(stay) < len(index.packs):
            old[writer].append(name)
            packs[writer].update((pack.name, pack) for pack in stay)
        elif sum(len(frame.lengths) for pack in stay for frame in pack.frames) < _SMALL_CHUNKS:
            small.append((name, writer, stay))
    if len(small) > _SMALL_MAX:
        for name, writer, stay in small:
            old[writer].append(name)
            packs[writer].update((pack.name, pack) for pack in stay)
    for writer, names in old.items():
        await put_index(repo, list(packs[writer].values()), writer)
        for name in names:
            await repo.store.delete(index_key(name))
    return sum(len(names) for names in old.values())


async def put_index(repo: Repository, packs: list[Pack], writer: str) -> None:
    """Store index objects for `packs` as those of `writer`."""
    keys: Keys = repo.keys if writer == repo.keys.writer else writer_keys(repo.keys, writer)
    for part in parts(packs):
        key = index_key(repo.new_name())
        await repo.store.put(key, close_object(keys, key, pack_up(IndexObject(VERSION, part))))


async def _is_there(repo: Repository, pack: Pack, present: set[str]) -> bool:
    return pack.name in present or await repo.store.exists(pack_key(pack.name))
