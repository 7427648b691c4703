"""The hub: where agents, pulses and the gateway connect, say what they see, and are told what to be.

It is fed with links, whatever carries them, and decides nothing: what it hears goes to the observatory, what it tells
is given to it, whole, after each pass (level-triggered). The name on a link's certificate must be that in its messages.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import structlog

from dumont.clock import Clock
from dumont.control.observe import Observatory
from dumont.control.scrutiny import Scrutiny, Standing
from dumont.control.shelf import Shelf
from dumont.control.vault import Vault
from dumont.db.base import Database
from dumont.errors import BadInput, Corrupt, DumontError, LinkClosed, StoreError, WrongKey
from dumont.model.instance import Instance, InstanceState
from dumont.model.workspace import Workspace
from dumont.wire.control import (
    VERSION,
    AgentHello,
    Assignment,
    Beat,
    BeatReply,
    Status,
    Sync,
    Synced,
)
from dumont.wire.hub import FromHub, ToHub
from dumont.wire.identity import GATEWAY, token_hash
from dumont.wire.join import Join, Joined, JoinRefused
from dumont.wire.link import Link
from dumont.wire.route import GatewayHello, Probe, Route, Routes
from dumont.wire.store import VERSION as STORE_VERSION
from dumont.wire.store import FromStore, StoreHello, ToStore

STANDING_S_MAX = 1.0
"""How old what we read of ownership may be when a beat is answered with "you lead"."""

log = structlog.get_logger()


class Signer(Protocol):
    """Who makes an instance's certificate: an `Authority`, or nobody in a simulation."""

    def issue_instance(self, csr_pem: str, instance_id: str, workspace: str) -> str: ...


@dataclass
class Desk:
    """One connected engine or gateway: the newest thing it is to know, and questions to a primary."""

    link: Link[FromHub, ToHub]
    latest: Assignment | Routes | None = None
    sent: Assignment | Routes | None = None
    asks: deque[Sync] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, latest: Assignment | Routes) -> None:
        """Have `latest` delivered; an older one that is still unsent is skipped."""
        if latest != self.latest:
            self.latest = latest
            self.news.set()

    async def deliver(self) -> None:
        """Send what is new until the link closes."""
        while True:
            await self.news.wait()
            self.news.clear()
            if self.latest is not None and self.latest is not self.sent:
                self.sent = self.latest
                await self.link.send(self.latest)
            while self.asks:
                await self.link.send(self.asks.popleft())


