"""Naming a commit: the last step of a save, safe against prunes whatever pauses, without a clock.

A pending record says first which packs the commit relies on; then the writer looks again. A prune looks at pending
records after it has said which packs it will delete. Of the two, at least one sees the other (docs/snapshots.md).
"""

import contextlib
from dataclasses import dataclass

from msgspec.structs import replace

from dumont.errors import AlreadyStored, NotStored, StoreError
from dumont.model.commit import CommitId
from dumont.repository.record import PACKS, STATE, VERSION, CommitRecord, Doomed, Pending, commit_key, commit_of
from dumont.repository.repository import Listing, Repository


@dataclass(frozen=True)
class Needs:
    """What a commit relies on: names of packs, and of the index objects by which it knows them.

    `confirmed`: those of the packs that an earlier commit of this machine relied on, by index objects that are among
    `indexes`. The others are looked for: an index object may be older than the deletion of its packs, or younger.
    """

    packs: frozenset[str]
    indexes: frozenset[str]
    confirmed: frozenset[str] = frozenset()


async def name_commit(
    repo: Repository, record: CommitRecord, needs: Needs, prefix: str, renumber: bool
) -> CommitRecord | None:
    """Store the commit; as it was stored, or None: a prune was or is at work, nothing was named.

    None: look and learn anew, store what is missing, call again. `renumber`: take the next free number when this one is
    taken. Storing the same commit twice is harmless. Raises AlreadyStored when another one has that id.
    """
    while True:
        id = record.commit.id
        name = f"{id.epoch}-{id.seq}-{repo.new_name()}"
        listing = await _pend(
            repo, name, Pending(VERSION, id, sorted(needs.packs), prefix, record.commit.at_ns // 10**9)
        )
        if not await _holds(repo, listing, needs):
            # It would keep those packs for as long as a commit has the number, and that may be ours, a moment later.
            await _withdraw(repo, name)
            return None
        record = replace(record, pending=name)
        try:
            await repo.put_record(commit_key(id, prefix), record)
            return record
        except AlreadyStored:
            await _withdraw(repo, name)
            if not renumber:
                if await _is_stored(repo, record, prefix):
                    return record
                raise
        # With the number goes the pending record: a prune stops a writer for good by taking the number it pends for.
        seqs = [commit_of(key).seq for key in (*listing.commits, *listing.branches) if key.startswith(STATE + prefix)]
        record = replace(record, commit=replace(record.commit, id=CommitId(id.epoch, max(id.seq, *seqs, 0) + 1)))


async def _pend(repo: Repository, name: str, pending: Pending) -> Listing:
    await repo.put_record(f"{STATE}pending/{name}", pending)
    return await repo.look()


async def _withdraw(repo: Repository, name: str) -> None:
    """Take back a pending record with which no commit will be named."""
    with contextlib.suppress(StoreError):  # who may only add leaves it to a prune
        await repo.store.delete(f"{STATE}pending/{name}")


async def _holds(repo: Repository, listing: Listing, needs: Needs) -> bool:
    """Whether all that is needed is there, and no prune wants it, as of `listing`."""
    if needs.indexes - listing.indexes:
        return False
    if listing.doomed and not repo.keys.can_read:
        return False  # the records say nothing to a writer's key
    for name in sorted(listing.doomed):
        try:
            doomed = await repo.get_record(f"{STATE}doomed/{name}", Doomed)
        except NotStored:
            return False  # its prune ended since, and may have deleted what was indexed when we looked
        if not needs.packs.isdisjoint(doomed.packs):
            return False
    missing = needs.packs - needs.confirmed
    if missing:
        missing = missing.difference([key.rpartition("/")[2] async for key in repo.store.keys(PACKS)])
    return not missing


async def _is_stored(repo: Repository, record: CommitRecord, prefix: str) -> bool:
    try:
        return (await repo.commit(record.commit.id, prefix)).commit.root == record.commit.root
    except NotStored:
        return False
