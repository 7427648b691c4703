"""Grades: what was predicted against what was measured; what nobody measured counts for nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from dumont.advisor.grade import NOT_TOLD, RUNS_MIN, Peak, Run, factors_of, grades, held, peak_of, run_of
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


def run(memory: float | None, *, job: str = "lora", over: bool = True, factor: float = 1.0, **peak: object) -> Run:
    return Run(
        workspace="tune",
        task=f"llm-{job}",
        job=job,
        gpu="RTX 4090",
        over=over,
        memory_gb=20.0 * factor,
        memory_factor=factor,
        peak=Peak(gb=memory, card_gb=24.0, **peak),  # type: ignore[arg-type]
    )


def told(instance: str, gb: float | None = None, **more: object) -> dict[str, object]:
    known = {} if gb is None else {"memory_gb": gb, "card": f"card of {instance}", "scope": "device", "every_s": 1.0}
    return {"instance": instance, **known, **more}


def test_a_run_is_measured_by_its_machines() -> None:
    """Hours and cost follow from the records of what was rented; the standby is not what was predicted."""
    advised = {"task": "llm-lora", "job": "lora", "gpu": "RTX 4090", "hours": 2.0, "cost_micros": 1_500_000}
    found = run_of("tune", advised, [instance(3.0, price=500_000), instance(3.0, machine=Machine.CPU)])
    assert found.over
    assert (found.hours_measured, found.cost_micros_measured) == (3.0, 1_500_000)
    grade = grades([found])[0]
    assert grade.hours_error == pytest.approx(1 / 3)
    assert grade.cost_error == 0.0
    assert grade.memory_error is None, "nobody measured memory"


def test_a_run_that_goes_on_is_not_graded() -> None:
    """Half a run's time and cost would make every prediction look too high."""
    assert held([instance(3.0), instance(None)]) == (None, None)
    found = run_of("tune", {"task": "llm-lora", "hours": 2.0}, [instance(None)])
    assert not found.over
    assert grades([found]) == []


def test_unknown_memory_teaches_nothing() -> None:
    """A meter that does not exist reads nothing, not zero."""
    assert factors_of([run(None)] * 10).memory == {}


def test_few_runs_teach_nothing_and_enough_only_raise() -> None:
    """One lucky run is no calibration; and what took less than predicted never makes a card look larger."""
    assert factors_of([run(30.0)] * (RUNS_MIN - 1)).memory == {}
    assert {job: one.applied for job, one in factors_of([run(30.0)] * RUNS_MIN).memory.items()} == {"lora": 1.5}
    assert {job: one.applied for job, one in factors_of([run(10.0)] * RUNS_MIN).memory.items()} == {"lora": 1.0}
    assert factors_of([run(30.0, over=False)] * RUNS_MIN).memory == {}


def test_the_peak_of_a_run_is_the_highest_of_its_machines() -> None:
    """After a failover the run goes on on another card; what it needs does not get smaller by that."""
    found = peak_of([told("a", 18.0), told("b", 12.0), told("a", 17.0)], {"a", "b"})
    assert (found.gb, found.card, found.scope, found.every_s) == (18.0, "card of a", "device", 1.0)
    assert not found.at_least


@pytest.mark.parametrize("readings", [[told("a", 18.0)], [told("a", 18.0), told("b", why="unreadable")]])
def test_a_machine_that_told_nothing_makes_the_peak_a_lower_bound(readings: list[dict[str, object]]) -> None:
    """The run may have needed its most there. A machine that it never ran on is not missed."""
    assert not peak_of(readings, {"a"}).at_least  # type: ignore[arg-type]
    assert peak_of(readings, {"a", "b"}).at_least  # type: ignore[arg-type]


def test_a_lower_bound_once_is_one_for_ever() -> None:
    """What was missed on one machine is not found on another, even if that one held more."""
    assert peak_of([told("a", 5.0, at_least=True), told("a", 5.0), told("b", 9.0)], {"a", "b"}).at_least


def test_an_unknown_peak_keeps_its_reason() -> None:
    """ "Not measured" without a reason sends people looking for a fault."""
    assert peak_of([told("a", why="no_driver")], {"a"}) == Peak(why="no_driver")
    assert peak_of([], {"a"}) == Peak(why=NOT_TOLD)
    assert peak_of([told("a", 0.0)], {"a"}).gb is None, "nothing in use is nothing measured"


def test_memory_is_graded_over_the_runs_that_measured_it() -> None:
    """Of four runs, one told nothing and one was not seen whole: two say how far off the prediction was."""
    (grade,) = grades([run(25.0), run(16.0), run(None), run(40.0, at_least=True)])
    assert (grade.runs, grade.memory_runs) == (4, 2)
    assert grade.memory_error == pytest.approx((0.2 + 0.25) / 2)
    assert grade.memory_factor is None, "two runs teach no factor"


def test_a_lower_bound_counts_in_no_median_but_bounds_the_worst() -> None:
    """It is no measurement; but that much was used, for sure."""
    bounds = [run(40.0, at_least=True)] * 5
    assert factors_of(bounds).memory == {}
    assert factors_of([*[run(22.0)] * RUNS_MIN, *bounds]).memory["lora"].worst == 2.0
    assert factors_of([*[run(22.0)] * RUNS_MIN, *bounds]).memory["lora"].applied == pytest.approx(1.1)
    assert factors_of([*[run(22.0)] * RUNS_MIN, run(5.0, at_least=True)]).memory["lora"].worst == pytest.approx(1.1)


def test_an_engine_that_takes_the_card_teaches_nothing_of_what_it_needs() -> None:
    """vLLM fills 90 % of any card with its cache: on a larger one the same model would look larger. Training that fills
    a card did need it, as far as anybody can tell."""
    assert factors_of([run(22.0, job="inference-serving")] * RUNS_MIN).memory == {}
    (grade,) = grades([run(22.0, job="inference-serving")] * RUNS_MIN)
    assert (grade.memory_error, grade.memory_runs) == (None, 0)
    assert set(factors_of([run(12.0, job="inference-serving")] * RUNS_MIN).memory) == {"inference-serving"}
    assert set(factors_of([run(22.0, job="lora")] * RUNS_MIN).memory) == {"lora"}


def test_a_factor_does_not_feed_on_its_own_effect() -> None:
    """Once predictions hold a factor of 1.5 they are right; taken as the estimator's own, the factor would be dropped
    and predictions be wrong again."""
    corrected = [run(30.0, factor=1.5)] * (2 * RUNS_MIN)
    assert factors_of([*[run(30.0)] * RUNS_MIN, *corrected]).memory["lora"].applied == 1.5
    (grade,) = grades(corrected)
    assert (grade.memory_error, grade.memory_factor) == (0.0, 1.5)
