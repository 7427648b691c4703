"""Workload lines: one JSON object in, one out, with the columns of the published rows; a bad line is answered, never
fatal.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping

from dumont.advisor.estimate.memory import in_unit, rounded_up_to_card
from dumont.advisor.estimate.part import Memory, Speed
from dumont.advisor.estimate.verdict import Estimator
from dumont.advisor.job import job_from_row
from dumont.errors import BadInput

LINE_BYTES_MAX = 2**20
DIGITS = 6


def answer_lines(lines: Iterable[str], estimator: Estimator | None = None) -> Iterator[str]:
    """An answer, as JSON text, for each line of a JSON-lines file; blank lines are skipped."""
    own = estimator or Estimator()
    for line in lines:
        if line.strip():
            yield json.dumps(answer_line(line, own), ensure_ascii=False)


def answer_line(line: str, estimator: Estimator) -> dict[str, object]:
    """The answer to one line of text: `memory_gb`, `fits`, `speed` and what was assumed, or `error`."""
    if len(line) > LINE_BYTES_MAX:
        return _failed(f"the line is longer than {LINE_BYTES_MAX} characters")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return _failed(f"not JSON: {error}")
    if not isinstance(row, Mapping):
        return _failed("a workload line must be a JSON object with the columns of memory.csv")
    return answer_row(row, estimator)


def answer_row(row: Mapping[str, object], estimator: Estimator) -> dict[str, object]:
    """The answer to one row.

    `memory_gb` is the peak per GPU as `mem_metric` would show it, in `unit` when that is a unit of memory, else in GB
    (1e9); `fits` is null when the GPU or the model is unknown; `speed` is per GPU for trainings and of the whole job
    otherwise.
    """
    try:
        job = job_from_row(row)
    except BadInput as error:
        return _failed(str(error), row)
    verdict = estimator.verdict(job, job.gpu)
    answer: dict[str, object] = {}
    if "id" in row:
        answer["id"] = row["id"]
    if verdict.memory is None and verdict.speed is None:
        return _failed(verdict.why, row)
    answer["memory_gb"] = _gigabytes(verdict.memory, job.mem_metric, job.unit)
    answer["memory_range_gb"] = _range(verdict.memory, job.unit)
    answer["fits"] = verdict.fits
    answer["reason"] = verdict.reason.value
    answer["why"] = verdict.why
    answer["speed"] = _speed(verdict.speed)
    estimate = verdict.memory or verdict.speed
    answer["assumptions"] = {} if estimate is None else {item.field: item.value for item in estimate.assumptions}
    return answer


def _gigabytes(memory: Memory | None, metric: str, unit: str) -> float | None:
    if memory is None:
        return None
    if "minimum" in metric.lower():
        return float(rounded_up_to_card(memory.point))
    return _rounded(in_unit(memory.point, unit))


def _range(memory: Memory | None, unit: str) -> list[float | None] | None:
    return None if memory is None else [_rounded(in_unit(memory.low, unit)), _rounded(in_unit(memory.high, unit))]


def _speed(speed: Speed | None) -> dict[str, object] | None:
    if speed is None or _rounded(speed.value) is None:
        return None
    return {
        "value": _rounded(speed.value),
        "unit": speed.unit,
        "low": _rounded(speed.low),
        "high": _rounded(speed.high),
        "per_gpu": speed.per_gpu,
    }


def _rounded(value: float) -> float | None:
    """Six significant digits; None for what is no finite number, which JSON can't hold."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _failed(message: str, row: Mapping[str, object] | None = None) -> dict[str, object]:
    answer: dict[str, object] = {"memory_gb": None, "fits": None, "speed": None, "error": message}
    return {"id": row["id"], **answer} if row is not None and "id" in row else answer
