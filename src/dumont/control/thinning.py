"""Thinning: which commits of a workspace stay in the store, and which are let go. Pure.

The rules are those of `dumont snapshot forget` (`repository/upkeep/retention.py`). Above them stands what a machine may
have to be restored from: that is never let go, whatever a policy says.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from dumont.model.commit import CommitId
from dumont.model.policy import Retention
from dumont.model.workspace import State
from dumont.repository.record import CommitRecord
from dumont.repository.upkeep.retention import Policy, decide

RESTING = frozenset({State.RUNNING, State.DEGRADED})
"""Only a workspace whose primary serves is thinned: whoever restores reads by what was indexed when it began."""


@dataclass(frozen=True)
class Anchors:
    """What may be restored. `stored` is the newest commit that the database knows to be stored: it and all after it
    stay, for the database may come to know of any of them. `relied` are commits that something else was made from.
    """

    stored: CommitId | None
    relied: frozenset[CommitId] = frozenset()


@dataclass(frozen=True)
class Thinning:
    """Commits, each list oldest first. `why` says why none may be let go, in words; "" when that isn't so."""

    kept: list[CommitRecord]
    forgotten: list[CommitRecord]
    why: str = ""


def thin(records: Iterable[CommitRecord], retention: Retention, anchors: Anchors, now_s: int) -> Thinning:
    """What becomes of a workspace's `records`, whose times are their arrivals. `now_s`: Unix time."""
    ordered = sorted(records, key=lambda record: record.commit.id)
    if why := _obstacle(ordered, retention, anchors):
        return Thinning(ordered, [], why)
    policy = Policy(retention.last, retention.hourly, retention.daily, retention.weekly)
    let_go = {record.commit.id for record in decide(ordered, policy, now_s).forgotten if not _is_held(record, anchors)}
    kept = [record for record in ordered if record.commit.id not in let_go]
    return Thinning(kept, [record for record in ordered if record.commit.id in let_go])


@dataclass(frozen=True)
class Forecast:
    """What other rules would make of a workspace's commits, each list oldest first.

    `taken`: those of `let_go` that would stay by the rules that hold now. `takes`: whether there are any, or whether
    there may be, since nothing can go yet (`why`) and the other rules keep less.
    """

    kept: list[CommitRecord]
    let_go: list[CommitRecord]
    taken: list[CommitRecord]
    takes: bool
    why: str = ""


def forecast(
    records: Iterable[CommitRecord], present: Retention, wished: Retention, anchors: Anchors, now_s: int
) -> Forecast:
    """What the rules `wished` make of a workspace's `records`, beside those that hold now. As `thin`."""
    known = list(records)
    after = thin(known, wished, anchors, now_s)
    stays = {record.commit.id for record in thin(known, present, anchors, now_s).kept}
    taken = [record for record in after.forgotten if record.commit.id in stays]
    takes = bool(taken) or (bool(after.why) and keeps_less(wished, present))
    return Forecast(after.kept, after.forgotten, taken, takes, "" if wished.keeps_all else after.why)


def keeps_less(one: Retention, other: Retention) -> bool:
    """Whether there can be commits that `one` lets go and `other` keeps."""
    if one.keeps_all or other.keeps_all:
        return other.keeps_all and not one.keeps_all
    pairs = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return any(fewer < more for fewer, more in pairs)


def _obstacle(ordered: list[CommitRecord], retention: Retention, anchors: Anchors) -> str:
    if retention.keeps_all:
        return "its policy keeps all commits"
    if anchors.stored is None:
        return "no primary has said yet what it stored"
    if all(record.commit.id != anchors.stored for record in ordered):
        return f"commit {anchors.stored}, of which the database knows, is not in the store"
    return ""


def _is_held(record: CommitRecord, anchors: Anchors) -> bool:
    id = record.commit.id
    return id in anchors.relied or (anchors.stored is not None and id >= anchors.stored)
