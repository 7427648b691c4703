"""A trial of the live Vast.ai, for `dumont provider probe`: it rents the cheapest machine for some minutes and ends it.

Each step confirms or refutes one assumption that our contract of the service could not prove. Whatever happens, what
the trial rented is destroyed at its end, found by its label and by its number.
"""

import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from dumont.clock import Clock
from dumont.errors import NoCapacity, NoSuchInstance, ProviderError
from dumont.model.instance import Machine
from dumont.model.offer import Need, Offer
from dumont.provider.base import Boot, Machinery, Phase, Why
from dumont.provider.check import Outcome, Step
from dumont.provider.vast.client import KeyRefused, Refusal
from dumont.provider.vast.driver import Driver
from dumont.provider.vast.offers import BID, rows

PATIENCE_S = 900.0
POLL_S = 10.0
PRICE_MICROS_MAX = 300_000
BID_MARGIN = 1.25


class Refuted(Exception):
    """The service answered, and otherwise than our contract assumes."""


@dataclass
class Trial:
    """One run. `label` has to be new; at most `PRICE_MICROS_MAX` micro-dollars an hour are paid.

    `provider` has an installation's name of its own, all of whose machines are leftovers of trials. `stranger` has a
    key that the service does not know.
    """

    provider: Driver
    stranger: Driver
    clock: Clock
    label: str
    offer: Offer | None = None
    machine: Machinery | None = None

    async def run(self) -> list[Step]:
        """All steps; those after a failed one are skipped, the last, which cleans up, never is."""
        steps: list[Step] = []
        try:
            for name, assumption, act in self._story():
                if any(step.outcome is Outcome.FAILED for step in steps):
                    steps.append(Step(name=name, assumption=assumption, outcome=Outcome.SKIPPED))
                else:
                    steps.append(await _tried(name, assumption, act))
        finally:  # also when it is cancelled, or a bug of ours ends it
            gone = "a destroyed contract leaves the list within minutes"
            steps.append(await _tried("clean up", gone, self._clean_up))
        return steps

    def _story(self) -> list[tuple[str, str, Callable[[], Awaitable[str]]]]:
        return [
            ("wrong key", "an unknown key is refused with auth_error, also as a 404, and never as missing", self._key),
            ("search", "bid rows list a winning bid for the whole slice, at most 64 rows come", self._search),
            ("ids", "another search may name the same slice by another id", self._ids),
            ("create", "a bid at the listed floor with cancel_unavail wins, and answers with its number", self._create),
            ("label", "a contract is found by its label through the v1 list within seconds", self._listed),
            ("run", "cur_state, intended_status and actual_status all become running", self._runs),
            ("ports", "the opened ports are mapped under `ports` while it runs", self._ports),
            ("bid", "a bid may be changed while it runs", self._bid),
            ("stop", "a stop shows as cur_state stopped and is not taken for an eviction", self._stop),
            (
                "start",
                "a stopped machine starts again while its GPU is free, or says resources_unavailable",
                self._start,
            ),
            ("destroy", "destroying twice is harmless, and asking by name then denies it", self._destroy),
        ]

    async def _key(self) -> str:
        try:
            await self.stranger.roster.rows()
        except KeyRefused as error:
            return f"{error.status} {error.code}"
        except Refusal as error:
            raise Refuted(f"{error.status} {error.code}: {error}") from error
        raise Refuted("the list was answered")

    async def _search(self) -> str:
        offers = await self.provider.offers(Need(machine=Machine.GPU, disk_gb=10))
        cheap = [offer for offer in offers if 0 < offer.price_micros_per_hour <= PRICE_MICROS_MAX]
        if not cheap:
            raise NoCapacity(f"Nothing is offered below ${PRICE_MICROS_MAX / 1e6:.2f} an hour. Try again later.")
        reliable = [offer for offer in cheap if (offer.reliability or 0) >= 0.95]
        self.offer = (reliable or cheap)[0]
        return f"{len(offers)} offers, the cheapest is {_words(self.offer)}"

    async def _ids(self) -> str:
        filters = {"machine_id": {"eq": int(self._offer.host)}}
        ids = [sorted(row.ask for row in await rows(self.provider.client, filters, BID, 10)) for _ in range(2)]
        return "other ids" if ids[0] != ids[1] else "the same ids this time: nothing is refuted by that"

    async def _create(self) -> str:
        floor = self._offer.min_bid_micros_per_hour or self._offer.compute_micros_per_hour or 0
        self.offer = replace(self._offer, bid_micros_per_hour=int(floor * BID_MARGIN))
        self.machine = await self.provider.rent(self._offer, self.label, _no_boot())
        return f"instance {self.machine.ref}"

    async def _listed(self) -> str:
        began = self.clock.monotonic()
        await self._until(lambda machine: machine.label == self.label, "it is listed")
        again = await self.provider.rent(self._offer, self.label, _no_boot())
        if again.ref != self._machine.ref:
            raise Refuted(f"renting again under the label gave {again.ref}")
        return f"after {self.clock.monotonic() - began:.0f} s"

    async def _runs(self) -> str:
        began = self.clock.monotonic()
        machine = await self._until(lambda machine: machine.phase is Phase.RUNNING, "it runs")
        return f"after {self.clock.monotonic() - began:.0f} s at {machine.host}"

    async def _ports(self) -> str:
        machine = await self._until(lambda machine: "port/7022" in machine.facts, "its ports are mapped")
        return ", ".join(f"{name} → {value}" for name, value in machine.facts.items() if name.startswith("port/"))

    async def _bid(self) -> str:
        bid = self._offer.bid_micros_per_hour + 1_000
        await self.provider.change_bid(self._machine.ref, bid)
        machine = await self.provider.machine(self._machine.ref)
        return f"{bid} micro-dollars an hour; it now costs {machine.price_micros_per_hour}"

    async def _stop(self) -> str:
        await self.provider.stop(self._machine.ref)
        machine = await self._until(lambda machine: machine.phase is Phase.STOPPED, "it is stopped")
        if machine.why is not Why.ASKED:
            raise Refuted(f"it reads as {machine.why!r}")
        return "stopped"

    async def _start(self) -> str:
        try:
            await self.provider.start(self._machine.ref)
        except NoCapacity:
            return "its GPU was taken meanwhile; the queued start was cancelled"
        await self._until(lambda machine: machine.phase is Phase.RUNNING, "it runs again")
        return "it runs again"

    async def _destroy(self) -> str:
        ref = self._machine.ref
        await self.provider.release(ref)
        await self.provider.release(ref)
        try:
            await self.provider.machine(ref)
        except NoSuchInstance:
            return "gone"
        raise Refuted("it is still answered by its number")

    async def _clean_up(self) -> str:
        """All of this installation of trials: a create whose answer was lost, and what an earlier trial left."""
        left = [machine.ref for machine in await self.provider.machines()]
        if self.machine is not None:
            left.append(self.machine.ref)
        for ref in dict.fromkeys(left):
            await self.provider.release(ref)
        return f"{len(left)} contracts looked after, none is left"

    async def _until(self, true: Callable[[Machinery], bool], what: str) -> Machinery:
        """Poll until it is. Raises ProviderError after 15 min, or at once when it can't come up."""
        began = self.clock.monotonic()
        while True:
            machine = await self.provider.machine(self._machine.ref)
            if true(machine):
                return machine
            if machine.why is Why.FAILED:
                raise ProviderError(f"Instance {machine.ref} can't come up: {machine.facts.get('status', '')}")
            if self.clock.monotonic() - began > PATIENCE_S:
                raise ProviderError(f"After {PATIENCE_S:.0f} s it is not so that {what}; it is {machine.phase}.")
            await self.clock.sleep(POLL_S)

    @property
    def _offer(self) -> Offer:
        assert self.offer is not None, "no step after the search runs without an offer"
        return self.offer

    @property
    def _machine(self) -> Machinery:
        assert self.machine is not None, "no step after the create runs without a machine"
        return self.machine


