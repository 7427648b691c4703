"""Arrivals: when a server first saw each commit, by its own clock.

A commit tells by itself when it was made, by the clock of a host, and hosts are strangers (I7): one that dated its
commits as it liked could have those of others thinned out. So what is kept is decided by arrivals. A commit's own time
counts only between the look before the first that showed it, and that one. Nobody but the server writes the record.
"""

import contextlib
from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from dumont.errors import NotStored
from dumont.repository.record import STATE, VERSION, CommitRecord
from dumont.repository.repository import Listing, Repository

_PREFIX = f"{STATE}arrivals/"
_DIGITS = 10


class Arrivals(msgspec.Struct, frozen=True):
    """`looked_s`: when the commits were last looked at, Unix time; 0: never. `seen`: (epoch, seq, arrival)."""

    version: int = VERSION
    looked_s: int = 0
    seen: list[tuple[int, int, int]] = msgspec.field(default_factory=list)


def arrived(before: Arrivals, records: Iterable[CommitRecord], now_s: int) -> Arrivals:
    """The arrivals of all `records`, as a look at `now_s` (Unix time) finds them. Pure.

    No arrival lies ahead of now: a server whose clock was once wrong must not prefer what it saw then for years.
    """
    known = {(epoch, seq): at_s for epoch, seq, at_s in before.seen}
    seen = []
    for record in records:
        id, own_s = record.commit.id, record.commit.at_ns // 10**9
        at_s = known.get((id.epoch, id.seq), max(own_s, before.looked_s))
        seen.append((id.epoch, id.seq, min(at_s, now_s)))
    return Arrivals(VERSION, now_s, sorted(seen))


def dated(records: Iterable[CommitRecord], arrivals: Arrivals) -> list[CommitRecord]:
    """The records with their arrivals as their time, and as one history: whose machine they came from counts no more.

    A host could otherwise make a group of its own of each commit, and none would ever be let go.
    """
    at_s = {(epoch, seq): at_s for epoch, seq, at_s in arrivals.seen}
    return [
        replace(record, host="", path=b"", commit=replace(record.commit, at_ns=at_s[id.epoch, id.seq] * 10**9))
        for record in records
        for id in [record.commit.id]
    ]


async def read_arrivals(repo: Repository, listing: Listing) -> Arrivals:
    """What was last written; nothing when nothing was. Raises Corrupt, StoreError."""
    numbers = _numbers(listing)
    if numbers:
        with contextlib.suppress(NotStored):  # somebody else's look came between
            return await repo.get_record(_key(max(numbers)), Arrivals)
    return Arrivals()


async def write_arrivals(repo: Repository, listing: Listing, arrivals: Arrivals) -> None:
    """Put `arrivals` in the place of those of `listing`. Raises AlreadyStored when somebody else did so meanwhile."""
    numbers = _numbers(listing)
    await repo.put_record(_key(max(numbers, default=0) + 1), arrivals)
    for number in numbers:
        await repo.store.delete(_key(number))


def is_arrivals(key: str) -> bool:
    """Whether that is where arrivals lie."""
    return key.startswith(_PREFIX) and key.removeprefix(_PREFIX).isdigit()


def _numbers(listing: Listing) -> list[int]:
    return [int(key.removeprefix(_PREFIX)) for key in listing.others if is_arrivals(key)]


def _key(number: int) -> str:
    return f"{_PREFIX}{number:0{_DIGITS}d}"
