"""Retention: which commits a policy keeps, and why. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from dumont.errors import BadInput
from dumont.repository.record import CommitRecord

Group = tuple[str, bytes]
"""Commits of one host and path, which a policy looks at together."""


@dataclass(frozen=True)
class Policy:
    """Keep the `last` commits of each group, the newest of each of the last `hourly` hours that have one, and so on.

    Hours, days, ISO weeks, months and years are those of UTC. `within_s`: keep what is no older than that. `tags`: keep
    what has one of them. Named commits are always kept, and the newest of each group unless `even_last`.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within_s: int = 0
    tags: frozenset[str] = frozenset()
    even_last: bool = False


@dataclass(frozen=True)
class Kept:
    """A commit that stays, and the rules that keep it, in words of the policy."""

    record: CommitRecord
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """What a policy makes of commits, each list oldest first."""

    kept: list[Kept]
    forgotten: list[CommitRecord]


_PERIODS: tuple[tuple[str, Callable[[datetime], tuple[int, ...]]], ...] = (
    ("hourly", lambda at: (at.year, at.month, at.day, at.hour)),
    ("daily", lambda at: (at.year, at.month, at.day)),
    ("weekly", lambda at: tuple(at.isocalendar()[:2])),
    ("monthly", lambda at: (at.year, at.month)),
    ("yearly", lambda at: (at.year,)),
)


def decide(commits: Iterable[CommitRecord], policy: Policy, now_s: int) -> Decision:
    """Which of `commits` stay. `now_s`: Unix time. Raises BadInput for a policy that keeps nothing or less."""
    counts = [policy.last, policy.within_s, *(getattr(policy, name) for name, _ in _PERIODS)]
    if min(counts) < 0:
        raise BadInput("a policy keeps a number of commits, which is not negative")
    if not any(counts) and not policy.tags:
        raise BadInput("say what to keep, as --keep-last 3 or --keep-daily 7; without that nothing is forgotten")
    groups: dict[Group, list[CommitRecord]] = defaultdict(list)
    for record in commits:
        groups[group_of(record)].append(record)
    decision = Decision([], [])
    for records in groups.values():
        records.sort(key=newest_first)
        for record, reasons in zip(records, _reasons(records, policy, now_s), strict=True):
            if reasons:
                decision.kept.append(Kept(record, tuple(reasons)))
            else:
                decision.forgotten.append(record)
    decision.kept.sort(key=lambda kept: kept.record.commit.id)
    decision.forgotten.sort(key=lambda record: record.commit.id)
    return decision


def group_of(record: CommitRecord) -> Group:
    """The group in which a policy looks at a commit."""
    return record.host, record.path


def newest_first(record: CommitRecord) -> tuple[int, int, int]:
    """Sorts commits by time; by id where times are equal."""
    id = record.commit.id
    return -record.commit.at_ns, -id.epoch, -id.seq


def _reasons(records: list[CommitRecord], policy: Policy, now_s: int) -> list[list[str]]:
    """Why each of a group's commits, newest first, stays."""
    reasons: list[list[str]] = [[] for _ in records]
    for number, record in enumerate(records):
        if number == 0 and not policy.even_last:
            reasons[number].append("newest")
        if record.name:
            reasons[number].append("named")
        if number < policy.last:
            reasons[number].append("last")
        if policy.within_s and record.commit.at_ns >= (now_s - policy.within_s) * 10**9:
            reasons[number].append("within")
        reasons[number] += [f"tag {tag}" for tag in sorted(policy.tags.intersection(record.tags))]
    for name, period in _PERIODS:
        left: int = getattr(policy, name)
        before = None
        for number, record in enumerate(records):
            at = period(datetime.fromtimestamp(record.commit.at_ns // 10**9, UTC))
            if at != before and left:
                reasons[number].append(name)
                left -= 1
            before = at
    return reasons
