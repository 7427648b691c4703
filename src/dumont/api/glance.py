"""A glance: everything that a provider has for rent, seen a short while ago; providers allow few searches a minute."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from dumont.clock import Clock
from dumont.errors import ProviderError
from dumont.model.instance import Machine
from dumont.model.offer import Need, Offer
from dumont.provider.base import Provider

ANY_GPU = Need(machine=Machine.GPU, gpus=1, on_demand=True)
FRESH_S = 120.0
RETRY_S = 30.0
"""A provider that did not answer is not asked again for so long: the next person should not wait for the same."""
ASK_S_MAX = 20.0


@dataclass
class Glance:
    """What each provider offered, until when that counts (monotonic seconds), and why it is no more than that.

    One search at a time.
    """

    seen: dict[str, tuple[float, Sequence[Offer], str]] = field(default_factory=dict)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self, provider: Provider, listed: Sequence[Offer], clock: Clock) -> tuple[Sequence[Offer], str]:
        """Its offers, asked for at most every FRESH_S; when it does not answer, those `listed`, and why."""
        async with self.asking:
            until, offers, why = self.seen.get(provider.name, (float("-inf"), (), ""))
            if clock.monotonic() >= until:
                offers, why = await _ask(provider, listed)
                self.seen[provider.name] = (clock.monotonic() + (RETRY_S if why else FRESH_S), offers, why)
            return offers, why


async def _ask(provider: Provider, listed: Sequence[Offer]) -> tuple[Sequence[Offer], str]:
    try:
        async with asyncio.timeout(ASK_S_MAX):
            return tuple(await provider.offers(ANY_GPU)), ""
    except TimeoutError:
        return listed, f"{provider.name}: no answer within {ASK_S_MAX:.0f} s; used is what it offered before"
    except ProviderError as error:
        return listed, f"{provider.name}: {error}"
