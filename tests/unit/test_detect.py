"""Detection: which witnesses make a replica dead, and which don't."""

import pytest

from dumont.control import detect
from dumont.control.detect import Verdict, verdict
from dumont.control.view import Timing, Voice, Witness
from dumont.provider.base import Phase
from dumont.wire.control import PeerStatus
from dumont.wire.route import Probe
from tests.unit.views import CHANNELS, closed, following, heard, silent

AGENT, STREAM, GATEWAY, PROVIDER = Voice
ABSENT = tuple(Witness(voice, None, 0.5) for voice in CHANNELS)


@pytest.mark.parametrize(
    ("witnesses", "expected"),
    [
        (heard(*CHANNELS), Verdict.ALIVE),
        (heard(AGENT), Verdict.ALIVE),
        ((), Verdict.SUSPECTED),
        (ABSENT, Verdict.SUSPECTED),
        (closed(AGENT) + heard(STREAM, GATEWAY), Verdict.SUSPECTED),
        (closed(GATEWAY), Verdict.SUSPECTED),
        (closed(PROVIDER) + heard(AGENT, STREAM), Verdict.SUSPECTED),
        (closed(PROVIDER) + ABSENT, Verdict.SUSPECTED),
        (silent(AGENT) + heard(STREAM, GATEWAY), Verdict.SUSPECTED),
        (silent(AGENT, STREAM) + heard(GATEWAY), Verdict.SUSPECTED),
        (closed(AGENT) + silent(STREAM) + heard(GATEWAY), Verdict.SUSPECTED),
        (silent(AGENT, silent_s=60), Verdict.SUSPECTED),
        (silent(*CHANNELS, silent_s=2.1), Verdict.ALIVE),
        (silent(*CHANNELS, silent_s=2.3), Verdict.DEAD),
        (silent(AGENT, STREAM, silent_s=2.3), Verdict.DEAD),
        (closed(AGENT, STREAM) + heard(GATEWAY), Verdict.DEAD),
        (closed(AGENT, GATEWAY), Verdict.DEAD),
        (closed(AGENT, PROVIDER) + heard(STREAM), Verdict.DEAD),
        (closed(AGENT, silent_s=2.3) + silent(GATEWAY), Verdict.DEAD),
        (closed(PROVIDER) + silent(AGENT), Verdict.DEAD),
    ],
)
def test_what_witnesses_add_up_to(witnesses: tuple[Witness, ...], expected: Verdict) -> None:
    """Two closed sockets, or the silence of all; never one witness alone."""
    assert verdict(witnesses).verdict is expected


def test_two_words_of_one_voice_are_one_witness() -> None:
    """A channel that is reported closed twice is still one."""
    assert verdict(closed(AGENT) + closed(AGENT)).verdict is Verdict.SUSPECTED
    assert verdict(silent(AGENT) + silent(AGENT)).verdict is Verdict.SUSPECTED


def test_an_agent_that_stays_away_from_a_listening_server_is_silent() -> None:
    """A server that was restarted after the primary had died would otherwise wait for its agent for ever."""
    away = Witness(AGENT, None, 11.0)
    assert verdict((away, *silent(STREAM))).verdict is Verdict.DEAD
    assert verdict((away, *closed(PROVIDER))).verdict is Verdict.DEAD
    assert verdict((away,)).verdict is Verdict.SUSPECTED
    assert verdict((away, *heard(STREAM))).verdict is Verdict.SUSPECTED
    assert verdict((Witness(AGENT, None, 5.0), *silent(STREAM))).verdict is Verdict.SUSPECTED


def test_a_stream_that_never_came_up_is_silent_after_a_while() -> None:
    """A standby that was restarted after its primary had died waits for it in vain, and says so."""
    never = Witness(STREAM, None, 11.0)
    assert verdict((never, *silent(AGENT))).verdict is Verdict.DEAD
    assert verdict((never,)).verdict is Verdict.SUSPECTED
    assert verdict((Witness(STREAM, None, 5.0), *silent(AGENT))).verdict is Verdict.SUSPECTED


