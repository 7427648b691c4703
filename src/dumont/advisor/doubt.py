"""Doubt: which unknown fields of a workload would lead to another machine if they were answered at an extreme."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dumont.advisor.question import QUESTIONS_MAX, questions
from dumont.advisor.workload import Workload, valid_part

Decision = object
_SIZES: tuple[dict[str, Any], ...] = ({"params_b": 1.0}, {"params_b": 70.0})
EXTREMES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "params_b": _SIZES,
    "model": _SIZES,
    "method": ({"task": "llm-qlora", "method": "qlora"}, {"task": "llm-full-ft", "method": "full"}),
    "optimizer": ({"optimizer": "adamw_8bit"}, {"optimizer": "adamw"}),
    "seq_len": ({"seq_len": 512}, {"seq_len": 8192}),
    "context_len": ({"context_len": 2048}, {"context_len": 32_768}),
    "epochs": ({"epochs": 1.0}, {"epochs": 10.0}),
    "batch": ({"batch": 1}, {"batch": 64}),
    "quant": ({"quant": "int4"}, {"precision": "bf16"}),
    "avg_prompt_tokens": ({"avg_prompt_tokens": 128}, {"avg_prompt_tokens": 8192}),
    "n_users": ({"n_users": 1}, {"n_users": 100}),
    "concurrency": ({"concurrency": 1}, {"concurrency": 50}),
    "duration_h": ({"duration_h": 1.0}, {"duration_h": 200.0}),
    "hours_per_day": ({"hours_per_day": 2.0}, {"hours_per_day": 24.0}),
    "resolution": ({"resolution": "512x512"}, {"resolution": "1920x1080"}),
    "frames": ({"frames": 24}, {"frames": 5000}),
    "steps": ({"steps": 20}, {"steps": 50}),
    "audio_hours": ({"audio_hours": 1.0}, {"audio_hours": 5000.0}),
    "reference": (
        {"reference": {"minutes_per_frame": 0.5, "gpu": "RTX 3090"}},
        {"reference": {"minutes_per_frame": 60.0, "gpu": "RTX 3090"}},
    ),
}
"""Plausible answers at both ends. A field that is not here leads to no other machine (a language, a latency)."""
_COUNTED = {"cv": "images", "diffusion": "images", "nlp": "documents", "embedding": "documents"}


def doubts(workload: Workload, decide: Callable[[Workload], Decision], tight: Mapping[str, bool]) -> frozenset[str]:
    """The fields that are worth asking for, at most as many as are asked.

    `decide` is the recommendation for a workload. `tight` says for budget and deadline whether the strictest one that
    can be kept leads to another machine than none at all: the ranking knows that without another look.
    """
    now = decide(workload)
    found: set[str] = set()
    for name in _open_fields(workload):
        if name in tight:
            changes = tight[name]
        elif name == "task":
            changes = True
        else:
            changes = any(decide(other) != now for other in _answered(workload, name))
        if changes:
            found.add(name)
        if len(found) >= QUESTIONS_MAX:
            break
    return frozenset(found)


def _open_fields(workload: Workload) -> Iterator[str]:
    """The fields that could be asked for, most deciding first."""
    asked: list[str] = []
    while more := questions(workload, _Without(asked)):
        asked += [one.field for one in more]
    yield from asked


class _Without:
    """Every field but those."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return name not in self._names


def _answered(workload: Workload, name: str) -> Iterator[Workload]:
    said = workload.model_dump(exclude_none=True)
    if name == "dataset_size":
        unit = next((unit for start, unit in _COUNTED.items() if workload.task.startswith(start)), "examples")
        for count in (1_000.0, 1_000_000.0):
            yield valid_part({**said, "dataset_size": {"value": count, "unit": unit}})
        return
    for answer in EXTREMES.get(name, ()):
        yield valid_part({**said, **answer})
