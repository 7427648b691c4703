"""What the driver remembers of machines that Vast.ai does not tell, and how a listed row becomes a Machinery.

It is lost with the process. What was asked for then reads as UNTOLD and an outbid machine is found out again; a
machine that resumed meanwhile reads as RUNNING, and the epoch fence stops it as any other.
"""

from dataclasses import dataclass, field
from decimal import ROUND_CEILING

from dumont.model.offer import HOURS_PER_MONTH
from dumont.provider.base import Machinery, Phase, Why
from dumont.provider.bootstrap import HTTP_PORT, SSH_PORT, STREAM_PORT
from dumont.provider.vast.client import Content
from dumont.provider.vast.offers import Row, Unreadable, micros
from dumont.provider.vast.states import State, is_ending, state_of

WAKING_S = 600.0
"""How long after a start `exited` may still be read (contract: bounded wait, at most ten minutes)."""
UNTOLD_KEPT_S = 60.0
NEW_S = 120.0
"""So long a contract that was created and never listed counts as there: the service lists a new one late."""
PORTS = (SSH_PORT, HTTP_PORT, STREAM_PORT)


@dataclass(frozen=True)
class Verdict:
    """Why a machine is stopped, by what that was told, and when (monotonic seconds)."""

    why: Why
    told_by: str
    at: float


@dataclass
class Record:
    """Our memory, by contract id. `asked`: we stopped it. `woken`: when we created or started it. `bids` in micros.

    `resumed`: why those were stopped that run again unasked. `new`: the rows of those that were created here and were
    not listed yet. `ended`: those whose end was confirmed.
    """

    asked: set[int] = field(default_factory=set)
    woken: dict[int, float] = field(default_factory=dict)
    bids: dict[int, int] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    new: dict[int, Content] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    resumed: dict[int, Why] = field(default_factory=dict)

    def created(self, row: Content, bid: int | None, now: float) -> None:
        number: int = row["id"]
        self.woken[number] = now
        self.new[number] = row
        if bid is not None:
            self.bids[number] = bid

    def unlisted(self, now: float) -> list[Content]:
        """The new contracts that the service does not list yet."""
        self.new = {number: row for number, row in self.new.items() if now - self.woken.get(number, now) < NEW_S}
        return list(self.new.values())

    def state(self, row: Content, now: float) -> State:
        woken_at = self.woken.get(row["id"])
        return state_of(row, waking=woken_at is not None and now - woken_at < WAKING_S)

    def saw(self, row: Content, now: float) -> None:
        """A machine that was found stopped, and runs again though nobody started it."""
        number: int = row["id"]
        if number in self.verdicts and self.state(row, now).phase in (Phase.RUNNING, Phase.STARTING):
            self.resumed[number] = self.verdicts.pop(number).why

    def is_over(self, row: Content) -> bool:
        """Whether a list only still shows what we were told is gone."""
        return row["id"] in self.ended and is_ending(row)

    def needs_verdict(self, row: Content, now: float) -> bool:
        """Whether it is stopped for a reason that was not found out yet, or may have changed."""
        state = self.state(row, now)
        if state.phase is not Phase.STOPPED or state.why is not Why.UNTOLD or row["id"] in self.asked:
            return False
        verdict = self.verdicts.get(row["id"])
        return verdict is None or (verdict.why is Why.UNTOLD and now - verdict.at > UNTOLD_KEPT_S)

    def started(self, number: int, now: float) -> None:
        """We started it, or raised its bid: that it runs is no surprise."""
        self.asked.discard(number)
        self.verdicts.pop(number, None)
        self.resumed.pop(number, None)
        self.woken[number] = now

    def forget(self, number: int) -> None:
        """It is gone. A list that is behind may still show it as ending; that is not news."""
        self.ended.add(number)
        self.asked.discard(number)
        for known in (self.woken, self.bids, self.verdicts, self.new, self.resumed):
            known.pop(number, None)

    def machinery(self, row: Content, label: str, now: float) -> Machinery:
        """A row as the port tells it. A machine that runs again by itself keeps the fact `resumed`."""
        number: int = row["id"]
        state, verdict = self.state(row, now), self.verdicts.get(number)
        facts = _facts(row)
        why = state.why
        if state.phase is Phase.STOPPED and why is Why.UNTOLD:
            if number in self.asked:
                why = Why.ASKED
            elif verdict is not None:
                why = verdict.why
                facts["told by"] = verdict.told_by
        if state.queued:
            facts["queued"] = "it starts, and bills, as soon as there is room"
        if number in self.resumed and state.phase in (Phase.RUNNING, Phase.STARTING):
            facts["resumed"] = self.resumed[number] or "unasked"
        return Machinery(
            ref=str(number),
            label=label,
            phase=state.phase,
            host=_text(row, "public_ipaddr"),
            facts=facts,
            why=why,
            price_micros_per_hour=price_now(row, state),
        )


def price_now(row: Content, state: State) -> int | None:
    """What a machine costs now: its disk always, its GPU unless it boots or is stopped, nothing offline.

    None when its record does not tell. Source: contract, what is billed.
    """
    if state.why is Why.OFFLINE:
        return 0
    try:
        read = Row(row)
        total, storage, size = read.number("dph_total"), read.number("storage_cost"), read.number("disk_space")
    except Unreadable:
        return None
    reserved = row.get("cur_state") == "running" and state.phase is not Phase.STARTING
    if reserved:
        return None if total is None else micros(total, ROUND_CEILING)
    return None if storage is None or size is None else micros(storage * size / HOURS_PER_MONTH, ROUND_CEILING)


def _facts(row: Content) -> dict[str, str]:
    """`port/7022`: where others reach that port, at the machine's host. `machine`: the physical one."""
    facts = {"machine": str(row.get("machine_id") or ""), "status": _text(row, "status_msg")}
    ports = row.get("ports")
    for port in (22, *PORTS):
        outer = _outer(ports.get(f"{port}/tcp")) if isinstance(ports, dict) else ""
        if outer:
            facts[f"port/{port}"] = outer
    return {name: value for name, value in facts.items() if value}


def _outer(bindings: object) -> str:
    """The outer port of `[{"HostIp": "0.0.0.0", "HostPort": "40123"}, …]`; "" when there is none."""
    for binding in bindings if isinstance(bindings, list) else []:
        port = str(binding.get("HostPort", "")) if isinstance(binding, dict) else ""
        if port.isdecimal():
            return port
    return ""


def _text(row: Content, name: str) -> str:
    value = row.get(name)
    return value.strip() if isinstance(value, str) else ""
