"""The arithmetic of a choice, line by line: each amount with its unit, formula and source."""

from typing import Any

from dumont.advisor.advice import Advice
from dumont.advisor.candidate import SETUP_H, Candidate, Factor
from dumont.advisor.estimate.part import Part

Line = dict[str, Any]


def explained(one: Candidate, advice: Advice) -> list[Line]:
    """Memory, speed, time and cost of one choice. The lines of a section sum up to its last line where they can."""
    return [*_memory(one), *_speed(one), *_hours(one, advice), *_cost(one)]


def _line(section: str, what: str, measure: tuple[float | None, str], formula: str = "", source: str = "") -> Line:
    amount, unit = measure
    shown = None if amount is None else float(f"{amount:.6g}")
    return {"section": section, "what": what, "amount": shown, "unit": unit, "formula": formula, "source": source}


def _parts(section: str, parts: tuple[Part, ...], unit: str) -> list[Line]:
    return [_line(section, part.name, (part.amount, unit), part.formula, part.source) for part in parts]


def _memory(one: Candidate) -> list[Line]:
    memory = one.memory
    if memory is None:
        return []
    return [
        *_parts("memory", memory.parts, "GB"),
        _line(
            "memory",
            "sum",
            (memory.point / (one.factor.applied if one.factor else 1.0), "GB"),
            "as the allocator reserves it",
        ),
        *_recorded(one.factor),
        _line("memory", "seen on the card", (memory.device_point, "GB"), "with what the driver takes"),
        _line("memory", "at worst", (memory.device_high, "GB"), "the interval's upper end, of what was not stated"),
        _line("memory", "card", (one.card_gb, "GB"), "what a process can take of it", "gpus.csv"),
    ]


def _recorded(factor: Factor | None) -> list[Line]:
    """What recorded runs did to the lines below."""
    if factor is None:
        return []
    runs, source = f"of {factor.runs} recorded runs", "dumont advise --calibration"
    said = f"median share {runs}: {factor.measured:.3g}, and never below 1"
    return [
        _line("memory", "recorded runs", (factor.applied, "×"), said, source),
        _line("memory", "the worst of them", (factor.worst, "×"), f"{runs}; the worst case is no less", source),
    ]


def _speed(one: Candidate) -> list[Line]:
    speed = one.verdict.speed if one.verdict else None
    if speed is None or one.job is None:
        return []
    return [
        *_parts("speed", speed.parts, "s"),
        _line("speed", "of one GPU" if speed.per_gpu else "of one replica", (speed.value, speed.unit)),
        _line("speed", "low", (speed.low, speed.unit), "the interval's slow end"),
        _line("speed", "high", (speed.high, speed.unit), "the interval's fast end"),
    ]


def _hours(one: Candidate, advice: Advice) -> list[Line]:
    errand = advice.errand
    if one.hours is None or errand is None:
        return []
    if errand.held_h is not None:
        return [_line("time", "held", (errand.held_h, "h"), "as stated or assumed")]
    lines = []
    if errand.amount is not None and one.verdict is not None and one.verdict.speed is not None:
        lines.append(_line("time", "amount of work", (errand.amount, one.verdict.speed.unit.split("/")[0])))
    if errand.frames is not None:
        lines.append(_line("time", "frames", (errand.frames.count, "frames"), f"{errand.frames.frame_s} s each"))
    interrupted = one.hours.point - (one.work_h or 0.0)
    stake = advice.market.beliefs.stake
    return [
        *lines,
        _line("time", "work", ((one.work_h or 0.0) - SETUP_H, "h"), "amount / speed"),
        _line("time", "setting up", (SETUP_H, "h"), "assumed"),
        _line(
            "time", "interruptions", (interrupted, "h"), f"{one.priced.hazard.per_hour:.4g}/h × {stake.restore_s:g} s"
        ),
        _line("time", "sum", (one.hours.point, "h")),
    ]


def _cost(one: Candidate) -> list[Line]:
    lines = [_line("cost", part.value, (micros / 1e6, "US$/h")) for part, micros in one.priced.parts if micros]
    lines.append(_line("cost", "expected cost", (one.priced.micros_per_hour / 1e6, "US$/h"), "sum of the parts"))
    if one.cost_micros is not None:
        lines.append(
            _line("cost", "total", (one.cost_micros / 1e6, "US$"), f"{one.work_h:.4g} h × expected cost an hour")
        )
    return lines
