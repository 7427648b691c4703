"""The provider Vast.ai: the driver, and what a person asks of the account before trusting it.

provider = VastProvider(settings, http, clock, rng)
"""

from dataclasses import replace

from dumont.provider.base import Boot, Offer
from dumont.provider.check import Finding, Step
from dumont.provider.vast.driver import Driver
from dumont.provider.vast.findings import findings
from dumont.provider.vast.trial import Trial, last_will

TRIAL = "trial"
"""Marks the labels of trials beside the installation's name, so that nobody takes a trial's machine for an orphan."""


class VastProvider(Driver):
    """What the composition root makes."""

    async def check(self) -> list[Finding]:
        """What renting needs, and what of it is missing. Rents nothing; raises nothing that the provider does."""
        return await findings(self)

    async def probe(self) -> list[Step]:
        """Rent the cheapest machine, confirm what we assume of the service, and end it, whatever happens.

        Its machine ends itself after half an hour, should this server not live to do it.
        """

        def script_for(boot: Boot, offer: Offer) -> str:
            return last_will(self.settings.url)

        settings = replace(self.settings, installation=f"{self.settings.installation}.{TRIAL}", script_for=script_for)
        trying = Driver(settings, self._http, self._clock, self._rng, self._limiters)
        stranger = Driver(replace(settings, key="0" * 64), self._http, self._clock, self._rng)
        label = f"{TRIAL}-{self._rng.getrandbits(32):08x}"
        return await Trial(trying, stranger, self._clock, label).run()
