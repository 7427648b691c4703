"""The state of a machine, from the four fields in which Vast.ai tells it (contract, state machine).

`intended_status` is what the user or an eviction wants, `cur_state` and `next_state` what the contract is and becomes,
`actual_status` what the host last reported of the container. No field tells why a machine stopped: `reason` derives
it from the market and the account, and says UNTOLD where they leave it open.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dumont.provider.base import Phase, Why
from dumont.provider.vast.offers import Row, Unreadable, micros

BOOTING = frozenset({None, "created", "loading", "rebooting", "recycling"})
ENDED = frozenset({None, "created", "loading", "exited", "stopped"})
SILENT = frozenset({"offline", "unknown"})
FATAL = ("oci runtime", "manifest unknown", "pull access denied", "unauthorized", "error", "failed", "no space left")
"""What the text of a container that does not come up says; the last of them also by Vast.ai's own self-test."""


@dataclass(frozen=True)
class State:
    """What the four fields say by themselves. `queued`: it is stopped and starts, and bills, when there is room."""

    phase: Phase
    why: Why = Why.UNTOLD
    queued: bool = False


def state_of(content: Mapping[str, Any], *, waking: bool) -> State:
    """The phase of one machine. `waking`: it was created or started minutes ago, so that `exited` is not its end."""
    actual, wanted = content.get("actual_status"), content.get("intended_status")
    current, following = content.get("cur_state"), content.get("next_state")
    if actual in SILENT:
        return State(Phase.UNKNOWN, Why.OFFLINE)
    if is_ending(content):
        return State(Phase.STOPPED, Why.ASKED)
    text = str(content.get("status_msg") or "").lower()
    if current == "stopped" and actual in ENDED:
        failed = actual in ("created", "loading") and any(mark in text for mark in FATAL)
        return State(Phase.STOPPED, Why.FAILED if failed else Why.UNTOLD, queued=following == "running")
    if current == "running" and wanted == "running":
        if actual == "running":
            return State(Phase.RUNNING)
        if actual in BOOTING:
            failed = actual is not None and any(mark in text for mark in FATAL)
            return State(Phase.STARTING, Why.FAILED if failed else Why.UNTOLD)
        if actual in ("exited", "stopped"):
            return State(Phase.STARTING if waking else Phase.STOPPED)
    return State(Phase.UNKNOWN)


def is_ending(row: Mapping[str, Any]) -> bool:
    """Whether a contract is being destroyed and only still listed."""
    return row.get("cur_state") == "unloaded" or row.get("next_state") == "unloaded"


def came_up_stopped(row: Mapping[str, Any]) -> bool:
    """Whether a contract that was just created needs one start: a race of the service (contract, create race)."""
    return row.get("cur_state") == "stopped" and row.get("actual_status") in (None, "loading")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the market and the account say beside a stopped machine.

    `credit_micros` may be None: not told. `rows` are the bid rows of a search for the machines in question; None: the
    search did not answer.
    """

    credit_micros: int | None
    rows: tuple[Row, ...] | None
    now: datetime


def reason(content: Mapping[str, Any], evidence: Evidence, bid: int | None = None) -> tuple[Why, str]:
    """Why a machine that nobody asked to stop is stopped, and by what that was told.

    `bid`: what it bids in micro-units, where we know; else its record is asked.

    An interruptible machine was outbid when its host has no slice left of its size for what it bids; where the host
    has one, its host or somebody at the console stopped it, and a plain start may bring it back.
    """
    if evidence.credit_micros is not None and evidence.credit_micros <= 0:
        return Why.NO_CREDIT, "the account's credit is used up"
    row = Row(dict(content))
    try:
        ends_at, machine, gpus = row.number("end_date"), row.machine_id, row.gpus
        listed = row.number("dph_base")
    except Unreadable as error:
        return Why.UNTOLD, f"its record can't be read: {error}"
    if ends_at is not None and float(ends_at) <= evidence.now.timestamp():
        return Why.PREEMPTED, "its host's offer has ended"
    if evidence.rows is None:
        return Why.UNTOLD, "the market did not answer"
    if bid is None and listed is not None:
        bid = micros(listed)
    if content.get("is_bid") is not True or bid is None:
        return Why.UNTOLD, "it is on demand and was stopped by its host or at the console"
    floors = _floors(evidence.rows, machine, gpus)
    if not floors:
        return Why.OUTBID, "no slice of its size is left on its host"
    if min(floors) > bid:
        return Why.OUTBID, f"its host now takes {min(floors)} micro-dollars an hour, and it bids {bid}"
    return Why.UNTOLD, "its bid would win: its host or somebody at the console stopped it"


def _floors(rows: Iterable[Row], machine: int, gpus: int) -> list[int]:
    """The bids that win a slice of so many GPUs on that machine. A slice that we hold shows our own bid: no floor."""
    floors = []
    for row in rows:
        if row.machine_id == machine and row.gpus == gpus and row.content.get("rented") is not True:
            min_bid = row.number("min_bid")
            if min_bid is not None:
                floors.append(micros(min_bid))
    return floors