class Hub:
    """All links of this server process. `changed` is set whenever something happened that a pass should look at."""

    def __init__(
        self, database: Database, observatory: Observatory, signer: Signer, vault: Vault, clock: Clock
    ) -> None:
        self._database = database
        self._observatory = observatory
        self._signer = signer
        self._vault = vault
        self._shelf = Shelf(vault, Scrutiny(vault).refusal)
        self._clock = clock
        self._agents: dict[str, Desk] = {}
        self._pulses: dict[str, Link[FromHub, ToHub]] = {}
        self._gateway: Desk | None = None
        self._assignments: dict[str, Assignment] = {}
        self._routes: Routes | None = None  # until the first pass: a gateway drops what it is not told of
        self._standing: dict[str, Standing] = {}
        self._standing_at = float("-inf")
        self._primaries: dict[str, str] = {}
        self._switching: set[str] = set()
        self._synced: dict[str, asyncio.Future[Synced]] = {}
        self.changed = asyncio.Event()

    # --- what the control loop gives us after each pass

    def own(self, workspaces: Iterable[Workspace], instances: Iterable[Instance], read_at: float) -> None:
        """What the database said at `read_at` (monotonic): who leads what. Beats are answered from it."""
        by_name = {workspace.name: workspace for workspace in workspaces}
        self._standing = {
            instance.id: Standing(workspace.name, workspace.epoch, workspace.primary_id == instance.id, instance.branch)
            for instance in instances
            if (workspace := by_name.get(instance.workspace))
        }
        self._standing_at = read_at
        self._primaries = {workspace.name: workspace.primary_id for workspace in by_name.values()}
        self._switching = {workspace.name for workspace in by_name.values() if workspace.switching_to}
        for gone in self._assignments.keys() - self._standing.keys():
            del self._assignments[gone]

    def assign(self, instance_id: str, assignment: Assignment) -> None:
        """What that instance is to be; sent if it changed, and at its next connect."""
        self._assignments[instance_id] = assignment
        if desk := self._agents.get(instance_id):
            desk.tell(assignment)

    def route(self, routes: Iterable[Route]) -> None:
        """All routes; sent to the gateway if they changed, and at its next connect."""
        self._routes = Routes(tuple(routes))
        if self._gateway:
            self._gateway.tell(self._routes)

    @property
    def gateway_connected(self) -> bool:
        """Whether a gateway is connected now."""
        return self._gateway is not None

    def close(self) -> None:
        """Close every link. The instances go on without us."""
        gateway = [self._gateway.link] if self._gateway else []
        for link in [desk.link for desk in self._agents.values()] + list(self._pulses.values()) + gateway:
            link.close()

    async def sync(self, workspace: str, timeout_s: float) -> Synced:
        """Have the primary take a barrier. Unknown, with a reason, when nobody answers within `timeout_s`."""
        request = secrets.token_hex(8)
        desk = self._agents.get(self._primaries.get(workspace, ""))
        if desk is None:
            return Synced(request, "unknown", reason="the primary is not connected to the server")
        answer: asyncio.Future[Synced] = asyncio.get_running_loop().create_future()
        self._synced[request] = answer
        desk.asks.append(Sync(request, timeout_s))
        desk.news.set()
        late = asyncio.create_task(self._clock.sleep(timeout_s + 1.0))
        try:
            waits: set[asyncio.Future[Any]] = {answer, late}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            return Synced(request, "unknown", reason=f"the primary did not answer within {timeout_s:g} s")
        finally:
            late.cancel()
            del self._synced[request]

    # --- links

    async def serve(self, link: Link[FromHub, ToHub]) -> None:
        """Serve one link until either side closes it."""
        try:
            first = await link.receive()
            match first:
                case Join():
                    await self._join(link, first)
                case GatewayHello():
                    await self._serve_gateway(link, first)
                case AgentHello():
                    _same(first.version, VERSION)
                    await self._serve_agent(link, self._named(link, first.instance_id))
                case Beat():
                    await self._serve_pulse(link, first)
                case StoreHello():
                    _same(first.version, STORE_VERSION)
                    name = self._named(link, first.instance_id)
                    await self._shelf.serve(cast(Link[FromStore, ToStore], link), lambda: self._standing_of(name))
                case _:
                    raise BadInput(f"a link can't begin with {type(first).__name__}")
        except (BadInput, Corrupt) as error:
            log.warning("a link was refused", peer=link.peer, why=str(error))
        except (StoreError, WrongKey) as error:  # whoever dialled tries again
            log.error("a workspace's part of the store can't be used", peer=link.peer, why=str(error))
        except LinkClosed:
            pass
        finally:
            link.close()

    async def _join(self, link: Link[FromHub, ToHub], join: Join) -> None:
        await link.send(await self._certified(link.peer, join))
        await self._hang_up(link)

    async def _certified(self, peer: str, join: Join) -> Joined | JoinRefused:
        """A certificate against the single-use token, or a fresh one for who already holds one."""
        instance = await self._database.instance(join.instance_id)
        if instance is None or instance.state not in (InstanceState.INTENDED, InstanceState.RENTED):
            return JoinRefused("the server expects no such instance")
        keys = (await self._vault.open(instance.workspace)).keys  # before the token is spent: the store may be away
        if peer != instance.id and not await self._database.spend_token(instance.id, token_hash(join.token)):
            return JoinRefused("the token is wrong or was used before")
        try:
            certificate = self._signer.issue_instance(join.csr, instance.id, instance.workspace)
        except BadInput as error:
            return JoinRefused(str(error))
        log.info("an instance joined", instance=instance.id, workspace=instance.workspace)
        return Joined(certificate, keys.chunk_key)

    async def _hang_up(self, link: Link[FromHub, ToHub]) -> None:
        """Let the other side read our last word and close; at most a second."""
        reading = asyncio.create_task(link.receive())
        late = asyncio.create_task(self._clock.sleep(1.0))
        await asyncio.wait({reading, late}, return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, late):
            task.cancel()
        await asyncio.gather(reading, late, return_exceptions=True)

    async def _serve_agent(self, link: Link[FromHub, ToHub], instance_id: str) -> None:
        desk = Desk(link)
        if previous := self._agents.get(instance_id):
            previous.link.close()
        self._agents[instance_id] = desk
        self._observatory.agent_opened(instance_id)
        if assignment := self._assignments.get(instance_id):
            desk.tell(assignment)
        self.changed.set()
        delivering = asyncio.create_task(_until_closed(desk))
        try:
            while True:
                self._heard(instance_id, await link.receive())
        finally:
            delivering.cancel()
            if self._agents.get(instance_id) is desk:
                del self._agents[instance_id]
                self._observatory.agent_closed(instance_id)
                self.changed.set()

    def _heard(self, instance_id: str, message: ToHub) -> None:
        match message:
            case Status():
                if message.instance_id != instance_id:
                    raise BadInput(f"{instance_id} spoke in the name of {message.instance_id}")
                standing = self._standing.get(instance_id)
                news = self._observatory.status(message)
                if news or (standing and standing.workspace in self._switching):
                    self.changed.set()
            case Synced():
                answer = self._synced.get(message.request)
                if answer and not answer.done():
                    answer.set_result(message)
            case _:
                raise BadInput(f"an agent does not say {type(message).__name__}")

    async def _serve_pulse(self, link: Link[FromHub, ToHub], first: Beat) -> None:
        instance_id = self._named(link, first.instance_id)
        if previous := self._pulses.get(instance_id):
            previous.close()
        self._pulses[instance_id] = link
        self._observatory.pulse_opened(instance_id)
        self.changed.set()
        message: ToHub = first
        try:
            while True:
                if not isinstance(message, Beat) or message.instance_id != instance_id:
                    raise BadInput(f"the pulse of {instance_id} says only its own beats")
                self._observatory.beat(message)
                await link.send(self._reply(message))
                message = await link.receive()
        finally:
            if self._pulses.get(instance_id) is link:
                del self._pulses[instance_id]
                self._observatory.pulse_closed(instance_id)
                self.changed.set()

    def _reply(self, beat: Beat) -> BeatReply:
        """Never "you lead" from what the database said long ago: we may have been frozen while another was promoted."""
        standing = self._standing.get(beat.instance_id)
        if standing is None:
            return BeatReply(0, False, beat.sent_at)
        fresh = self._clock.monotonic() - self._standing_at <= STANDING_S_MAX
        return BeatReply(standing.epoch, standing.leads and fresh, beat.sent_at)

    async def _serve_gateway(self, link: Link[FromHub, ToHub], hello: GatewayHello) -> None:
        if link.peer != GATEWAY:
            raise BadInput(f"{link.peer or 'somebody nameless'} is no gateway")
        _same(hello.version, VERSION)
        if self._gateway:
            self._gateway.link.close()
        desk = self._gateway = Desk(link)
        self._observatory.gateway_opened()
        if self._routes is not None:
            desk.tell(self._routes)
        self.changed.set()
        delivering = asyncio.create_task(_until_closed(desk))
        try:
            while True:
                message = await link.receive()
                if not isinstance(message, Probe):
                    raise BadInput(f"a gateway does not say {type(message).__name__}")
                if self._observatory.probe(message):
                    self.changed.set()
        finally:
            delivering.cancel()
            if self._gateway is desk:
                self._gateway = None
                self._observatory.gateway_closed()
                self.changed.set()

    def _named(self, link: Link[FromHub, ToHub], instance_id: str) -> str:
        """`instance_id` if that is the name on the link's certificate. Raises BadInput."""
        if not instance_id or link.peer != instance_id:
            raise BadInput(f"{link.peer or 'somebody nameless'} claims to be {instance_id!r}")
        return instance_id

    def _standing_of(self, instance_id: str) -> Standing:
        standing = self._standing.get(instance_id)
        if standing is None:
            raise BadInput(f"{instance_id} belongs to no workspace")
        return standing


async def _until_closed(desk: Desk) -> None:
    try:
        await desk.deliver()
    except DumontError:
        desk.link.close()  # the reading side notices and cleans up


def _same(theirs: int, ours: int) -> None:
    if theirs != ours:
        raise BadInput(f"it speaks version {theirs} of the protocol, we speak {ours}; upgrade the older side")