def last_will(url: str) -> str:
    """The start script of a trial's machine: it destroys itself with its own key after half an hour."""
    program = (
        "import os,time,urllib.request as u;time.sleep(1800);"
        f"u.urlopen(u.Request('{url}/api/v0/instances/'+os.environ['CONTAINER_ID']+'/',b'{{}}',"
        "{'Authorization':'Bearer '+os.environ['CONTAINER_API_KEY'],'Content-Type':'application/json'},"
        "method='DELETE'))"
    )
    return f"nohup python3 -c {shlex.quote(program)} >/dev/null 2>&1 &\n"


async def _tried(name: str, assumption: str, act: Callable[[], Awaitable[str]]) -> Step:
    try:
        return Step(name=name, assumption=assumption, outcome=Outcome.CONFIRMED, detail=await act())
    except Refuted as error:
        return Step(name=name, assumption=assumption, outcome=Outcome.REFUTED, detail=str(error))
    except ProviderError as error:
        return Step(name=name, assumption=assumption, outcome=Outcome.FAILED, detail=str(error))


def _no_boot() -> Boot:
    return Boot(instance_id="probe", server_host="", server_port=1, ca_pem="", join_token="")


def _words(offer: Offer) -> str:
    price = offer.price_micros_per_hour / 1e6
    return f"{offer.name} on host {offer.host} in {offer.region or 'an untold country'} at ${price:.3f} an hour"
