"""Advice: what to rent for a sentence, ranked over what all providers offer now. Asking rents nothing."""

import asyncio
from collections.abc import Sequence

import msgspec
from fastapi import APIRouter

from dumont.advisor.advice import Market, Settings, advise
from dumont.advisor.answer import answer
from dumont.advisor.estimate.verdict import Estimator
from dumont.advisor.pricefile import dated_offers
from dumont.advisor.reader.read import Reading, read
from dumont.advisor.reader.text import Lang
from dumont.advisor.shape import shape_of_config
from dumont.api.calibration import factors
from dumont.api.site import Here, Site
from dumont.client.advice import Advice, Question
from dumont.errors import BadInput
from dumont.i18n import language, use
from dumont.model.offer import Offer

TEXT_CHARS_MAX = 20_000
ORGANISATION = "home"
"""Whoever holds this installation's token; there is one organisation until there are accounts."""

router = APIRouter()


@router.post("/advice")
async def advice(site: Here, question: Question) -> Advice:
    """Three choices at most, in the language of the question."""
    if not question.text.strip() or len(question.text) > TEXT_CHARS_MAX:
        raise BadInput(f"the text must have 1 to {TEXT_CHARS_MAX} characters")
    reading = await _reading(site, question)
    use(reading.lang)
    market = await _market(site)
    settings = Settings(
        exchange=question.exchange,
        shape=shape_of_config(question.config) if question.config else None,
        fields=question.fields,
        factors=await factors(site),
    )
    told = await asyncio.to_thread(_answer, reading, market, settings, question.explain)
    return msgspec.convert(told, Advice)


def _answer(reading: Reading, market: Market, settings: Settings, explain: bool) -> dict[str, object]:
    """A tenth of a second of arithmetic: beside the event loop, on which agents' heartbeats wait."""
    return answer(advise(reading, market, settings, Estimator()), explain=explain)


async def _reading(site: Site, question: Question) -> Reading:
    lang: Lang = "pt-BR" if language() == "pt_BR" else "en"
    if site.reader is None or not question.llm:
        return read(question.text, lang)
    return await site.reader.read(question.text, ORGANISATION, lang)


async def _market(site: Site) -> Market:
    """What providers offer now; where none of them names a GPU (a trial on this machine), the price file."""
    acts, clock = site.parts.acts, site.parts.clock
    whole = not await site.parts.database.workspaces()  # then the listing is of every machine, and just refreshed
    found: list[Offer] = []
    unanswered: list[str] = []
    for provider in acts.providers.values():
        listed = acts.listing.offers.get(provider.name, ())
        offers: Sequence[Offer] = listed if whole else ()
        if not offers:
            offers, why = await site.glance.look(provider, listed, clock)
            unanswered += [why] if why else []
        found += [offer for offer in offers if offer.gpu]
    now, beliefs = clock.now().astimezone(), acts.listing.beliefs
    if not found and not unanswered:
        return Market(offers=dated_offers(), now=now, live=False, beliefs=beliefs)
    return Market(offers=found, now=now, live=True, beliefs=beliefs, notes=tuple(unanswered))
