"""How the emulated service misbehaves: single faults in a book, and lasting habits.

A fault is taken once for each call that it meets, so a test can say "the next create" or "every second list". Habits
are how the service always is, and may be changed while it runs.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from random import Random
from typing import Any

EVERY = "*"


class Kind(enum.StrEnum):
    """What a fault does. Those of AFTER strike when the call was carried out; the others keep it from being."""

    RATE_TEXT = "rate_text"
    RATE_TEXT_THRESHOLD = "rate_text_threshold"
    RATE_DETAIL = "rate_detail"
    RATE_ENVELOPE = "rate_envelope"
    RATE_BODY = "rate_body"
    QUOTA = "quota"
    HTML_403 = "html_403"
    KEY_404 = "key_404"
    KEY_401 = "key_401"
    STATUS = "status"
    DROPPED = "dropped"
    NO_SUCH_ASK_400 = "no_such_ask_400"
    NO_SUCH_ASK_404 = "no_such_ask_404"
    NO_SUCH_ASK_410 = "no_such_ask_410"
    LOST = "lost"
    LOST_504 = "lost_504"
    HUNG = "hung"
    GARBLED = "garbled"


AFTER = frozenset({Kind.LOST, Kind.LOST_504, Kind.HUNG, Kind.GARBLED})
RATES = frozenset(kind for kind in Kind if kind.startswith("rate_"))


@dataclass(kw_only=True)
class Fault:
    """One entry. `endpoint` is a name of `limits.THRESHOLDS_S`, or `*`. `times` calls meet it; 0: until it is cleared.

    `share` of the calls meet it, from 0 to 1. `retry_after_s` is sent as a header, or in the body of RATE_BODY;
    so long HUNG keeps its caller waiting, in the machine's own time.
    `threshold_s` is named in a text. `status` and `body` are the whole answer of STATUS; `body` is that of GARBLED.
    """

    endpoint: str
    kind: Kind
    times: int = 1
    share: float = 1.0
    retry_after_s: float | None = None
    threshold_s: float = 1.0
    status: int = 500
    body: Any = None
    met: int = 0


@dataclass
class Book:
    """The faults to come, oldest first."""

    rng: Random
    entries: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        self.entries.append(fault)

    def clear(self) -> None:
        self.entries.clear()

    def take(self, endpoint: str, *, after: bool) -> Fault | None:
        """The fault that this call meets, before or after it was carried out; None when it meets none."""
        for fault in self.entries:
            if fault.endpoint not in (endpoint, EVERY) or (fault.kind in AFTER) is not after:
                continue
            if self.rng.random() >= fault.share:
                continue
            fault.met += 1
            if fault.met == fault.times:
                self.entries.remove(fault)
            return fault
        return None


@dataclass(kw_only=True)
class Habits:
    """How the service is. Times in seconds, shares from 0 to 1.

    `boot_s`: from a rented GPU to a running container. `wake_s`: how much of a later start still reads `exited`.
    `stop_grace_s`: SIGTERM to SIGKILL. `listing_lag_s`: how late a new contract is listed. `gone_lag_s`: how long a
    destroyed one still is. `reshuffle`: every search gives new offer ids. `doubled_share`: rows that come twice.
    `sloppy_share`: rows that a numeric filter should have kept out. `limits`: calls above the published rate get a
    429. `stuck_loading`: containers never come up. `queue_s`: how long after room came a queued start fires.
    `queue_reverts`: a queued start is silently forgotten. `shows_404`: a missing instance is a 404 instead of null.
    `log_polls`: how often a log's address answers 404 first. `leaves_contract`: a bid that is too low leaves a stopped
    contract even when `cancel_unavail` was asked for. `races`: a new contract comes up stopped and needs one start.
    """

    boot_s: float = 0.0
    wake_s: float = 0.0
    stop_grace_s: float = 10.0
    listing_lag_s: float = 0.0
    gone_lag_s: float = 0.0
    reshuffle: bool = True
    doubled_share: float = 0.0
    sloppy_share: float = 0.0
    limits: bool = False
    stuck_loading: bool = False
    loading_text: str = "4f4fb700ef54: Pull complete"
    queue_s: float = 0.0
    queue_reverts: bool = False
    shows_404: bool = False
    log_polls: int = 1
    leaves_contract: bool = False
    races: bool = False

    def change(self, values: Mapping[str, Any]) -> None:
        """Set some. Raises ValueError for an unknown one or a value of another type."""
        kinds = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        for name, value in values.items():
            kind = kinds.get(name)
            if kind is None:
                raise ValueError(f"there is no habit {name!r}; there are {', '.join(sorted(kinds))}")
            right = isinstance(value, int | float) and not isinstance(value, bool) if kind is float else False
            if not (right or type(value) is kind):
                raise ValueError(f"{name} takes a {kind.__name__}, not {value!r}")
        for name, value in values.items():
            setattr(self, name, value)
