"""The bills of a world: what is paid for, checked after every event against what was written down and is allowed."""

from datetime import datetime
from typing import TYPE_CHECKING

from dumont.control.history import FAILED_FOR, PROMOTED, REFUSED_FOR, RELEASING, RENT_FAILED
from dumont.control.view import Reason
from dumont.market.placement import satisfies
from dumont.model.instance import Instance, InstanceState, Machine
from dumont.model.offer import Offer
from dumont.model.policy import OnDemand
from dumont.model.workspace import State, Workspace
from dumont.provider.base import Why
from tests.simulation.checks import Broken

if TYPE_CHECKING:
    from tests.simulation.world import World

LOSERS_S_MAX = 90.0
"""A release takes so long at most: the worst outage of a world, and the longest pause before it is tried again."""
FLAPPING_S = 60.0
KNOWN_S = 0.1
"""What has been on offer for so long was seen by whoever decides now."""
_HOST_FAILED = (Why.FAILED, Why.OFFLINE)
_COUNTED = (InstanceState.INTENDED, InstanceState.RENTED)


class Bills:
    """Remembers which intents it has looked at, since when too much is paid, and since when what is on offer."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._looked_at: set[str] = set()
        self._too_many_since: float | None = None
        self._offers: tuple[Offer, ...] = ()
        self._offered_since = 0.0

    def after_event(self) -> None:
        """Called after every turn of the loop."""
        rows = self._world.database._instances
        for rented in self._world.provider.rented:
            if rented.label not in rows:
                raise Broken(f"I4: {rented.label} is rented and nobody wrote it down")
        self._look_at_offers()
        if len(rows) > len(self._looked_at):
            for row in [row for row in rows.values() if row.id not in self._looked_at]:
                self._looked_at.add(row.id)
                self._look_at_intent(row)
        self._count()

    def _look_at_offers(self) -> None:
        server = self._world.server
        found = server.listing.offers.get(self._world.provider.name, ()) if server else ()
        if found is not self._offers:
            self._offers, self._offered_since = found, self._world.clock.monotonic()

    def _look_at_intent(self, row: Instance) -> None:
        """What somebody decided to rent just now."""
        policy = self._world.policy
        if row.machine is Machine.GPU and not row.spot and policy.gpu.on_demand is OnDemand.NEVER:
            raise Broken(f"policy: {row.id} is on demand, which the policy forbids")
        failed, avoided = self._failed_hosts(row.created_at)
        if row.host not in failed or self._world.clock.monotonic() - self._offered_since < KNOWN_S:
            return
        need = policy.need(row.machine)
        others = [offer.host for offer in self._offers if satisfies(offer, need) and offer.host not in failed | avoided]
        if others:
            raise Broken(f"policy: {row.id} is on {row.host}, which failed; {', '.join(others)} are on offer")

    def _failed_hosts(self, now: datetime) -> tuple[set[str], set[str]]:
        """Hosts that came to nothing so lately that they are to be avoided, and others that failed or went offline."""
        found: set[str] = set()
        avoided: set[str] = set()
        for event in self._world.database._events.get("sim", []):
            host, age = str(event.facts.get("host", "")), now - event.at
            refused = event.kind == RENT_FAILED and age < REFUSED_FOR
            if refused or (event.kind == RELEASING and event.facts.get("failure") is True and age < FAILED_FOR):
                found.add(host)
            elif event.kind == RELEASING and event.facts.get("why") in _HOST_FAILED and age < FAILED_FOR:
                avoided.add(host)
        return found - {""}, avoided

    def _count(self) -> None:
        """No more GPUs than a race and the spares need: never more asked for, and the losers let go in time.

        One that was given notice does not count: its replacement is there already.
        """
        gpu, rows = self._world.policy.gpu, self._world.database._instances
        most = gpu.race + gpu.spares + 1
        leaving = {machine.id for machine in self._world.machines.values() if machine.leaving}
        gpus = [row for row in rows.values() if row.machine is Machine.GPU and not row.lost and row.id not in leaving]
        asked_for = [row.id for row in gpus if row.state in _COUNTED]
        if len(asked_for) > most:
            raise Broken(f"policy: {', '.join(asked_for)} are wanted at a time, and {most} are allowed")
        paid = {rented.label for rented in self._world.provider.rented} & {row.id for row in gpus}
        now = self._world.clock.monotonic()
        if len(paid) <= most:
            self._too_many_since = None
        elif self._too_many_since is None:
            self._too_many_since = now
        elif now - self._too_many_since > LOSERS_S_MAX:
            raise Broken(f"policy: {', '.join(sorted(paid))} have been paid for longer than a release takes")

    # --- at the end

    def is_settled(self, row: Workspace) -> bool:
        """One GPU, the spares that the policy allows, one CPU standby, and nothing else is paid for."""
        gpus, cpus = self._present(Machine.GPU), self._present(Machine.CPU)
        leads = row.primary_id in gpus or not row.policy.return_to_gpu or (self._is_flapping and row.ack_set <= gpus)
        return leads and 1 <= len(gpus) <= 1 + row.policy.gpu.spares and len(cpus) == 1 and self._is_exact(gpus | cpus)

    def is_settled_without_gpu(self, row: Workspace) -> bool:
        """No GPU is to be had: the CPU goes on alone. What was never launched waits."""
        gpus, cpus = self._present(Machine.GPU), self._present(Machine.CPU)
        goes_on = (row.primary_id in cpus and row.state is State.DEGRADED) or row.epoch == 0
        return goes_on and not gpus and len(cpus) == 1 and self._is_exact(cpus)

    @property
    def _is_flapping(self) -> bool:
        """Whether so much happened that the way back to the GPU is put off for a minute or more."""
        reasons = [event.facts.get("reason") for event in self._world.database._events["sim"] if event.kind == PROMOTED]
        moves = sum(reason in (Reason.FAILOVER, Reason.GIVE_UP) for reason in reasons)
        return self._world.policy.settle_s * 2.0**moves > FLAPPING_S

    def _present(self, machine: Machine) -> set[str]:
        rows = self._world.database._instances.values()
        return {row.id for row in rows if row.machine is machine and row.state in _COUNTED and not row.lost}

    def _is_exact(self, wanted: set[str]) -> bool:
        """Whether just these are paid for; a fenced machine that lives may take its time to keep its branch."""
        rows, machines = self._world.database._instances, self._world.machines
        paid = {rented.label for rented in self._world.provider.rented}
        return wanted <= paid and all(rows[one].lost and machines[one].alive for one in paid - wanted)
