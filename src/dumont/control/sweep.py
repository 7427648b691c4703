"""The sweeper: compares what each provider lists with what we wrote down, and ends what nobody asked for (I4).

A provider that errs says nothing about any machine (I6): its phases become unknown, and nothing else follows.
"""

import asyncio
from dataclasses import replace

import structlog

from dumont.clock import Clock
from dumont.control.act import Acts
from dumont.control.observe import Observatory
from dumont.errors import NoSuchInstance, ProviderError
from dumont.market.lives import TAKEN
from dumont.model.instance import Instance, InstanceState
from dumont.provider.base import Machinery, Phase, Provider, Why

SWEEP_S = 5.0
MISSING_MAX = 2
"""So many lists in a row must lack a machine before the provider is asked about it by name."""

log = structlog.get_logger()


class Sweeper:
    """Two loops per provider: its machines, and the listing that decisions are made on. Neither waits for the other: a
    search may have to wait for its turn, and machines must be known meanwhile.
    """

    def __init__(self, acts: Acts, observatory: Observatory, clock: Clock, offers_every_s: float = 0.0) -> None:
        self._acts = acts
        self._observatory = observatory
        self._clock = clock
        self._offers_every_s = offers_every_s
        self._missing: dict[str, int] = {}

    async def run(self, provider: Provider) -> None:
        """Sweep and list for ever."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._sweep_for_ever(provider))
            loops.create_task(self._list_for_ever(provider))

    async def list_offers(self, provider: Provider) -> None:
        """Its offers, once. Raises nothing that a provider does: what it offered before stands."""
        try:
            await self._acts.listing.refresh(provider)
        except ProviderError as error:
            log.warning("a provider's offers are not known anew", provider=provider.name, why=str(error))

    async def sweep(self, provider: Provider) -> None:
        """Its machines, once. Raises nothing that a provider does."""
        before = [row for row in await self._acts.database.instances() if row.provider == provider.name]
        try:
            machines = await provider.machines()
        except ProviderError as error:
            log.warning("a provider does not answer", provider=provider.name, why=str(error))
            for row in before:
                self._saw(row.id, Phase.UNKNOWN)
            return
        # Read after the list: an intent is written before a machine is rented, so no listed machine is newer than it.
        for machine in machines:
            found = await self._acts.database.instance(machine.label)
            if found is None or found.state is InstanceState.GONE:
                await self._end(provider, machine, found)
            else:
                self._missing.pop(found.id, None)
                self._saw(found.id, machine.phase, machine.why)
                await self._note_taken(found, machine)
        listed = {machine.label for machine in machines}
        for row in before:
            if row.state is InstanceState.RENTED and row.id not in listed:
                await self._look_for(provider, row)

    async def _look_for(self, provider: Provider, row: Instance) -> None:
        """A machine is missing from the list: unknown, until the provider twice left it out and denies it by name."""
        self._missing[row.id] = self._missing.get(row.id, 0) + 1
        if self._missing[row.id] < MISSING_MAX:
            return
        try:
            machine = await provider.machine(row.provider_ref)
        except NoSuchInstance:
            self._saw(row.id, Phase.GONE)
        except ProviderError:
            self._saw(row.id, Phase.UNKNOWN)
        else:
            self._saw(row.id, machine.phase, machine.why)

    async def _note_taken(self, row: Instance, machine: Machinery) -> None:
        """What the provider took away is written down at once: it may come back, or be let go for another reason."""
        if row.ended or machine.why not in TAKEN or row.state is not InstanceState.RENTED:
            return
        taken = replace(row, ended=machine.why.value, ended_at=self._clock.now())
        await self._acts.database.save_instance(taken)
        self._acts.listing.learner.note(taken)

    async def _sweep_for_ever(self, provider: Provider) -> None:
        while True:
            await self.sweep(provider)
            await self._clock.sleep(SWEEP_S)

    async def _list_for_ever(self, provider: Provider) -> None:
        """No more often than `offers_every_s`: a provider of the network allows few searches a minute."""
        while True:
            await self.list_offers(provider)
            await self._clock.sleep(max(self._offers_every_s, SWEEP_S))

    async def _end(self, provider: Provider, machine: Machinery, row: Instance | None) -> None:
        try:
            await provider.release(machine.ref)
        except ProviderError as error:
            log.warning("an unknown machine could not be ended", machine=machine.ref, why=str(error))
            return
        log.warning("an unknown machine was ended", provider=provider.name, machine=machine.ref, label=machine.label)
        if row is not None:
            facts = {"instance": row.id, "machine": machine.ref}
            await self._acts.note(row.workspace, "orphan_ended", facts)

    def _saw(self, instance_id: str, phase: Phase, why: Why = Why.UNTOLD) -> None:
        self._observatory.phase(instance_id, phase, why)
