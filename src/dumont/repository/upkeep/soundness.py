"""Soundness: whether commits can be restored, looked at before others are forgotten (I5)."""

from collections.abc import Iterable

from dumont.errors import Corrupt, NotStored
from dumont.repository.record import PACKS, CommitRecord, Pack, pack_key
from dumont.repository.repository import Repository, gather
from dumont.repository.upkeep.reach import Reach
from dumont.repository.upkeep.share import lacking


async def require_sound(repo: Repository, records: Iterable[CommitRecord]) -> None:
    """Raises Corrupt unless every directory of those commits reads as it is named, and a pack of the length that its
    index says is there for every chunk of their files. `repo` has learned what is indexed.

    Content of files is not read: whoever kept a pack for a host has read and hashed all of it before
    (`control/scrutiny.py`), and `dumont snapshot check --read-data` does so again.
    """
    reach = Reach(repo)
    for record in records:
        await reach.add(record.commit.root)
    catalogue = repo.catalogue
    present = {key.rpartition("/")[2] async for key in repo.store.keys(PACKS)}
    wanted = {
        spot[0].name: spot[0]
        for chunk in reach.chunks
        for spot in catalogue.places(chunk)[:1]
        if spot[0].name in present
    }
    cut = [name for name in await gather(_cut(repo, pack) for pack in wanted.values()) if name]
    present.difference_update(cut)
    if nowhere := lacking(catalogue, reach.chunks, present):
        also = f"; pack {cut[0]} is shorter or longer than its index says" if cut else ""
        raise Corrupt(
            f"commits that are to stay need {len(nowhere)} chunks that no pack holds{also}: nothing is forgotten. "
            "`dumont snapshot check` names the files"
        )


async def _cut(repo: Repository, pack: Pack) -> str:
    """The pack's name unless it has the length that its index says."""
    try:
        return "" if await repo.store.size(pack_key(pack.name)) == pack.size else pack.name
    except NotStored:
        return pack.name
