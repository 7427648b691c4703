"""History: what happened to one workspace lately, as far as decisions depend on it. Read from its events."""

import statistics
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from dumont.control.view import Failures, Reason
from dumont.model.event import Event
from dumont.model.instance import Machine
from dumont.provider.base import Why

LATELY = timedelta(hours=1)
EVENTS_MAX = 1000
RESTORES_MAX = 9
REFUSED_FOR = timedelta(minutes=10)
FAILED_FOR = timedelta(hours=6)
"""For so long a host is avoided that was taken by somebody else, and one whose machine came to nothing."""
TOLD_FOR = timedelta(minutes=30)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_HOST_FAILED = (Why.FAILED.value, Why.OFFLINE.value)

PROMOTED = "promoted"
SWITCH_BEGAN = "switch_began"
RELEASING = "releasing"
RENT_FAILED = "rent_failed"
NO_OFFER = "no_offer"


class History:
    """Counts over the last hour, and the last time of some events."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._promoted: deque[tuple[datetime, str]] = deque(maxlen=EVENTS_MAX)
        self._failed: dict[Machine, deque[tuple[datetime, bool]]] = {kind: deque(maxlen=EVENTS_MAX) for kind in Machine}
        self._shunned: dict[str, datetime] = {}
        self._no_offer: dict[str, datetime] = {}
        self._switch: Event | None = None
        self._epochs: set[int] = set()
        self._oldest: datetime | None = None
        self.promoted_id = ""
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Take one event in; older than all before or not."""
        self._oldest = min(self._oldest or event.at, event.at)
        if event.kind == PROMOTED:
            self._epochs.add(int(event.facts.get("epoch", 0)))
            self.promoted_id = str(event.facts.get("instance", ""))
            self._promoted.append((event.at, str(event.facts.get("reason", ""))))
        elif event.kind == SWITCH_BEGAN:
            self._switch = event
        elif event.kind in (RENT_FAILED, RELEASING):
            self._note_failure(event)
        elif event.kind == NO_OFFER:
            self._no_offer[str(event.facts.get("machine", ""))] = event.at

    def _note_failure(self, event: Event) -> None:
        refused, host = event.kind == RENT_FAILED, str(event.facts.get("host", ""))
        failed = refused or event.facts.get("failure") is True
        if failed:
            told = event.facts.get("machine")  # older events don't tell
            for kind in [kind for kind in Machine if kind.value == told] or Machine:
                self._failed[kind].append((event.at, not (refused and host)))
        if host and (failed or event.facts.get("why") in _HOST_FAILED):
            until = event.at + (REFUSED_FOR if refused else FAILED_FOR)
            self._shunned[host] = max(until, self._shunned.get(host, until))

    def lacks_promotion(self, epoch: int, at: datetime | None) -> bool:
        """Whether the promotion of that epoch is missing: a server was killed between doing it and writing it down.

        `at` is when it was. What is older than the events that were read is not missed.
        """
        known = at is not None and self._oldest is not None and self._oldest <= at
        return known and epoch not in self._epochs

    def promotions(self, reason: Reason, now: datetime) -> int:
        """How many promotions of the last hour had this reason."""
        return sum(1 for at, why in self._promoted if why == reason and now - at <= LATELY)

    @property
    def last_switchover_at(self) -> datetime | None:
        """When a switchover last ended in a promotion."""
        return max((at for at, why in self._promoted if why == Reason.SWITCHOVER), default=None)

    def switch_began_at(self, to: str, epoch: int) -> datetime | None:
        """When the switchover of that epoch, to that instance, began; None when nobody wrote it down."""
        switch = self._switch
        if switch is None or (switch.facts.get("to"), switch.facts.get("epoch")) != (to, epoch):
            return None
        return switch.at

    def failures(self, machine: Machine, now: datetime) -> Failures:
        """Rents refused, and machines that were of no use, in the last hour.

        Who is refused by a host that is then avoided need not wait ever longer: the next try is another host's.
        """
        lately = [(at, counts) for at, counts in self._failed[machine] if now - at <= LATELY]
        return Failures(sum(counts for _, counts in lately), max((at for at, _ in lately), default=None))

    def told_of_no_offer(self, now: datetime) -> frozenset[Machine]:
        """Kinds of which the timeline says lately that nobody offers one; it need not say so again."""
        return frozenset(kind for kind in Machine if now - self._no_offer.get(kind.value, _NEVER) < TOLD_FOR)

    def shunned(self, now: datetime) -> dict[str, float]:
        """Hosts that failed this workspace, and until when they are avoided, in hours since 1970."""
        return {host: until.timestamp() / 3600 for host, until in self._shunned.items() if until > now}

    @property
    def restore_s(self) -> float | None:
        """The median time from a failover to the switchover after it: how long a lost GPU was missed lately."""
        took, lost = [], None
        for at, why in self._promoted:
            if why == Reason.FAILOVER:
                lost = lost or at
            elif why == Reason.SWITCHOVER and lost is not None:
                took.append((at - lost).total_seconds())
                lost = None
        return statistics.median(took[-RESTORES_MAX:]) if took else None
