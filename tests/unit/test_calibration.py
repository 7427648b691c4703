"""Calibration: which machines and which measurements belong to which advised launch."""

from datetime import UTC, datetime, timedelta

from dumont.api.calibration import runs_of
from dumont.model.event import Event
from dumont.model.instance import Instance, InstanceState, Machine

AT = datetime(2026, 11, 24, tzinfo=UTC)


def event(kind: str, hour: float, **facts: str | float | bool) -> Event:
    return Event(workspace="tune", at=AT + timedelta(hours=hour), kind=kind, facts=dict(facts))


def machine(id: str, hour: float, kind: Machine = Machine.GPU) -> Instance:
    return Instance(
        id=id,
        workspace="tune",
        machine=kind,
        provider="vast",
        state=InstanceState.GONE,
        price_micros_per_hour=1_000_000,
        created_at=AT + timedelta(hours=hour),
        gone_at=AT + timedelta(hours=hour + 1),
        provider_ref="7",
    )


ADVISED = {"task": "llm-lora", "job": "lora", "gpu": "RTX 4090", "memory_gb": 20.0}


def test_a_name_that_is_launched_again_begins_a_new_run() -> None:
    """The last word of a machine may be written down when the next workspace of that name lives already."""
    advised = [event("advised", 0.0, **ADVISED), event("advised", 5.0, **ADVISED)]
    launched = [event("launched", 0.0), event("launched", 5.0)]
    told = [
        event("measured", 0.5, instance="a", memory_gb=18.0),
        event("measured", 5.1, instance="a", memory_gb=19.0),
        event("measured", 5.5, instance="b", memory_gb=7.0),
    ]
    first, second = runs_of(advised, launched, told, [machine("a", 0.1), machine("b", 5.1)])
    assert (first.peak.gb, second.peak.gb) == (19.0, 7.0)
    assert (first.hours_measured, second.hours_measured) == (1.0, 1.0)


def test_a_gpu_that_led_without_a_word_makes_the_peak_a_lower_bound() -> None:
    """An old agent, or one that died at once. A CPU that led meanwhile has no such memory, and a spare never led."""
    machines = [machine("a", 0.1), machine("b", 0.2), machine("spare", 0.2), machine("c", 0.1, Machine.CPU)]
    told = [event("measured", 0.5, instance="a", memory_gb=18.0)]
    promoted = [event("promoted", 0.3, instance="a"), event("promoted", 0.4, instance="c")]
    (whole,) = runs_of([event("advised", 0.0, **ADVISED)], [], [*told, *promoted], machines)
    assert (whole.peak.gb, whole.peak.at_least) == (18.0, False)
    promoted.append(event("promoted", 0.6, instance="b"))
    (bound,) = runs_of([event("advised", 0.0, **ADVISED)], [], [*told, *promoted], machines)
    assert (bound.peak.gb, bound.peak.at_least) == (18.0, True)
    assert bound.memory_gb_measured is None


def test_what_was_told_of_a_standby_is_no_peak_of_the_run() -> None:
    """A rented CPU machine may have a card that lies idle, or serves a neighbour."""
    (run,) = runs_of(
        [event("advised", 0.0, **ADVISED)],
        [],
        [event("measured", 0.5, instance="c", memory_gb=18.0)],
        [machine("a", 0.1), machine("c", 0.1, Machine.CPU)],
    )
    assert (run.peak.gb, run.peak.why) == (None, "not_told")
