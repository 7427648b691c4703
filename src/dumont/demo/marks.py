"""Marks: when, by the server's own events, a fault was noticed, answered by a promotion, and made good again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from dumont.client.results import Happened


@dataclass(frozen=True)
class Mark:
    """An event, and how long after the fault it was, in milliseconds."""

    event: Happened
    after_ms: int


def instant(event: Happened) -> float:
    """When an event was, in seconds since 1970."""
    return datetime.fromisoformat(event.at).timestamp()


def after(events: Iterable[Happened], fault_at: float) -> list[Mark]:
    """The events since the fault (seconds since 1970), oldest first."""
    since = [event for event in events if instant(event) >= fault_at]
    return [Mark(event, round((instant(event) - fault_at) * 1000)) for event in sorted(since, key=instant)]


def landed(marks: Sequence[Mark], kind: str) -> Mark | None:
    """The event that a new primary serves, after a `failover` or a `switchover`; it holds the measured times."""
    return next((mark for mark in marks if mark.event.kind == kind), None)


def detected_ms(marks: Sequence[Mark], fault_at: float) -> int | None:
    """How long after the fault the server began to act on it: the failover's own `detected_at`, else when it fenced."""
    failover = landed(marks, "failover")
    told = failover.event.facts.get("detected_at") if failover else None
    if told:
        return round((datetime.fromisoformat(str(told)).timestamp() - fault_at) * 1000)
    fenced = landed(marks, "fenced")
    return fenced.after_ms if fenced else None


def promoted(marks: Sequence[Mark], *, reason: str) -> Mark | None:
    """The first promotion written down for that reason (`failover`, `switchover`)."""
    return next((m for m in marks if m.event.kind == "promoted" and m.event.facts.get("reason") == reason), None)


def rented_gpu(marks: Sequence[Mark]) -> Mark | None:
    """The first GPU rented."""
    return next((m for m in marks if m.event.kind == "rented" and m.event.facts.get("machine") == "gpu"), None)


def joined(marks: Sequence[Mark]) -> Mark | None:
    """The first standby that had caught up and joined the ack set."""
    return next((m for m in marks if m.event.kind == "ack_set" and m.event.facts.get("members")), None)


def branch_of(marks: Sequence[Mark], instance_id: str) -> str:
    """The branch under which a fenced instance's divergent files are kept; "" when it was not fenced."""
    fenced = (m.event.facts for m in marks if m.event.kind == "fenced")
    return next((str(facts.get("branch", "")) for facts in fenced if facts.get("instance") == instance_id), "")
