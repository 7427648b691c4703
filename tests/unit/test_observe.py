"""The observatory: what counts as heard, as silence and as a witness."""

import pytest

from dumont.control.observe import Observatory
from dumont.control.view import Sighting, Voice, Witness
from dumont.model.instance import Instance, InstanceState, Machine, Role
from dumont.model.policy import Policy
from dumont.model.workspace import Workspace
from dumont.provider.base import Phase
from dumont.wire.control import Beat, Endpoints, PeerStatus, Status
from dumont.wire.route import Probe
from tests.clocks import BEGAN, HandClock

ROW = Workspace(
    name="train", created_at=BEGAN, policy=Policy(), epoch=3, primary_id="gpu-1", ack_set=frozenset({"cpu-1"})
)


class WaitlessClock(HandClock):
    async def sleep(self, seconds: float) -> None:
        raise AssertionError("an observatory waits for nothing")


def instance(name: str, machine: Machine) -> Instance:
    return Instance(
        id=name,
        workspace="train",
        machine=machine,
        provider="memory",
        state=InstanceState.RENTED,
        price_micros_per_hour=1,
        created_at=BEGAN,
    )


GPU, CPU = instance("gpu-1", Machine.GPU), instance("cpu-1", Machine.CPU)


def beat(heard_ms_ago: int = 0) -> Beat:
    return Beat("gpu-1", 3, 0.0, heard_ms_ago)


def standby_status(**fields: object) -> Status:
    values = {
        "epoch": 3,
        "role": Role.STANDBY,
        "endpoints": Endpoints("cpu"),
        "stream_up": True,
        "stream_seen": True,
    } | fields
    return Status(instance_id="cpu-1", **values)  # type: ignore[arg-type]


def primary_status(**fields: object) -> Status:
    values = {"epoch": 3, "role": Role.PRIMARY, "endpoints": Endpoints("gpu"), "ready": True} | fields
    return Status(instance_id="gpu-1", **values)  # type: ignore[arg-type]


@pytest.fixture
def clock() -> HandClock:
    return WaitlessClock(1000.0)


@pytest.fixture
def seen(clock: HandClock) -> Observatory:
    return Observatory(clock)


def passing(seen: Observatory, clock: HandClock, seconds: float) -> None:
    """Time passes while the control loop ticks as it should."""
    for _ in range(round(seconds * 10)):
        clock.seconds += 0.1
        seen.tick()


def sighting(seen: Observatory, name: str = "gpu-1") -> Sighting:
    found = {one.instance.id: one for one in seen.look().sightings(ROW, [GPU, CPU])}
    return found[name]


def witness(of: Sighting, voice: Voice) -> Witness:
    return next(one for one in of.witnesses if one.voice is voice)


def test_silence_grows_from_the_last_beat(seen: Observatory, clock: HandClock) -> None:
    """It is what decides when everything is cut off and no socket closes."""
    seen.pulse_opened("gpu-1")
    seen.beat(beat())
    passing(seen, clock, 1.5)
    agent = witness(sighting(seen), Voice.AGENT)
    assert agent.up is True
    assert agent.silent_s == pytest.approx(1.5)


def test_a_beat_that_does_not_hear_us_is_no_life(seen: Observatory, clock: HandClock) -> None:
    """A link that is cut one way only would otherwise look alive for ever, while no lease is renewed."""
    seen.pulse_opened("gpu-1")
    seen.beat(beat())
    passing(seen, clock, 1.5)
    seen.beat(beat(heard_ms_ago=1400))
    assert witness(sighting(seen), Voice.AGENT).silent_s == pytest.approx(1.5)


def test_a_frozen_server_hears_no_silence_from_its_sleep(seen: Observatory, clock: HandClock) -> None:
    """A server stopped for ten seconds must cause no failover (I6)."""
    seen.pulse_opened("gpu-1")
    seen.beat(beat())
    seen.status(standby_status())
    clock.seconds += 10.0
    look = sighting(seen)
    assert witness(look, Voice.AGENT).silent_s == 0.0
    assert witness(look, Voice.STREAM).silent_s == 0.0
    passing(seen, clock, 1.0)
    assert witness(sighting(seen), Voice.AGENT).silent_s == pytest.approx(1.0)


def test_a_closed_pulse_is_a_witness_and_a_closed_engine_is_not(seen: Observatory) -> None:
    """The watchdog starts a crashed engine anew; that must not end a workload."""
    seen.pulse_opened("gpu-1")
    seen.agent_opened("gpu-1")
    seen.agent_closed("gpu-1")
    assert witness(sighting(seen), Voice.AGENT).up is True
    seen.pulse_closed("gpu-1")
    assert witness(sighting(seen), Voice.AGENT).up is False


def test_the_standby_testifies_about_the_stream(seen: Observatory, clock: HandClock) -> None:
    """Its word, and the time since it was spoken, are the second witness."""
    seen.status(standby_status(stream_up=False, stream_silent_ms=300))
    passing(seen, clock, 0.5)
    stream = witness(sighting(seen), Voice.STREAM)
    assert stream.up is False
    assert stream.silent_s == pytest.approx(0.5)  # never longer than we have been awake


def test_the_primary_testifies_about_its_standby(seen: Observatory) -> None:
    """A standby that is lost has to be left out of the ack set."""
    peer = PeerStatus("cpu-1", connected=False, silent_ms=4000)
    seen.status(primary_status(peers=(peer,)))
    assert witness(sighting(seen, "cpu-1"), Voice.STREAM).up is False


def test_a_stream_that_never_was_up_is_absent(seen: Observatory) -> None:
    """Absent is not dead: with one channel only, nothing may be decided."""
    seen.status(standby_status(stream_up=False, stream_seen=False))
    assert witness(sighting(seen), Voice.STREAM).up is None


def test_a_gateway_that_left_takes_its_testimony_along(seen: Observatory, clock: HandClock) -> None:
    """A crashed gateway must not look like a primary that closed its doors."""
    seen.gateway_opened()
    seen.probe(Probe("train", "gpu-1", up=False, silent_ms=0))
    assert witness(sighting(seen), Voice.GATEWAY).up is False
    seen.gateway_closed()
    assert witness(sighting(seen), Voice.GATEWAY).up is None


def test_an_unknown_phase_is_no_witness(seen: Observatory) -> None:
    """A provider that errs says nothing about any machine (I6)."""
    seen.phase("gpu-1", Phase.RUNNING)
    seen.phase("gpu-1", Phase.UNKNOWN)
    assert witness(sighting(seen), Voice.PROVIDER).up is None
    seen.phase("gpu-1", Phase.GONE)
    assert witness(sighting(seen), Voice.PROVIDER).up is False


def test_only_changes_that_matter_call_for_a_pass_at_once(seen: Observatory) -> None:
    """A commit counter that grows twenty times a second is no reason to read the database."""
    assert seen.status(primary_status(commits=1))
    assert not seen.status(primary_status(commits=2))
    assert seen.status(primary_status(commits=2, ready=False))


def test_what_is_gone_is_forgotten(seen: Observatory) -> None:
    """Memory stays bounded over months of short-lived machines."""
    seen.status(primary_status())
    seen.probe(Probe("train", "gpu-1", up=True, silent_ms=0))
    seen.forget({"cpu-1"})
    assert seen.heard_of("gpu-1").status is None
    assert witness(sighting(seen), Voice.GATEWAY).up is None
