"""The shortlist: of each type of machine the offer whose expected cost is least. Nothing else can be cheapest. Pure.

To price an offer with all its possible bids is dear, and five thousand are on offer. What an offer costs at its lowest
winning bid, interruptions left out, bounds its expected cost from below; so the offers of a type are priced in that
order, until the bound of the next one is above the best one found.
"""

from collections.abc import Iterable, Sequence

from dumont.market.beliefs import Beliefs
from dumont.market.cost import Priced
from dumont.market.names import gpus
from dumont.market.placement import rank, satisfies
from dumont.model.offer import Need, Offer

TRIED_MAX = 32
"""So many types are tried when a question's other answers, or a change of the job, are looked at."""
NOMINAL = 0.93
Hardware = tuple[str, int]


def shortlist(offers: Iterable[Offer], need: Need, beliefs: Beliefs, now_h: float) -> list[Priced]:
    """The cheapest offer of each type that satisfies the need, by expected cost per hour, the least first."""
    groups: dict[tuple[str, int, int], list[Offer]] = {}
    for offer in offers:
        if offer.gpu and satisfies(offer, need):
            groups.setdefault((offer.gpu, offer.gpus, _short_mb(offer)), []).append(offer)
    found = (_cheapest(sorted(group, key=at_least), need, beliefs, now_h) for group in groups.values())
    return sorted((one for one in found if one is not None), key=lambda one: (one.micros_per_hour, one.offer.id))


def at_least(offer: Offer) -> int:
    """What an hour costs at the very least, in micro-US-dollars: at the lowest winning bid, without interruptions."""
    if offer.min_bid_micros_per_hour is None:
        return offer.price_micros_per_hour
    rest = (offer.disk_micros_per_hour or 0) + (offer.address_micros_per_hour or 0)
    return min(offer.price_micros_per_hour, offer.min_bid_micros_per_hour + rest)


def to_try(priced: Sequence[Priced], chosen: Iterable[Hardware]) -> list[Priced]:
    """The types with the most throughput for their price, and the chosen ones, in the order given."""
    kept = set(chosen)
    by_value = sorted(priced, key=lambda one: one.micros_per_hour / _tflops(one.offer))
    kept |= {(one.offer.gpu, one.offer.gpus) for one in by_value[:TRIED_MAX]}
    return [one for one in priced if (one.offer.gpu, one.offer.gpus) in kept]


def _short_mb(offer: Offer) -> int:
    """What a card has that has less than its name says: it is a type of its own. 0 for what is as usual or untold."""
    known = gpus().get(offer.gpu)
    if known is None or offer.vram_mb is None or offer.vram_mb >= NOMINAL * known.usable_mb:
        return 0
    return offer.vram_mb


def _tflops(offer: Offer) -> float:
    known = gpus().get(offer.gpu)
    return (known.tflops if known else 1.0) * max(1, offer.gpus)


def _cheapest(group: Sequence[Offer], need: Need, beliefs: Beliefs, now_h: float) -> Priced | None:
    best: Priced | None = None
    for offer in group:
        if best is not None and at_least(offer) >= best.micros_per_hour:
            break
        for one in rank([offer], need, beliefs, now_h):
            if best is None or one.micros_per_hour < best.micros_per_hour:
                best = one
    return best
