"""The provider Google: the driver, and what a person asks of the account: a check, a trial, the market's history."""

from dataclasses import replace
from random import Random

from dumont.clock import Clock
from dumont.provider.check import Finding, Step
from dumont.provider.gce.account import Account
from dumont.provider.gce.check import Check
from dumont.provider.gce.driver import Driver, Script
from dumont.provider.gce.history import CapacityHistory, capacity_history
from dumont.provider.gce.prices import Prices
from dumont.provider.gce.trial import RUN_S_MAX, Trial, trial_script


class GceProvider(Driver):
    """Rents Google's machines. Close it with `close`.

    With `may_open_firewall` a check makes the firewall rule that it finds missing.
    """

    may_open_firewall = False

    def __init__(
        self, account: Account, script_for: Script, clock: Clock, rng: Random, prices: Prices | None = None
    ) -> None:
        super().__init__(account, script_for, clock, rng, prices)
        self._rng = rng

    async def capacity_history(self, zone: str, kind: str) -> CapacityHistory:
        """What Google tells of this type's past; its newest price then stands in our offers. Raises ProviderError."""
        told = await capacity_history(self.account, self.tools.calls, zone, kind)
        if told.prices:
            newest = told.prices[-1]
            self.prices.learn(zone, kind, newest.price_micros_per_hour, newest.until)
        return told

    async def check(self) -> list[Finding]:
        """What renting needs, and what of it is missing. Rents nothing; raises nothing that Google does."""
        look = Check(self.account, self.tools.calls, self.tools.machines, self.clock)
        return await look.findings(self.prices, self.may_open_firewall)

    async def probe(self) -> list[Step]:
        """Rent the cheapest machine for some minutes, confirm what we assume of Google, and end it, whatever happens.

        It is rented under an installation's name of its own, and with a run limit, should this process end.
        """
        account = replace(self.account, installation=f"{self.account.installation}-trial", run_s_max=RUN_S_MAX)
        driver = Driver(account, trial_script, self.clock, self._rng, self.prices)
        try:
            return await Trial(driver).run()
        finally:
            driver.close()
