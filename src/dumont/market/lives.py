"""Lives: how long our own spot machines were held, and which of them their provider took away. Pure.

A life is *interrupted* only where the provider said so: it was outbid or preempted. Every other end is *censored*: we
let it go ourselves, or nobody knows why it ended (I6); it would have lasted at least so long. A machine whose agent
never came has no life, unless it was taken away before.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dumont.model.instance import Instance
from dumont.provider.base import Why

SECONDS_PER_HOUR = 3600.0
TAKEN = (Why.OUTBID, Why.PREEMPTED)


@dataclass(frozen=True, kw_only=True)
class OwnLife:
    """One spot machine of ours, in hours since 1970. `ended_h` is None while it is held.

    `bid_micros` is what was bid for it in micro-dollars an hour; 0 where that is not known.
    """

    id: str
    domain: str
    began_h: float
    ended_h: float | None = None
    interrupted: bool = False
    bid_micros: int = 0

    def until_h(self, now_h: float) -> float:
        """Its end, or now; never before its beginning."""
        return max(self.began_h, now_h if self.ended_h is None else min(self.ended_h, now_h))


@dataclass(frozen=True)
class Held:
    """How many lives stand behind an estimate, how many of them were interrupted, and the hours they lasted."""

    lives: int = 0
    interrupted: int = 0
    hours: float = 0.0


def life_of(instance: Instance) -> OwnLife | None:
    """The life that a record tells of; None where it teaches nothing: on demand, no domain, or never came up."""
    taken = instance.ended in TAKEN
    joined = not instance.token_hash  # spent when its agent came for the first time
    if not instance.spot or not instance.domain or not (joined or taken):
        return None
    end = instance.ended_at or instance.gone_at
    return OwnLife(
        id=instance.id,
        domain=instance.domain,
        began_h=instance.created_at.timestamp() / SECONDS_PER_HOUR,
        ended_h=None if end is None else end.timestamp() / SECONDS_PER_HOUR,
        interrupted=taken,
        bid_micros=instance.bid_micros_per_hour,
    )


def held(lives: Iterable[OwnLife], now_h: float) -> Held:
    """What these lives add up to by now."""
    known = list(lives)
    hours = sum(life.until_h(now_h) - life.began_h for life in known)
    return Held(len(known), sum(life.interrupted for life in known), hours)
