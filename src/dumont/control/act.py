"""Acting: carry out what `decide` asks for, each step written down first, safe to repeat, and fenced by the row it saw.

Nothing here waits for a provider: renting and releasing go on in tasks of their own, so that a slow provider never
delays a failover. Whatever is interrupted is found again by the next pass, in the records.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import structlog

from dumont.clock import Clock
from dumont.control.history import EVENTS_MAX, PROMOTED, RELEASING, RENT_FAILED, SWITCH_BEGAN, History
from dumont.control.listing import Listing
from dumont.control.view import (
    Action,
    Become,
    BeginSwitch,
    ChangeAckSet,
    Fence,
    Notify,
    Promote,
    Release,
    Rent,
    Snapshot,
)
from dumont.db.base import Database
from dumont.errors import DumontError, IllegalMove, NoCapacity, ProviderError
from dumont.market.cost import machine_micros
from dumont.model.event import Event
from dumont.model.instance import Instance, InstanceState
from dumont.model.offer import Interruption
from dumont.model.workspace import Workspace, move
from dumont.provider.base import Boot, Offer, Provider, Why
from dumont.wire.identity import token_hash

RETRY_S = 1.0
RETRY_S_MAX = 60.0
_ID_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"

Fact = str | int | float | bool
log = structlog.get_logger()


@dataclass(frozen=True)
class Landing:
    """How a new machine finds this server: the hub's port, our authority, and the token made for an instance's id.

    `agent_port` and `agent_sha256` are where it fetches the agent's code, and what that must be (`control.handout`).
    `join_within_s` and `orphan_after_s`: when it ends itself (`provider.base.Boot`).
    """

    server_port: int
    ca_pem: str
    token_for: Callable[[str], str]
    agent_port: int = 0
    agent_sha256: str = ""
    join_within_s: float = 0.0
    orphan_after_s: float = 0.0


@dataclass
class Errand:
    """Something asked of a provider for one instance, in a task of its own. Tried again not before `not_before`."""

    task: asyncio.Task[None] | None = None
    failures: int = 0
    not_before: float = 0.0


class Acts:
    """The hands of the control loop. Methods are called with the workspace's lock held, which errands take too."""

    def __init__(
        self, database: Database, providers: Mapping[str, Provider], landing: Landing, clock: Clock, rng: Random
    ) -> None:
        self.database = database
        self.providers = providers
        self.clock = clock
        self.listing = Listing(database, clock)
        self._landing = landing
        self._rng = rng
        self._histories: dict[str, History] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._errands: dict[str, Errand] = {}

    def lock(self, workspace: str) -> asyncio.Lock:
        """Who changes a workspace's records, or its instances', holds this."""
        return self._locks.setdefault(workspace, asyncio.Lock())

    async def history(self, workspace: str) -> History:
        """What happened lately, read once from the database and kept up to date by `note`."""
        if workspace not in self._histories:
            self._histories[workspace] = History(await self.database.events(workspace, EVENTS_MAX))
        return self._histories[workspace]

    async def note(self, workspace: str, kind: str, facts: Mapping[str, Fact]) -> None:
        """Add an event to the timeline."""
        event = Event(workspace=workspace, at=self.clock.now(), kind=kind, facts=dict(facts))
        history = await self.history(workspace)
        await self.database.add_event(event)
        history.add(event)
        log.info(kind, workspace=workspace, **{f"fact_{name}": value for name, value in event.facts.items()})

    async def do(self, action: Action, row: Workspace) -> bool:
        """Carry one action out on the row that was seen. False when the row is no longer so: look again."""
        match action:
            case Promote():
                return await self.database.promote(
                    row, primary_id=action.instance_id, epoch=action.epoch, ack_set=action.ack_set
                )
            case ChangeAckSet():
                return await self.database.change_ack_set(row, action.ack_set)
            case BeginSwitch():
                return await self.database.begin_switch(row, action.to)
            case Fence():
                return await self._fence(action)
            case Rent():
                return await self._rent(action, row)
            case Release():
                return await self._release(action)
            case Become():
                return await self._become(action, row)
            case Notify():
                await self.note(row.name, action.kind, action.facts)
            case Snapshot():
                pass  # the primary stores by itself, every `store_every_s` of its assignment
        return True

    async def written(self, action: Promote | ChangeAckSet | BeginSwitch, row: Workspace) -> None:
        """Add a change of ownership to the timeline; a step of its own, so that the agents are told first."""
        match action:
            case Promote():
                facts: dict[str, Fact] = {"reason": action.reason.value, "instance": action.instance_id}
                await self.note(row.name, PROMOTED, facts | {"epoch": action.epoch})
            case ChangeAckSet():
                facts = {"reason": action.reason, "members": ", ".join(sorted(action.ack_set))}
                await self.note(row.name, "ack_set", facts | {"epoch": row.epoch})
            case BeginSwitch():
                await self.note(row.name, SWITCH_BEGAN, {"to": action.to, "epoch": row.epoch})

    async def _fence(self, action: Fence) -> bool:
        instance = await self.database.instance(action.instance_id)
        if instance is None or instance.state is InstanceState.GONE:
            return False
        await self.database.save_instance(replace(instance, lost=True, branch=action.branch))
        await self.note(instance.workspace, "fenced", {"instance": instance.id, "branch": action.branch})
        return True

    async def _become(self, action: Become, row: Workspace) -> bool:
        present = await self.database.workspace(row.name)
        try:
            moved = move(present, action.state)
        except IllegalMove:
            if present.state is row.state:
                raise  # a bug of ours, not a race
            return False
        await self.database.describe(replace(moved, single_copy_since=action.single_copy_since))
        return True

    # --- errands: what a provider is asked, in tasks of their own

    async def _rent(self, action: Rent, row: Workspace) -> bool:
        offer = action.offer
        name = "".join(self._rng.choice(_ID_LETTERS) for _ in range(5))
        instance_id = f"{action.machine.value}-{name}"
        instance = Instance(
            id=instance_id,
            workspace=row.name,
            machine=action.machine,
            provider=offer.provider,
            state=InstanceState.INTENDED,
            price_micros_per_hour=offer.price_micros_per_hour,
            created_at=self.clock.now(),
            token_hash=token_hash(self._landing.token_for(instance_id)),
            product=offer.product,
            region=offer.region,
            host=offer.host,
            domain=offer.domain,
            spot=offer.spot,
            boot_s_max=offer.boot_s_max,
            bid_micros_per_hour=machine_micros(offer) if offer.interruption is Interruption.OUTBID else 0,
        )
        await self.database.add_instance(instance)
        await self.note(row.name, "renting", {"instance": instance_id, "offer": offer.name, "provider": offer.provider})
        self._start(instance_id, self._rent_errand(instance, offer))
        return True

    async def _release(self, action: Release) -> bool:
        instance = await self.database.instance(action.instance_id)
        if instance is None or instance.state is InstanceState.GONE:
            return False
        if instance.state is not InstanceState.RELEASING:
            ended = action.why.value or action.reason.value
            let_go = replace(instance, state=InstanceState.RELEASING, ended=ended, ended_at=self.clock.now())
            await self.database.save_instance(let_go)
            self.listing.learner.note(await self.database.instance(instance.id) or let_go)  # as the record has it
            host = "" if instance.state is InstanceState.INTENDED else instance.host  # it was perhaps never asked
            facts: dict[str, Fact] = {"instance": instance.id, "reason": action.reason.value, "host": host}
            facts["machine"] = instance.machine.value
            if action.why is not Why.UNTOLD:
                facts["why"] = action.why.value
            await self.note(instance.workspace, RELEASING, facts | {"failure": action.reason.is_failure})
        self.resume(replace(instance, state=InstanceState.RELEASING))
        return True

    def resume(self, instance: Instance) -> None:
        """Go on with what a record says was begun, unless it is going on already or has to wait a little."""
        if instance.state is InstanceState.INTENDED:
            if offer := _like(instance, self.listing.offers.get(instance.provider, ())):
                self._start(instance.id, self._rent_errand(instance, offer))
        elif instance.state is InstanceState.RELEASING:
            self._start(instance.id, self._release_errand(instance))

    def is_busy(self, instance_id: str) -> bool:
        """Whether a provider is being asked about that instance right now."""
        errand = self._errands.get(instance_id)
        return errand is not None and errand.task is not None and not errand.task.done()

    async def close(self) -> None:
        """Drop all errands; the records tell the next process what was begun."""
        tasks = [errand.task for errand in self._errands.values() if errand.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, instance_id: str, work: Coroutine[Any, Any, None]) -> None:
        errand = self._errands.setdefault(instance_id, Errand())
        if self.is_busy(instance_id) or self.clock.monotonic() < errand.not_before:
            work.close()
            return
        errand.task = asyncio.create_task(self._run(instance_id, errand, work))

    async def _run(self, instance_id: str, errand: Errand, work: Coroutine[Any, Any, None]) -> None:
        """One try. A provider that errs is asked again later, ever more slowly; its error says nothing of machines."""
        wait_s = min(RETRY_S * 2.0**errand.failures, RETRY_S_MAX)
        errand.failures += 1
        errand.not_before = self.clock.monotonic() + wait_s
        try:
            await work
        except DumontError as error:
            log.warning("a provider did not do as asked", instance=instance_id, why=str(error), again_in_s=wait_s)
        else:
            errand.failures, errand.not_before = 0, 0.0

    async def _rent_errand(self, instance: Instance, offer: Offer) -> None:
        provider = self.providers[instance.provider]
        boot = Boot(
            instance_id=instance.id,
            server_host=provider.server_host,
            server_port=self._landing.server_port,
            ca_pem=self._landing.ca_pem,
            join_token=self._landing.token_for(instance.id),
            agent_port=self._landing.agent_port,
            agent_sha256=self._landing.agent_sha256,
            join_within_s=self._landing.join_within_s,
            orphan_after_s=self._landing.orphan_after_s,
        )
        began = self.clock.monotonic()
        present = await self.database.instance(instance.id)
        if present is None or present.state is not InstanceState.INTENDED:
            return  # the row that we were started on was an old one
        try:
            machine = await provider.rent(offer, instance.id, boot)
        except NoCapacity as error:
            self.listing.drop(offer)
            refusal = {"why": str(error), "host": offer.host, "machine": instance.machine.value}
            await self._end(instance.id, RENT_FAILED, refusal, only=InstanceState.INTENDED)
            return
        async with self.lock(instance.workspace):
            now = await self.database.instance(instance.id)
            if now is None:
                return  # the sweeper finds a machine without a record
            state = InstanceState.RENTED if now.state is InstanceState.INTENDED else now.state
            await self.database.save_instance(replace(now, state=state, provider_ref=machine.ref))
            took_ms = round((self.clock.monotonic() - began) * 1000)
            facts: dict[str, Fact] = {"instance": instance.id, "machine": instance.machine.value, "rent_ms": took_ms}
            price = instance.price_micros_per_hour
            await self.note(instance.workspace, "rented", facts | {"price_micros_per_hour": price})

    async def _release_errand(self, instance: Instance) -> None:
        provider = self.providers.get(instance.provider)
        if provider is None:
            raise ProviderError(f"the provider {instance.provider} of {instance.id} is not configured any more")
        refs = {instance.provider_ref} if instance.provider_ref else set()
        if not refs:  # rented or not, nobody wrote it down: the provider knows it by its label
            refs = {machine.ref for machine in await provider.machines() if machine.label == instance.id}
        for ref in sorted(refs):
            await provider.release(ref)
        await self._end(instance.id, "released", {}, only=InstanceState.RELEASING)

    async def _end(self, instance_id: str, kind: str, facts: Mapping[str, Fact], only: InstanceState) -> None:
        """The provider confirmed that there is no machine (any more): the record is GONE."""
        found = await self.database.instance(instance_id)
        if found is None:
            return
        async with self.lock(found.workspace):
            now = await self.database.instance(instance_id)
            if now is None or now.state is not only:
                return
            await self.database.save_instance(replace(now, state=InstanceState.GONE, gone_at=self.clock.now()))
            await self.note(now.workspace, kind, {"instance": instance_id, **facts})
        self._errands.pop(instance_id, None)


def _like(instance: Instance, offers: Iterable[Offer]) -> Offer | None:
    """The offer that an intent was written for, as far as one can tell: its id may have changed since."""
    fitting = [offer for offer in offers if offer.machine is instance.machine and offer.spot is instance.spot]
    same = [offer for offer in fitting if _place(offer) == _place(instance)]
    return min(same, key=lambda offer: (offer.price_micros_per_hour, offer.id), default=None)


def _place(one: Offer | Instance) -> tuple[str, str, str, str]:
    """What was decided on beside the price. A machine elsewhere might share a domain, or be on a host that failed."""
    return (one.product, one.region, one.host, one.domain)
