"""A glance: everything that a provider has for rent, seen a short while ago; providers allow few searches a minute."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from dumont.errors import ProviderError
from dumont.model.instance import Machine
from dumont.model.offer import Need, Offer
from dumont.provider.base import Provider

ANY_GPU = Need(machine=Machine.GPU, gpus=1, on_demand=True)
FRESH_S = 120.0
ASK_S_MAX = 20.0


@dataclass
class Glance:
    """What each provider offered, and when (monotonic seconds). One search of a provider at a time."""

    seen: dict[str, tuple[float, tuple[Offer, ...]]] = field(default_factory=dict)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self, provider: Provider, listed: Sequence[Offer], now_s: float) -> tuple[Sequence[Offer], str]:
        """Its offers, asked for at most every FRESH_S; when it does not answer, those `listed`, and why."""
        async with self.asking:
            at, offers = self.seen.get(provider.name, (float("-inf"), ()))
            if now_s - at <= FRESH_S:
                return offers, ""
            try:
                async with asyncio.timeout(ASK_S_MAX):
                    found = tuple(await provider.offers(ANY_GPU))
            except TimeoutError:
                return listed, f"{provider.name}: no answer within {ASK_S_MAX:.0f} s; used is what it offered before"
            except ProviderError as error:
                return listed, f"{provider.name}: {error}"
            self.seen[provider.name] = (now_s, found)
            return found, ""
