"""The record: how far predictions were from recorded runs, by task and run by run, shown to a person."""

from rich.markup import escape
from rich.table import Table

from dumont.client.advice import Calibration, MemoryFactor, Run
from dumont.counsel.show import console, number
from dumont.i18n import _

RUNS_SHOWN_MAX = 10
MICROS = 1e6


def show_calibration(found: Calibration) -> None:
    """Errors by task, the factors that follow from recorded runs, and what was measured of each of the newest."""
    if not found.runs:
        console.print(_("No graded run yet: launch with `dumont launch NAME --advise TEXT`, and look again after it."))
        return
    if found.tasks:
        console.print(_grades(found))
        console.print(
            _(
                "Median error of what was predicted, and of how many runs; ? was not measured. Factors need {n} runs. "
                "Lower bounds of memory, and engines that take the whole card, count in none."
            ).format(n=found.runs_min)
        )
    for factor in found.factors:
        console.print(escape(_applied(factor)))
    for run in found.runs[-RUNS_SHOWN_MAX:]:
        console.print(f"  [bold]{escape(run.workspace)}[/]  {escape(_run(run))}")


def _grades(found: Calibration) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (_("TASK"), _("RUNS"), _("MEMORY"), _("TIME"), _("COST"), _("FACTOR MEMORY"), _("FACTOR TIME")):
        table.add_column(column)
    for one in found.tasks:
        table.add_row(
            one.task,
            str(one.runs),
            _error(one.memory_error, one.memory_runs),
            _error(one.hours_error, one.hours_runs),
            _error(one.cost_error, one.cost_runs),
            _factor(one.memory_factor),
            _factor(one.hours_factor),
        )
    return table


def _applied(factor: MemoryFactor) -> str:
    said = _(
        "Memory of {job} jobs is counted × {applied}: {n} runs took {measured} of what was estimated, at most {worst}"
    )
    return said.format(
        job=factor.job,
        applied=number(factor.applied, 2),
        n=factor.runs,
        measured=number(factor.measured, 2),
        worst=number(factor.worst, 2),
    )


def _run(run: Run) -> str:
    parts = [run.task, f"{_('memory')} {_gigabytes(run.memory_gb)} → {_peak(run)}"]
    if run.over:
        hours, cost = run.hours_measured, run.cost_micros_measured
        parts += [
            f"{_('time')} {_amount(run.hours)} → {_amount(hours)} h",
            f"{_('cost')} {_dollars(run.cost_micros)} → {_dollars(cost)}",
        ]
    else:
        parts.append(_("still running, not graded yet"))
    return "  ".join(parts)


def _peak(run: Run) -> str:
    if run.memory_gb_measured is None:
        return f"? ({_unknown_word(run.memory_unknown)})"
    scopes = {"processes": _("of its own processes"), "device": _("all in use on the card")}
    about = [run.memory_card, scopes.get(run.memory_scope, run.memory_scope)]
    if run.memory_every_s is not None:
        about.append(_("read every {n} s").format(n=f"{run.memory_every_s:g}"))
    if run.memory_taken:
        about.append(_("the engine takes what the card has"))
    least = "≥ " if run.memory_at_least else ""
    return f"{least}{_gigabytes(run.memory_gb_measured)} ({', '.join(filter(None, about))})"


def _unknown_word(why: str) -> str:
    """Why a peak is unknown, in the reader's language; a word that we don't know as it is."""
    words = {
        "no_driver": _("the machine has no NVIDIA driver; those of a trial on this computer never have one"),
        "no_gpu": _("the driver knows no GPU"),
        "unreadable": _("the driver told nothing"),
        "unused": _("nothing of the workload was seen on a GPU"),
        "not_told": _("the machine told nothing"),
    }
    return words.get(why, why)


def _gigabytes(value: float | None) -> str:
    return "?" if value is None else f"{number(value)} GB"


def _amount(value: float | None) -> str:
    return "?" if value is None else number(value)


def _dollars(micros: int | None) -> str:
    return "?" if micros is None else f"US$ {number(micros / MICROS, 2)}"


def _factor(value: float | None) -> str:
    return "–" if value is None else number(value, 2)


def _error(value: float | None, runs: int) -> str:
    return "?" if value is None else f"{number(value * 100, 0)} % ({runs})"
