"""Grades: what was predicted against what was measured; what nobody measured counts for nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from dumont.advisor.grade import RUNS_MIN, Run, factors_of, grades, held, run_of
from dumont.model.instance import Instance, InstanceState, Machine

AT = datetime(2026, 11, 24, tzinfo=UTC)


def instance(hours: float | None, *, price: int = 1_000_000, machine: Machine = Machine.GPU) -> Instance:
    return Instance(
        id=f"i-{hours}-{price}",
        workspace="tune",
        machine=machine,
        provider="vast",
        state=InstanceState.GONE if hours is not None else InstanceState.RENTED,
        price_micros_per_hour=price,
        created_at=AT,
        provider_ref="7",
        gone_at=None if hours is None else AT + timedelta(hours=hours),
    )


def run(memory: float | None, *, job: str = "lora", over: bool = True) -> Run:
    return Run(
        workspace="tune", task="llm-lora", job=job, gpu="RTX 4090", over=over, memory_gb=20.0, memory_gb_measured=memory
    )


def test_a_run_is_measured_by_its_machines() -> None:
    """Hours and cost follow from the records of what was rented; the standby is not what was predicted."""
    advised = {"task": "llm-lora", "job": "lora", "gpu": "RTX 4090", "hours": 2.0, "cost_micros": 1_500_000}
    found = run_of("tune", advised, [instance(3.0, price=500_000), instance(3.0, machine=Machine.CPU)], {})
    assert found.over
    assert (found.hours_measured, found.cost_micros_measured) == (3.0, 1_500_000)
    grade = grades([found])[0]
    assert grade.hours_error == pytest.approx(1 / 3)
    assert grade.cost_error == 0.0
    assert grade.memory_error is None, "nobody measured memory"


def test_a_run_that_goes_on_is_not_graded() -> None:
    """Half a run's time and cost would make every prediction look too high."""
    assert held([instance(3.0), instance(None)]) == (None, None)
    found = run_of("tune", {"task": "llm-lora", "hours": 2.0}, [instance(None)], {})
    assert not found.over
    assert grades([found]) == []


def test_unknown_memory_teaches_nothing() -> None:
    """A meter that does not exist reads nothing, not zero."""
    assert factors_of([run(None)] * 10).memory == {}


def test_few_runs_teach_nothing_and_enough_only_raise() -> None:
    """One lucky run is no calibration; and what took less than predicted never makes a card look larger."""
    assert factors_of([run(30.0)] * (RUNS_MIN - 1)).memory == {}
    assert factors_of([run(30.0)] * RUNS_MIN).memory == {"lora": 1.5}
    assert factors_of([run(10.0)] * RUNS_MIN).memory == {"lora": 1.0}
    assert factors_of([run(30.0, over=False)] * RUNS_MIN).memory == {}
