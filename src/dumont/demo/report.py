"""The report of a demo: what each round measured, what all of them promise together, for people and for programs."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from dumont.i18n import _

KILLED = "killed"
CUT_OFF = "cut_off"
KINDS = (KILLED, CUT_OFF)
PLANNED = "planned"
FIRST_BYTE_MS_MAX = 5_000
"""The promise: the same address answers within 5 s (design §7)."""

AIM_MS = {KILLED: 1_000, CUT_OFF: 3_000}
"""The aim for the median of each kind (design §7)."""


@dataclass(kw_only=True)
class Round:
    """One fault and what followed. Milliseconds run from the fault; None was not observed.

    `checks` holds what a cut-off primary had to do, by name. `notes` says in words what went wrong.
    """

    number: int
    kind: str
    direction: str = ""
    old_id: str = ""
    new_id: str = ""
    detected_ms: int | None = None
    promoted_ms: int | None = None
    first_byte_ms: int | None = None
    acked_commits: int = 0
    acked_bytes: int = 0
    acked_lost: int = 0
    at_risk_bytes: int | None = None
    tree_equal: bool = False
    step_acked: int = 0
    step_resumed: int = 0
    loss_resumed: float | None = None
    training_resumed: bool = False
    rented_ms: int | None = None
    caught_up_ms: int | None = None
    switchover_ms: int | None = None
    pause_ms: int | None = None
    finished: bool = True
    checks: dict[str, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything promised held in this round. A planned one promises as much, and has no fault to judge."""
        if self.kind == PLANNED:
            seen = self.pause_ms is not None and self.pause_ms <= FIRST_BYTE_MS_MAX
            return self.finished and seen and self.acked_lost == 0
        in_time = self.first_byte_ms is not None and self.first_byte_ms <= FIRST_BYTE_MS_MAX
        whole = self.acked_lost == 0 and self.tree_equal and self.training_resumed
        return self.finished and in_time and whole and all(self.checks.values())


@dataclass(frozen=True)
class Report:
    """All rounds. `asked` is how many were wanted; `rates` what the workload wrote a second, by kind."""

    rounds: tuple[Round, ...]
    asked: int
    rates: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return len(self.rounds) == self.asked > 0 and all(round_.ok for round_ in self.rounds)

    @property
    def pauses(self) -> list[int]:
        """The address's pause in each planned round that was seen, in milliseconds."""
        return [r.pause_ms for r in self.rounds if r.kind == PLANNED and r.pause_ms is not None]

    @property
    def acked_lost(self) -> int:
        return sum(round_.acked_lost for round_ in self.rounds)

    @property
    def training_resumed(self) -> bool:
        return bool(self.rounds) and all(round_.training_resumed for round_ in self.rounds)

    def first_bytes(self, kind: str) -> list[int]:
        """The first bytes of all rounds of a kind that had one, in milliseconds."""
        return [r.first_byte_ms for r in self.rounds if r.kind == kind and r.first_byte_ms is not None]


_PUBLIC = (
    "kind",
    "detected_ms",
    "promoted_ms",
    "first_byte_ms",
    "acked_commits",
    "acked_lost",
    "at_risk_bytes",
    "tree_equal",
    "switchover_ms",
)


def as_json(report: Report) -> dict[str, Any]:
    """The object that `dumont demo --json` prints; its names are stable. Planned rounds tell `pause_ms` instead."""
    told = {
        "rounds": [_public(round_) for round_ in report.rounds],
        "by_kind": {kind: _spread(report.first_bytes(kind)) for kind in KINDS},
        "acked_lost": report.acked_lost,
        "training_resumed": report.training_resumed,
        "ok": report.ok,
    }
    is_planned = any(round_.kind == PLANNED for round_ in report.rounds)
    return told | ({"pause_ms": pauses(report.pauses)} if is_planned else {})


def _public(round_: Round) -> dict[str, Any]:
    names = ("kind", "acked_commits", "acked_lost", "pause_ms") if round_.kind == PLANNED else _PUBLIC
    return {name: getattr(round_, name) for name in names}


def _spread(values: list[int]) -> dict[str, int | None]:
    p50 = round(statistics.median(values)) if values else None
    return {"first_byte_ms_p50": p50, "first_byte_ms_max": max(values, default=None)}


def pauses(values: list[int]) -> dict[str, int | None]:
    """Count and percentiles of measured pauses, in milliseconds: each is one that was measured (nearest rank)."""
    ranked = sorted(values)
    ranks = {p: ranked[max(math.ceil(p / 100 * len(ranked)), 1) - 1] for p in (50, 90, 99)} if ranked else {}
    told: dict[str, int | None] = {"rounds": len(ranked), "min": min(ranked, default=None)}
    return told | {f"p{p}": ranks.get(p) for p in (50, 90, 99)} | {"max": max(ranked, default=None)}


