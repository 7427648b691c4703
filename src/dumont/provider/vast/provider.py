"""The provider Vast.ai: the driver, and what a person asks of the account before trusting it.

provider = VastProvider(settings, http, clock, rng)
"""

from dataclasses import replace
from random import Random

import httpx

from dumont.clock import Clock
from dumont.provider.base import Boot, Offer
from dumont.provider.check import Finding, Step
from dumont.provider.vast.driver import Driver, Settings
from dumont.provider.vast.findings import findings
from dumont.provider.vast.limiter import Limiters
from dumont.provider.vast.trial import Trial, last_will

TRIAL = "trial"
"""Marks the labels of trials beside the installation's name, so that nobody takes a trial's machine for an orphan."""


class VastProvider(Driver):
    """What the composition root makes."""

    def __init__(
        self,
        settings: Settings,
        http: httpx.AsyncClient,
        clock: Clock,
        rng: Random,
        limiters: Limiters | None = None,
    ) -> None:
        self._limiters = limiters or Limiters(clock)
        self._made_of = (http, clock, rng)
        super().__init__(settings, http, clock, rng, self._limiters)

    async def check(self) -> list[Finding]:
        """What renting needs, and what of it is missing. Rents nothing; raises nothing that the provider does."""
        return await findings(self)

    async def probe(self) -> list[Step]:
        """Rent the cheapest machine, confirm what we assume of the service, and end it, whatever happens.

        Its machine ends itself after half an hour, should this server not live to do it.
        """
        http, clock, rng = self._made_of

        def script_for(boot: Boot, offer: Offer) -> str:
            return last_will(self.settings.url)

        settings = replace(self.settings, installation=f"{self.settings.installation}.{TRIAL}", script_for=script_for)
        trying = Driver(settings, http, clock, rng, self._limiters)
        stranger = Driver(replace(settings, key="0" * 64), http, clock, rng)
        label = f"{TRIAL}-{rng.getrandbits(32):08x}"
        return await Trial(trying, stranger, clock, label).run()
