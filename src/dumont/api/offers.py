"""Offers: what all providers have for rent now, by what an hour really costs; and what was asked for it before."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta

from fastapi import APIRouter

from dumont.api.site import Here, Site
from dumont.client.results import Compared, Hazard, OffersFound, OfferShown, PriceShown, Stake
from dumont.errors import BadInput, ProviderError
from dumont.market import cost
from dumont.market.cost import Priced
from dumont.market.lives import Held, held
from dumont.market.names import gpus
from dumont.market.placement import rank
from dumont.market.query import Query, parse
from dumont.market.reference import Comparison, compare
from dumont.model.offer import Offer
from dumont.provider.base import Provider

ASK_S_MAX = 20.0
LIMIT_MAX = 500
DAYS_MAX = 90
REFERENCES = ("aws", "gcp", "azure")

router = APIRouter()


@router.get("/offers")
async def offers(site: Here, q: str = "", limit: int = 20) -> OffersFound:
    """Those that the query `q` asks for, in its order. A provider that does not answer is named, with why."""
    if not 1 <= limit <= LIMIT_MAX:
        raise BadInput(f"limit must lie between 1 and {LIMIT_MAX}")
    query = parse(q)
    answers = await asyncio.gather(*(_ask(site, one, query) for one in site.parts.acts.providers.values()))
    found = [offer for part, _ in answers for offer in part if query.matches(offer)]
    now, beliefs = site.parts.clock.now(), site.parts.acts.listing.beliefs
    now_h = now.timestamp() / 3600
    ranked = query.sorted(rank(found, query.need, beliefs, now_h))
    return OffersFound(
        at=now.isoformat(),
        matching=len(ranked),
        offers=[shown_offer(priced, held(beliefs.lives_of(priced.offer), now_h)) for priced in ranked[:limit]],
        references=[_compared(one) for one in _references(ranked[:limit])],
        unanswered=[why for _, why in answers if why],
        stake=shown_stake(beliefs.stake),
    )


@router.get("/prices")
async def prices(site: Here, product: str, days: float = 7.0) -> list[PriceShown]:
    """What was asked for a product during the last days, oldest first; of a GPU, for each GPU."""
    if not 0 < days <= DAYS_MAX:
        raise BadInput(f"days must lie between 0 and {DAYS_MAX}")
    since = site.parts.clock.now() - timedelta(days=days)
    return [
        PriceShown(
            at=point.at.isoformat(),
            provider=point.provider,
            product=point.product,
            region=point.region,
            spot=point.spot,
            lowest_micros_per_hour=point.lowest_micros_per_hour,
            median_micros_per_hour=point.median_micros_per_hour,
            offers=point.offers,
        )
        for point in await site.parts.database.prices(since, product)
    ]


async def _ask(site: Site, provider: Provider, query: Query) -> tuple[Iterable[Offer], str]:
    """Its offers now; when it takes too long, or errs, those of the listing, and why."""
    listed = site.parts.acts.listing.offers.get(provider.name, ())
    try:
        async with asyncio.timeout(ASK_S_MAX):
            return await provider.offers(query.need), ""
    except TimeoutError:
        return listed, f"{provider.name}: no answer within {ASK_S_MAX:.0f} s; shown is what it offered before"
    except ProviderError as error:
        return listed, f"{provider.name}: {error}"


def _references(ranked: Iterable[Priced]) -> list[Comparison]:
    """What the large clouds ask on demand for the first GPU of the list, on a machine with as many."""
    first = next((one.offer for one in ranked if one.offer.gpu in gpus()), None)
    return compare(first.gpu, max(1, first.gpus), providers=REFERENCES) if first else []


def shown_offer(priced: Priced, own: Held) -> OfferShown:
    """`own`: our own machines that stand behind its hazard."""
    offer = priced.offer
    return OfferShown(
        id=offer.id,
        provider=offer.provider,
        machine=offer.machine.value,
        name=offer.name,
        gpu=offer.gpu,
        gpus=offer.gpus,
        vram_mb=offer.vram_mb,
        vcpus=offer.vcpus,
        ram_mb=offer.ram_mb,
        disk_gb=offer.disk_gb,
        region=offer.region,
        zone=offer.zone,
        host=offer.host,
        interruption=offer.interruption.value,
        reliability=offer.reliability,
        verified=offer.verified,
        down_mbps=offer.down_mbps,
        up_mbps=offer.up_mbps,
        price_micros_per_hour=priced.price_micros_per_hour,
        bid_micros_per_hour=offer.bid_micros_per_hour,
        cost_micros_per_hour=priced.micros_per_hour,
        parts={part.value: micros for part, micros in priced.parts},
        hazard=Hazard(
            per_hour=priced.hazard.per_hour,
            low=priced.hazard.low,
            high=priced.hazard.high,
            own_lives=own.lives,
            own_interrupted=own.interrupted,
            own_hours=own.hours,
        ),
        seen_at=offer.seen_at.isoformat() if offer.seen_at else None,
        idle_gpu=offer.idle_gpu,
        min_bid_micros_per_hour=offer.min_bid_micros_per_hour or 0,
    )


def shown_stake(stake: cost.Stake) -> Stake:
    """Of it what the calculation of a cost needs."""
    return Stake(
        value_micros_per_hour=stake.value_micros_per_hour,
        restore_s=stake.restore_s,
        work_at_risk_s=stake.work_at_risk_s,
        transfer_gb=stake.transfer_gb,
        sync_gb_per_hour=stake.sync_gb_per_hour,
    )


def _compared(one: Comparison) -> Compared:
    found = one.reference
    return Compared(
        provider=one.provider,
        asked=one.asked,
        gpu=found.gpu if found else "",
        exact=one.exact,
        micros_per_hour=found.micros_per_hour if found else None,
        instance=found.instance if found else "",
        region=found.region if found else "",
        as_of=found.as_of.isoformat() if found else "",
        source=found.source if found else "",
        why=one.why,
    )
