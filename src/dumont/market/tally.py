"""Tallies: what looks at one provider's offers have counted so far, how a look goes on from them, and their text. Pure.

A look needs no older look than the last: what was seen fades at a fixed rate, so the counts of all of them are kept as
hours watched and ends seen (`market.hazard`). Two server processes that go on from one text count each moment once.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

import msgspec

from dumont.market.beliefs import Beliefs, Pressure, observe
from dumont.market.hazard import History
from dumont.market.placement import satisfies
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Need, Offer

DOMAINS_MAX = 5_000
FADED_HOURS = 240.0
"""What nobody looked at for so long weighs less than 1/20,000, and is forgotten."""
_FORM = 1
"""Of the text. Another one is not read: counting begins anew, and is as good as before after a day."""


@dataclass(frozen=True, kw_only=True)
class Tallies:
    """`watched` holds an offer for each domain that looks cover; `domains` and `pressures` are as in `Beliefs`."""

    watched: Mapping[str, Offer] = field(default_factory=dict)
    domains: Mapping[str, History] = field(default_factory=dict)
    pressures: Mapping[str, Pressure] = field(default_factory=dict)


def look_again(
    before: Tallies, offers: Iterable[Offer], searched: Iterable[Need], held: Container[str], now_h: float
) -> Tallies:
    """The tallies after a look that found these offers: what was on offer and is not any more counts as interrupted.

    Only in domains that this search would have shown: what nobody looked for is not lost. Nor is what we took: a domain
    among `held`, where we have a machine, is not looked at while it is not on offer. Raises BadInput when `now_h` lies
    before the last look.
    """
    present = {offer.domain: offer for offer in offers if offer.domain and offer.spot}
    asked = list(searched)
    watched = {
        domain: offer
        for domain, offer in {**before.watched, **present}.items()
        if domain in present or any(satisfies(offer, need) for need in asked)
    }
    watched = dict(list(watched.items())[-DOMAINS_MAX:])
    known = Beliefs(domains=before.domains, pressures=before.pressures)
    looked_at = [offer for domain, offer in watched.items() if domain in present or domain not in held]
    seen = observe(known, looked_at, frozenset(present), now_h)
    recent = {name: one for name, one in seen.domains.items() if name in watched or _is_recent(one, now_h)}
    pressures = {name: one for name, one in seen.pressures.items() if _is_recent(one, now_h)}
    return Tallies(watched=watched, domains=dict(list(recent.items())[-DOMAINS_MAX:]), pressures=pressures)


def _is_recent(one: History | Pressure, now_h: float) -> bool:
    return now_h - one.at_h <= FADED_HOURS


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    """Of an offer, what tells whether a search covers its domain, and what its hazard starts from."""

    id: str
    provider: str
    machine: Machine
    name: str
    price_micros_per_hour: int
    spot: bool
    interruption: Interruption
    gpu: str
    gpus: int
    vram_mb: int | None
    ram_mb: int | None
    region: str
    zone: str
    host: str
    domain: str
    reliability: float | None


_Domain = tuple[float, float, float, float | None, bool]
_Pressure = tuple[float, float, float]


class _Text(msgspec.Struct, array_like=True, frozen=True):
    form: int
    watched: list[_Kept]
    domains: dict[str, _Domain]
    pressures: dict[str, _Pressure]


_of_offer = attrgetter(*_Kept.__struct_fields__)
_of_domain = attrgetter("at_h", "events", "hours", "up_since_h", "fresh")
_of_pressure = attrgetter("at_h", "events", "expected")


def to_text(tallies: Tallies) -> str:
    """JSON. Every number comes back as it was, to the last bit."""
    return msgspec.json.encode(
        _Text(
            _FORM,
            [_Kept(*_of_offer(offer)) for offer in tallies.watched.values()],
            {name: _of_domain(one) for name, one in tallies.domains.items()},
            {name: _of_pressure(one) for name, one in tallies.pressures.items()},
        )
    ).decode()


def from_text(text: str) -> Tallies:
    """What `to_text` wrote; empty tallies for a text of another form."""
    try:
        kept = msgspec.json.decode(text, type=_Text)
    except msgspec.DecodeError:
        return Tallies()
    if kept.form != _FORM:
        return Tallies()
    offers = (Offer(**msgspec.structs.asdict(one)) for one in kept.watched)
    return Tallies(
        watched={offer.domain: offer for offer in offers},
        domains={name: History(*one) for name, one in kept.domains.items()},
        pressures={name: Pressure(*one) for name, one in kept.pressures.items()},
    )