def print_round(console: Console, round_: Round) -> None:
    """One round's timeline, as it ended."""
    title = kind_name(round_.kind) + (f" ({direction_name(round_.direction)})" if round_.direction else "")
    table = Table(title=f"{round_.number}. {title}", title_justify="left", show_header=False, box=None, padding=(0, 2))
    for name, value in _lines(round_):
        table.add_row(name, value)
    console.print(table)
    for note in round_.notes:
        console.print(f"  {note}", style="yellow", highlight=False, markup=False)


def _lines(round_: Round) -> Iterable[tuple[str, str]]:
    if round_.kind == PLANNED:
        yield _("who went, who answers"), f"{round_.old_id} → {round_.new_id or '?'}"
        yield _("the address's pause"), milliseconds(round_.pause_ms)
        yield _("acknowledged and lost"), str(round_.acked_lost)
        return
    yield _("who died, who answers"), f"{round_.old_id} → {round_.new_id or '?'}"
    yield _("detected after"), milliseconds(round_.detected_ms)
    yield _("promoted after"), milliseconds(round_.promoted_ms)
    yield _("first byte after"), milliseconds(round_.first_byte_ms)
    yield (
        _("acknowledged before"),
        _("{commits} commits, {bytes}").format(commits=round_.acked_commits, bytes=size(round_.acked_bytes)),
    )
    yield _("acknowledged and lost"), str(round_.acked_lost)
    yield _("at risk at that instant"), size(round_.at_risk_bytes)
    yield _("tree equal to its commit"), yes(round_.tree_equal)
    yield (
        _("training"),
        _("acknowledged step {acked}, went on from step {resumed}: {yes}").format(
            acked=round_.step_acked, resumed=round_.step_resumed, yes=yes(round_.training_resumed)
        ),
    )
    for name, held in round_.checks.items():
        yield check_name(name), yes(held)
    if round_.switchover_ms is not None or round_.rented_ms is not None:
        yield _("new GPU rented after"), milliseconds(round_.rented_ms)
        yield _("caught up after"), milliseconds(round_.caught_up_ms)
        yield _("switchover pause"), milliseconds(round_.switchover_ms)


def print_verdict(console: Console, report: Report) -> None:
    """What all rounds amount to."""
    table = Table(title=_("Verdict"), title_justify="left")
    for heading in (_("kind"), _("rounds"), _("first byte, median"), _("slowest"), _("promised"), _("aim (median)")):
        table.add_column(heading)
    for kind in KINDS:
        values = report.first_bytes(kind)
        count = sum(1 for round_ in report.rounds if round_.kind == kind)
        if count:
            spread = _spread(values)
            table.add_row(
                kind_name(kind),
                str(count),
                milliseconds(spread["first_byte_ms_p50"]),
                milliseconds(spread["first_byte_ms_max"]),
                milliseconds(FIRST_BYTE_MS_MAX),
                milliseconds(AIM_MS[kind]),
            )
    if table.row_count:
        console.print(table)
    if report.pauses:
        told = {name: milliseconds(value) for name, value in pauses(report.pauses).items() if name != "rounds"}
        text = _("the address's pause in planned moves: median {p50}, 90 % {p90}, 99 % {p99}, longest {max}")
        console.print(text.format(**told), highlight=False)
    if report.rates:
        console.print(_("write load, operations a second: {rates}").format(rates=_rates(report.rates)), highlight=False)
    console.print(_("acknowledged and lost, in all rounds: {lost}").format(lost=report.acked_lost), highlight=False)
    if report.ok:
        console.print(_("[bold green]Every promise held.[/bold green]"))
    else:
        console.print(_("[bold red]Not every promise held; see the rounds above.[/bold red]"))


def _rates(rates: dict[str, float]) -> str:
    counted = ", ".join(f"{kind_of_write(kind)} {rate:.0f}" for kind, rate in rates.items() if kind != "bytes")
    return f"{counted} ({size(round(rates.get('bytes', 0)))}/s)"


def kind_name(kind: str) -> str:
    return {KILLED: _("killed"), CUT_OFF: _("cut off"), PLANNED: _("planned")}[kind]


def direction_name(direction: str) -> str:
    return {"both": _("both ways"), "in": _("nothing gets in"), "out": _("nothing gets out")}.get(direction, direction)


def kind_of_write(kind: str) -> str:
    names = {
        "small_files": _("small files"),
        "appends": _("appends"),
        "in_place": _("changes in place"),
        "renames": _("renames"),
        "transactions": _("transactions"),
    }
    return names.get(kind, kind)


def check_name(name: str) -> str:
    names = {
        "no_late_ack": _("nothing acknowledged after its epoch"),
        "frozen_within_lease": _("workload frozen within one lease"),
        "ended": _("workload ended on the higher epoch"),
        "branch_listed": _("divergent files kept as a branch"),
        "branch_readable": _("the branch holds what was written there"),
        "not_merged": _("the branch was not merged over the workspace"),
    }
    return names.get(name, name)


def yes(value: bool) -> str:
    return _("yes") if value else _("NO")


def milliseconds(value: int | None) -> str:
    return _("not seen") if value is None else f"{value:,} ms"


def size(value: int | None) -> str:
    """Bytes for people, in binary units."""
    if value is None:
        return _("unknown")
    amount = float(value)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