def test_the_lease_and_its_margin_come_from_the_timing() -> None:
    """The lease must have lapsed, and the workload be frozen, before anybody else leads."""
    patient = Timing(lease_s=5.0, margin_s=1.0)
    assert verdict(silent(*CHANNELS, silent_s=5.9), patient).verdict is Verdict.ALIVE
    assert verdict(silent(*CHANNELS, silent_s=6.1), patient).verdict is Verdict.DEAD


def test_the_reason_names_the_witnesses() -> None:
    """The timeline shows it to a person."""
    assert verdict(closed(AGENT, STREAM)).why == "agent, stream closed"
    assert verdict(silent(AGENT, STREAM)).why == "agent, stream silent for over 2.2 s"


def test_an_observer_that_was_frozen_hears_no_silence_from_its_sleep() -> None:
    """A server frozen for ten seconds finds ten seconds of silence everywhere, and none of it is anybody's fault."""
    awake = detect.awake_since(0.0, last_tick_s=100.0, now_s=100.1)
    assert awake == 0.0
    awake = detect.awake_since(awake, last_tick_s=100.1, now_s=110.1)
    assert awake == 110.1
    assert detect.silence(110.1, 100.0, awake) == 0.0
    assert detect.silence(111.0, 100.0, awake) == pytest.approx(0.9)
    assert detect.silence(111.0, 110.8, awake) == pytest.approx(0.2)
    assert detect.awake_since(awake, last_tick_s=110.9, now_s=111.0) == awake


def test_who_was_never_heard_is_silent_since_we_listen() -> None:
    """Otherwise a machine that never came could not be told from one that came a moment ago."""
    assert detect.silence(50.0, None, 30.0) == 20.0
    assert detect.agent_witness(None, None, 50.0, 30.0) == Witness(AGENT, None, 20.0)


def test_a_pulse_that_does_not_hear_us_is_no_sign_of_life() -> None:
    """With one way of the link cut, its lease lapses although its beats still come."""
    assert detect.is_life(1_000)
    assert not detect.is_life(1_001)


def test_a_standby_speaks_of_the_primary_that_it_follows_now() -> None:
    """Just after a promotion its closed stream was the former primary's."""
    status = following(stream_up=False, stream_silent_ms=400)
    assert detect.stream_witness(status, 0.25, 3, 100.0) == Witness(STREAM, False, 0.65)
    assert detect.stream_witness(status, 0.25, 4, 100.0).up is None
    assert detect.stream_witness(following(stream_up=False, stream_seen=False), 0.25, 3, 100.0).up is None
    assert detect.stream_witness(following(), 0.25, 3, 100.0) == Witness(STREAM, True, 0.25)
    assert detect.stream_witness(None, 0.0, 3, 100.0).up is None


def test_no_channel_is_silent_for_longer_than_we_are_awake() -> None:
    """Ages of statuses and probes also count from before a sleep."""
    status = following(stream_silent_ms=9_000)
    assert detect.stream_witness(status, 9.0, 3, 0.5).silent_s == 0.5
    assert detect.peer_witness(PeerStatus("c", True, silent_ms=9_000), 9.0, 0.5).silent_s == 0.5
    assert detect.gateway_witness(Probe("vox", "g", True, 9_000), 9.0, 0.5).silent_s == 0.5


def test_a_peer_that_never_connected_is_absent() -> None:
    """A standby that still boots is not a lost one."""
    assert detect.peer_witness(None, 0.0, 9.0).up is None
    assert detect.peer_witness(PeerStatus("c", False), 0.0, 9.0).up is None
    assert detect.peer_witness(PeerStatus("c", False, silent_ms=50), 0.0, 9.0).up is False
    assert detect.gateway_witness(None, 0.0, 9.0).up is None


def test_a_provider_that_errs_is_no_witness() -> None:
    """Its error says nothing about any machine (I6)."""
    assert detect.provider_witness(Phase.UNKNOWN).up is None
    assert detect.provider_witness(Phase.RUNNING).up is True
    assert detect.provider_witness(Phase.STARTING).up is True
    assert detect.provider_witness(Phase.STOPPED).up is False
    assert detect.provider_witness(Phase.GONE).up is False
