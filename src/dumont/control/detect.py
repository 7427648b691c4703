"""Detection: whether a replica is alive, suspected or dead, by what its witnesses say. Pure.

A closed socket raises suspicion; a second closed witness confirms it at once. Silence of all channels (agent, stream,
gateway) past the lease and its margin decides alone. One witness never does, nor does a provider that only errs (I6).
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from dumont.control.view import TIMING, Timing, Voice, Witness
from dumont.provider.base import Phase
from dumont.wire.control import PeerStatus, Status
from dumont.wire.route import Probe

BEAT_HEARD_MS_MAX = 1_000
"""A beat of a pulse that has heard nothing from us for longer is no sign of life: one way of its link is cut."""
WAKE_GAP_S = 1.0
"""An observer whose own ticks were so far apart was frozen, or starved of processor time, between them."""


class Verdict(enum.Enum):
    """What the witnesses add up to."""

    ALIVE = "alive"
    SUSPECTED = "suspected"
    DEAD = "dead"


@dataclass(frozen=True)
class Finding:
    """A verdict and, in words, why."""

    verdict: Verdict
    why: str

    @property
    def is_dead(self) -> bool:
        return self.verdict is Verdict.DEAD


def verdict(witnesses: Iterable[Witness], timing: Timing = TIMING) -> Finding:
    """What these witnesses of one instance add up to."""
    heard = [witness for witness in witnesses if _counts(witness, timing)]
    closed = [witness for witness in heard if witness.up is False]
    channels = [witness for witness in heard if witness.voice is not Voice.PROVIDER]
    silence_max_s = timing.lease_s + timing.margin_s
    silent = [witness for witness in channels if witness.silent_s > silence_max_s]
    if len({witness.voice for witness in closed}) >= 2:
        return Finding(Verdict.DEAD, f"{_names(closed)} closed")
    if channels and len(silent) == len(channels):
        provider_agrees = any(witness.voice is Voice.PROVIDER for witness in closed)
        if len({witness.voice for witness in channels}) >= 2 or provider_agrees:
            also = ", and the provider says that it ended" if provider_agrees else ""
            return Finding(Verdict.DEAD, f"{_names(silent)} silent for over {silence_max_s:g} s{also}")
    if closed or silent:
        return Finding(Verdict.SUSPECTED, f"{_names(closed + silent)} closed or silent")
    if not channels:
        return Finding(Verdict.SUSPECTED, "nobody has heard of it yet")
    return Finding(Verdict.ALIVE, f"{_names(channels)} heard")


def awake_since(before_s: float, last_tick_s: float, now_s: float, gap_max_s: float = WAKE_GAP_S) -> float:
    """Since when the observer has been awake, on its monotonic clock; to be asked at each of its own ticks.

    `before_s` is the last answer. A tick that comes more than `gap_max_s` late means that it was frozen meanwhile: it
    woke just now, and whatever it did not hear in its sleep is no silence.
    """
    return now_s if now_s - last_tick_s > gap_max_s else before_s


def silence(now_s: float, last_heard_s: float | None, awake_since_s: float) -> float:
    """Seconds of silence that count: since the last word, but never from before the observer woke."""
    return max(0.0, now_s - max(last_heard_s if last_heard_s is not None else awake_since_s, awake_since_s))


def agent_witness(up: bool | None, last_beat_s: float | None, now_s: float, awake_since_s: float) -> Witness:
    """The pulse link of an instance; `last_beat_s` is that of the last beat for which `is_life`."""
    return Witness(Voice.AGENT, up, silence(now_s, last_beat_s, awake_since_s))


def is_life(heard_ms_ago: int) -> bool:
    """Whether a beat counts: its pulse also hears us."""
    return heard_ms_ago <= BEAT_HEARD_MS_MAX


def stream_witness(standby: Status | None, age_s: float, epoch: int, awake_s: float) -> Witness:
    """What a standby's status, `age_s` old, says of its primary. It counts if it follows this very epoch.

    `awake_s` is how long the observer has been awake. A stream that was never up is absent, and after a while silent.
    """
    if standby is None or standby.epoch != epoch:
        return Witness(Voice.STREAM, None)
    up = standby.stream_up if standby.stream_up or standby.stream_seen else None
    return Witness(Voice.STREAM, up, min(standby.stream_silent_ms / 1000 + age_s, awake_s))


def peer_witness(peer: PeerStatus | None, age_s: float, awake_s: float) -> Witness:
    """What a primary's status, `age_s` old, says of one standby; one that never connected counts as absent."""
    if peer is None or (not peer.connected and peer.silent_ms == 0):
        return Witness(Voice.STREAM, None)
    return Witness(Voice.STREAM, peer.connected, min(peer.silent_ms / 1000 + age_s, awake_s))


def gateway_witness(probe: Probe | None, age_s: float, awake_s: float) -> Witness:
    """What the gateway's last probe of a primary, `age_s` old, says; no probe of it counts as absent."""
    if probe is None:
        return Witness(Voice.GATEWAY, None, awake_s)
    return Witness(Voice.GATEWAY, probe.up, min(probe.silent_ms / 1000 + age_s, awake_s))


def provider_witness(phase: Phase, since_s: float = 0.0) -> Witness:
    """What the provider says; an error or UNKNOWN is no witness at all (I6). `since_s`: how long it has said so."""
    up = {Phase.GONE: False, Phase.STOPPED: False, Phase.UNKNOWN: None}.get(phase, True)
    return Witness(Voice.PROVIDER, up, since_s)


def _counts(witness: Witness, timing: Timing) -> bool:
    """A channel that was never up is absent; but who stays away for long from somebody who listens is silent."""
    waited_for = witness.voice in (Voice.AGENT, Voice.STREAM)
    return witness.up is not None or (waited_for and witness.silent_s > timing.rejoin_s)


def _names(witnesses: list[Witness]) -> str:
    return ", ".join(dict.fromkeys(witness.voice.value for witness in witnesses))
