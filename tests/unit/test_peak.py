"""A peak of GPU memory: the most on one card, which of two ways it was counted, and what was not seen (I6)."""

import msgspec
import pytest

from dumont.agent.gpus import NO_DRIVER, UNREADABLE, Reading, Use
from dumont.agent.peak import GAP_S_MAX, UNUSED, Peak
from dumont.wire.control import GpuPeak, Meters, Scope

GB = 10**9


def use(used: float, own: float | None = None, uuid: str = "a", card: str = "RTX 4090") -> Use:
    return Use(uuid, card, 24 * GB, round(used * GB), None if own is None else round(own * GB))


def peak_of(*readings: Reading, every_s: float = 1.0) -> GpuPeak:
    peak = Peak(every_s)
    for number, reading in enumerate(readings):
        peak.see(reading, number * every_s)
    found = peak.told()
    assert found is not None
    return found


def test_the_highest_reading_counts_and_not_the_last() -> None:
    """A training run needs the most in its first steps, and its card must hold just that."""
    found = peak_of(*(Reading((use(used),)) for used in (1.0, 18.5, 3.0)))
    assert (found.bytes, found.scope, found.at_least) == (18_500_000_000, Scope.DEVICE, False)
    assert (found.card, found.card_bytes, found.gpus, found.every_ms) == ("RTX 4090", 24 * GB, 1, 1000)


def test_the_fuller_of_two_cards_counts_and_is_named() -> None:
    """Predictions are for one card; the sum over two would look like twice the work."""
    found = peak_of(Reading((use(4.0), use(9.0, uuid="b", card="A100"))), Reading((use(8.0), use(1.0, uuid="b"))))
    assert (found.bytes, found.gpus) == (9 * GB, 2)


def test_what_our_own_processes_hold_is_preferred() -> None:
    """Somebody else's process on a shared card is no part of the prediction."""
    found = peak_of(Reading((use(20.0, own=0),)), Reading((use(21.0, own=6.0),)))
    assert (found.bytes, found.scope) == (6 * GB, Scope.PROCESSES)


def test_a_driver_that_once_did_not_name_processes_is_read_by_the_card() -> None:
    """The highest sum over processes may have been in just that moment."""
    found = peak_of(Reading((use(20.0, own=6.0),)), Reading((use(21.0),)), Reading((use(7.0, own=6.0),)))
    assert (found.bytes, found.scope) == (21 * GB, Scope.DEVICE)


def test_a_card_that_vanishes_leaves_a_lower_bound() -> None:
    """It may have held more afterwards, and nobody looked. The same two readings with it are whole."""
    both = Reading((use(9.0), use(4.0, uuid="b")))
    assert not peak_of(both, both).at_least
    found = peak_of(both, Reading((use(4.0, uuid="b"),)), both)
    assert (found.bytes, found.at_least) == (9 * GB, True)


@pytest.mark.parametrize(
    "readings",
    [
        (Reading((use(9.0),)), Reading(lacks=UNREADABLE)),
        (Reading(lacks=NO_DRIVER), Reading((use(9.0),))),
        (Reading((use(9.0),), UNREADABLE), Reading((use(9.0),))),
    ],
)
def test_a_reading_that_failed_leaves_a_lower_bound(readings: tuple[Reading, ...]) -> None:
    """Whatever the order: the peak may have been in the gap."""
    found = peak_of(*readings)
    assert (found.bytes, found.at_least) == (9 * GB, True)


def test_a_meter_that_hung_leaves_a_lower_bound() -> None:
    """Stated is one reading a second; much fewer are not what was stated."""
    assert not peak_of(*[Reading((use(9.0),))] * 3, every_s=GAP_S_MAX).at_least
    assert peak_of(*[Reading((use(9.0),))] * 3, every_s=GAP_S_MAX + 0.1).at_least


def test_an_unknown_peak_is_no_zero_and_says_why() -> None:
    """Zero would be a perfect grade for whoever predicted nothing."""
    assert Peak(1.0).told() is None
    nothing = peak_of(Reading(lacks=NO_DRIVER), Reading(lacks=NO_DRIVER))
    assert (nothing.bytes, nothing.scope, nothing.why) == (None, None, NO_DRIVER)
    others = peak_of(Reading((use(20.0, own=0),)))
    assert (others.bytes, others.why, others.gpus) == (None, UNUSED, 1)
    idle = peak_of(Reading((use(0),)))
    assert (idle.bytes, idle.why) == (None, UNUSED)


def test_agents_and_servers_of_different_age_understand_each_other() -> None:
    """Agents are not upgraded with the server: a field that one side doesn't know is left out, or unknown."""

    class Old(msgspec.Struct, frozen=True):
        gpu_percent: float | None = None

    new = Meters(gpu_percent=7.0, gpu_peak=peak_of(Reading((use(9.0),))))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(new), type=Old) == Old(7.0)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(Old(7.0)), type=Meters) == Meters(gpu_percent=7.0)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(new), type=Meters) == new
