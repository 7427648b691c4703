"""Grounding: what a language model read counts only where the text holds it; what is made up becomes unknown."""

import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice, product
from typing import Any

from dumont.advisor.reader.model import mark_models
from dumont.advisor.reader.number import mark_numbers
from dumont.advisor.reader.text import Lang, fold, spelled_out, without_orders
from dumont.advisor.workload import Workload, valid_part

# From what is written to what a field holds, beside the number itself: minutes, days, weeks, months to hours; seconds
# to milliseconds; KiB of context; per minute to per second; "70b" to billions; terabytes; percent.
_HOURS = (1.0, 24.0, 168.0, 720.0, 1 / 60)
_TOKENS = (1.0, 1024.0, 1000.0)
_FACTORS: dict[str, tuple[float, ...]] = {
    "params_b": (1.0, 1e-9, 1e-3), "teacher_params_b": (1.0, 1e-9, 1e-3),
    "seq_len": _TOKENS, "context_len": _TOKENS, "avg_prompt_tokens": _TOKENS, "avg_output_tokens": _TOKENS,
    "audio_hours": _HOURS, "video_hours": _HOURS, "deadline_h": _HOURS, "duration_h": _HOURS,
    "hours_per_day": _HOURS, "hours_per_session": _HOURS, "duration_s": (1.0, 60.0, 3600.0),
    "latency_ms": (1.0, 1000.0), "reliability": (0.01,), "disk_gb": (1.0, 1000.0, 1024.0),
    "throughput": (1.0, 1 / 60, 1 / 3600), "reference": (1.0, 1 / 60, 60.0),
}  # fmt: skip
# Computed from two numbers: "600 interviews of 45 min", "das 14 às 22", "2 min 10 s", "me and two colleagues".
_PAIRED_FIELDS = """
audio_hours video_hours deadline_h duration_h hours_per_day hours_per_session throughput reference n_users
"""
_PAIRED = frozenset(_PAIRED_FIELDS.split())
_WRITTEN_MAX = 200
_PAIRS_MAX = 24  # so many numbers are also tried two by two ("600 interviews of 45 min", "das 14 às 22")
_TOLERANCE = 0.003  # 2 min 10 s is written as 2.17 minutes
_DIGITS = re.compile(r"\d{1,13}(?:[.,]\d{1,6})?")
_ALONE = re.compile(r"\b(?:um|uma|one|a|an|single|so|just|only|me|eu|sozinh\w+|my|mim)\b")
_NAMES = ("model", "gpu_pref", "framework", "optimizer", "quant", "precision", "attention")
_FREE_WORDS = ("deadline_text", "hours_desc", "schedule", "steps_desc", "observed", "region", "timezone", "compliance")
_STEM = re.compile(r"[a-z]{3,}|\d{2,}")
_SAME_IN_OTHER_WORDS = {
    "eu": "europ", "br": "bra", "us": "united", "uk": "united", "oom": "memor", "bf16": "bf", "brt": "brasilia",
}  # fmt: skip


def grounded(read: Workload, text: str, lang: Lang) -> tuple[Workload, tuple[str, ...]]:
    """What of a reading the text supports, and the names of the fields that it does not."""
    folded = without_orders(fold(text))
    seen = _written(folded, lang)
    kept: dict[str, Any] = {}
    dropped: list[str] = []
    for name, value in read.model_dump(exclude_none=True).items():
        supported = _is_supported(name, value, folded, seen)
        kept |= {name: value} if supported else {}
        dropped += [] if supported else [name]
    return valid_part(kept), tuple(dropped)


def _is_supported(name: str, value: Any, folded: str, seen: list[float]) -> bool:
    if isinstance(value, bool) or name in ("task", "priority", "method", "vendor", "os"):
        return True
    if isinstance(value, int | float):
        return _holds(name, seen, float(value)) or (value == 1 and _ALONE.search(folded) is not None)
    if isinstance(value, Mapping):
        numbers = [part for part in value.values() if isinstance(part, int | float) and not isinstance(part, bool)]
        return all(_holds(name, seen, float(number)) for number in numbers)
    if isinstance(value, tuple | list):
        return all(_is_named(str(part), folded) for part in value)
    if name == "model" and any(model.name[:4].lower() == str(value)[:4].lower() for model in mark_models(folded)[1]):
        return True
    if name in _NAMES or name in _FREE_WORDS:
        return _is_named(str(value), folded)
    return all(_holds(name, seen, float(digits.replace(",", "."))) for digits in _DIGITS.findall(str(value)))


def _holds(name: str, seen: list[float], value: float) -> bool:
    factors = _FACTORS.get(name, (1.0,))
    if any(_is_about(value, number * factor) for number in seen for factor in factors):
        return True
    return name in _PAIRED and any(_is_about(value, pair) for pair in _pairs(seen[:_PAIRS_MAX]))


def _is_about(value: float, known: float) -> bool:
    return abs(value - known) <= _TOLERANCE * abs(known)


def _is_named(value: str, folded: str) -> bool:
    """Whether the text has the name's first part of three letters or more, or a number that stands in it."""
    stems = _STEM.findall(fold(value))
    if not stems:
        return fold(value) in folded
    letters = [stem for stem in stems if not stem.isdigit()]
    digits = [stem for stem in stems if stem.isdigit()]
    squeezed = re.sub(r"[^a-z0-9]", "", folded)
    spoken = _SAME_IN_OTHER_WORDS.get(fold(value))
    named = any(stem[:4] in squeezed for stem in letters) or (spoken is not None and spoken in folded)
    return named or (bool(digits) and all(stem in squeezed for stem in digits))


def _written(folded: str, lang: Lang) -> list[float]:
    """Every number of the text, with its suffix and without, and those inside names (`8` of `llama-8b`)."""
    _, numbers = mark_numbers(spelled_out(folded, lang), lang)
    plain = (float(digits.replace(",", ".")) for digits in _DIGITS.findall(folded))
    return list(dict.fromkeys(islice(chain((number.count for number in numbers), plain), _WRITTEN_MAX)))


def _pairs(seen: list[float]) -> Iterator[float]:
    for one, other in product(seen, seen):
        yield from (one * other, one * other / 60, one + other / 60, one + 1)
        if other:
            yield one / other
        if one <= 24 and other <= 24:
            yield from ((one - other) % 24, (one - other) % 12)
