"""The control loop with the real hub, acts and `decide`, and agents that say what a test makes them say."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
import pytest

from dumont.control.act import Acts, Landing
from dumont.control.ask import Parts, release_everything
from dumont.control.hub import Hub
from dumont.control.observe import Observatory
from dumont.control.shell import Shell
from dumont.control.sweep import Sweeper
from dumont.control.vault import Vault
from dumont.db.memory import MemoryDatabase
from dumont.errors import ProviderError
from dumont.model.commit import CommitId
from dumont.model.instance import Instance, InstanceState, Machine, Role
from dumont.model.policy import Policy
from dumont.model.workspace import State, Wanted, Workspace
from dumont.provider.base import Boot, Need
from dumont.provider.memory import MemoryProvider
from dumont.store.memory import MemoryStore
from dumont.wire.control import (
    VERSION,
    AgentHello,
    Assignment,
    Beat,
    BeatReply,
    BranchSaved,
    Endpoints,
    PeerStatus,
    Status,
    Sync,
    Synced,
)
from dumont.wire.route import GatewayHello, Routes
from tests.unit.memory_link import Line, line

START = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = 200


class HandClock:
    """Moved by hand; a sleep ends when somebody moved it far enough."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time

    def now(self) -> datetime:
        return START + timedelta(seconds=self.time)

    async def sleep(self, seconds: float) -> None:
        until = self.time + seconds
        while self.time < until:
            await asyncio.sleep(0)


@dataclass
class World:
    """One server over memory, one workspace called `train`."""

    clock: HandClock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        self.database = MemoryDatabase(self.clock)
        self.provider = MemoryProvider(self.clock, Random(1))
        self.tasks: list[asyncio.Task[None]] = []
        self.restart()

    def restart(self) -> None:
        """Another server process over the same database and provider."""
        landing = Landing(server_port=1, ca_pem="", token_for=lambda instance_id: f"token of {instance_id}")
        self.observatory = Observatory(self.clock)
        self.acts = Acts(self.database, {"memory": self.provider}, landing, self.clock, Random(2))
        vault = Vault(MemoryStore(), bytes(32), Random(3).randbytes)
        self.hub = Hub(self.database, self.observatory, Signer(), vault, self.clock)
        self.shell = Shell(self.acts, self.hub, self.observatory, self.clock)
        self.sweeper = Sweeper(self.acts, self.observatory, self.clock)

    async def launch(self) -> None:
        row = Workspace(name="train", created_at=self.clock.now(), policy=Policy(), ssh_port=1, http_port=2)
        await self.database.add_workspace(row)
        await self.sweeper.list_offers(self.provider)  # type: ignore[arg-type]
        await self.sweeper.sweep(self.provider)
        await self.passes()

    async def passes(self, seconds: float = 0.0) -> None:
        """Let the loop do what there is to do, for that long."""
        for _ in range(max(3, round(seconds * 10))):
            if seconds:
                self.clock.time += 0.1
            await settle()
            await self.shell.pass_all()
        await settle()

    async def row(self) -> Workspace:
        return await self.database.workspace("train")

    def connect(self, peer: str) -> Line:
        far, near = line(peer)
        self.tasks.append(asyncio.create_task(self.hub.serve(near)))  # type: ignore[arg-type]
        return far

    async def agents(self) -> dict[Machine, "Agent"]:
        """An agent for each machine that is rented, connected."""
        return {one.machine: Agent(self, one.id) for one in await self.database.instances()}

    async def events(self, kind: str) -> list[dict[str, object]]:
        return [dict(event.facts) for event in await self.database.events("train") if event.kind == kind]


class Signer:
    def issue_instance(self, csr_pem: str, instance_id: str, workspace: str) -> str:
        return f"certificate of {instance_id}"


class Agent:
    """Engine and pulse of one instance, in a test's hands."""

    def __init__(self, world: World, instance_id: str) -> None:
        self.id = instance_id
        self.engine = world.connect(instance_id)
        self.pulse = world.connect(instance_id)
        self.engine.other.inbox.put_nowait(AgentHello(VERSION, instance_id))  # type: ignore[union-attr]
        self.beat(0)
        self.status = Status(instance_id, 0, Role.NONE, Endpoints(instance_id, 1, 2, 3))

    def beat(self, epoch: int) -> None:
        self.pulse.other.inbox.put_nowait(Beat(self.id, epoch, 7.5, 0))  # type: ignore[union-attr]

    def say(self, **fields: Any) -> None:
        self.status = msgspec.structs.replace(self.status, **fields)
        if not self.engine.closed:
            self.engine.other.inbox.put_nowait(self.status)  # type: ignore[union-attr]

    def told(self) -> Assignment:
        """The newest assignment that arrived."""
        found = [one for one in _drain(self.engine) if isinstance(one, Assignment)]
        return found[-1]

    def die(self) -> None:
        self.engine.close()
        self.pulse.close()


def _drain(end: Line) -> list[Any]:
    found = []
    while not end.inbox.empty():
        found.append(end.inbox.get_nowait())
    return found


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(STEPS):
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.acts.close()
    for task in world.tasks:
        task.cancel()
    await asyncio.gather(*world.tasks, return_exceptions=True)


async def running(world: World) -> tuple[Agent, Agent]:
    """A GPU that leads and a CPU that acknowledges."""
    await world.launch()
    agents = await world.agents()
    gpu, cpu = agents[Machine.GPU], agents[Machine.CPU]
    gpu.say(), cpu.say()
    await world.passes()
    head = CommitId(1, 5)
    gpu.say(epoch=1, role=Role.PRIMARY, ready=True, ack_version=0, head=head)
    cpu.say(epoch=1, role=Role.STANDBY, stream_up=True, stream_seen=True, head=head, applied=head)
    gpu.say(peers=(PeerStatus(cpu.id, True, CommitId(1, 5)),))
    await world.passes()
    gpu.say(ack_version=1)
    await world.passes()
    assert (await world.row()).state is State.RUNNING
    return gpu, cpu


async def test_a_launch_rents_both_machines_and_promotes_the_gpu(world: World) -> None:
    """The first row of the design's table."""
    gpu, cpu = await running(world)
    row = await world.row()
    assert (row.epoch, row.primary_id, row.ack_set) == (1, gpu.id, {cpu.id})
    assert gpu.told().role is Role.PRIMARY
    told = cpu.told()
    assert (told.role, told.peers[0].instance_id, told.peers[0].dial) == (Role.STANDBY, gpu.id, False)


async def test_two_closed_witnesses_promote_the_standby_in_one_pass(world: World) -> None:
    """Killed: the promise is seconds, and nothing in this path waits for a provider or a timer."""
    gpu, cpu = await running(world)
    gpu.die()
    cpu.say(stream_up=False, stream_silent_ms=20)
    await settle()
    await world.shell.pass_all()
    row = await world.row()
    assert (row.epoch, row.primary_id, row.ack_set) == (2, cpu.id, frozenset())
    await settle()
    assert cpu.told().role is Role.PRIMARY
    cpu.say(epoch=2, role=Role.PRIMARY, ready=True)
    await world.passes()
    story = (await world.events("failover"))[0]
    assert (story["epoch"], story["instance"], story["commit"]) == (2, cpu.id, "1.5")
    assert "agent" in str(story["why"])
    assert (await world.events("fenced"))[0]["instance"] == gpu.id


async def test_a_promotion_that_nobody_lived_to_write_down_is_added(world: World) -> None:
    """A server killed between the compare-and-set and the event: flapping is counted from the timeline."""
    gpu, cpu = await running(world)
    row = await world.row()
    assert await world.database.promote(row, primary_id=cpu.id, epoch=2, ack_set=())
    await world.database.save_instance(replace(await _record(world, gpu.id), lost=True))
    world.restart()
    world.clock.time += 3.0
    await world.passes()
    added = (await world.events("promoted"))[-1]
    assert added == {"reason": "failover", "instance": cpu.id, "epoch": 2, "late": True}
    await world.passes()
    assert len(await world.events("promoted")) == 2, "once is enough"


async def _record(world: World, instance_id: str) -> Instance:
    record = await world.database.instance(instance_id)
    assert record
    return record


async def test_one_closed_witness_promotes_nobody(world: World) -> None:
    """A pulse that breaks alone is no dead machine."""
    gpu, _ = await running(world)
    gpu.pulse.close()
    await world.passes()
    assert (await world.row()).epoch == 1


async def test_a_server_frozen_for_ten_seconds_promotes_nobody(world: World) -> None:
    """Its own silence is not that of the world."""
    await running(world)
    world.clock.time += 10.0
    await world.passes()
    assert (await world.row()).epoch == 1


async def test_a_beat_is_answered_from_the_database_and_never_from_old_news(world: World) -> None:
    """A server process that stood still must not renew a lease that another one has taken away."""
    gpu, _ = await running(world)
    _drain(gpu.pulse)
    gpu.beat(1)
    await settle()
    assert _drain(gpu.pulse) == [BeatReply(1, True, 7.5)]
    world.clock.time += 5.0
    gpu.beat(1)
    await settle()
    assert _drain(gpu.pulse) == [BeatReply(1, False, 7.5)]


async def test_another_process_carries_on_where_one_died(world: World) -> None:
    """kill -9 between the intent and the rent: the machine is rented once, under the same label (I4)."""
    row = Workspace(name="train", created_at=world.clock.now(), policy=Policy(), ssh_port=1, http_port=2)
    await world.database.add_workspace(row)
    await world.sweeper.list_offers(world.provider)  # type: ignore[arg-type]
    await world.sweeper.sweep(world.provider)
    world.provider.faults.lost_share = 1.0  # rented, and the answer is lost
    await world.passes()
    await world.acts.close()
    world.provider.faults.lost_share = 0.0
    world.restart()
    await world.sweeper.list_offers(world.provider)  # type: ignore[arg-type]
    await world.sweeper.sweep(world.provider)
    await world.passes()
    instances = await world.database.instances()
    assert {one.state for one in instances} == {InstanceState.RENTED}
    assert sorted(one.label for one in world.provider.rented) == sorted(one.id for one in instances)


async def test_the_sweeper_ends_what_nobody_wrote_down(world: World) -> None:
    """An orphan costs money until somebody notices (I4)."""
    await running(world)
    offer = (await world.provider.offers(Need(machine=Machine.GPU)))[0]
    boot = Boot(instance_id="gpu-unknown", server_host="", server_port=1, ca_pem="", join_token="")
    await world.provider.rent(offer, "gpu-unknown", boot)
    await world.sweeper.sweep(world.provider)
    assert "gpu-unknown" not in {one.label for one in world.provider.rented}
    assert len(world.provider.rented) == 2


async def test_an_erring_provider_removes_nothing(world: World) -> None:
    """An error is not an empty list (I6)."""
    await running(world)
    world.provider.faults.outage = True
    for _ in range(5):
        await world.sweeper.sweep(world.provider)
        await world.passes()
    row = await world.row()
    assert (row.epoch, row.state) == (1, State.RUNNING)
    assert len(await world.database.instances()) == 2


async def test_removing_a_workspace_lets_every_machine_go(world: World) -> None:
    """And only then is it deleted: destroyed means the provider confirmed it."""
    await running(world)
    await world.database.want("train", Wanted.DELETED)
    await world.passes()
    assert world.provider.rented == []
    assert await world.database.workspaces() == []


async def test_a_saved_branch_is_kept_and_told_once(world: World) -> None:
    """Statuses repeat; the timeline must not."""
    gpu, cpu = await running(world)
    gpu.die()
    cpu.say(stream_up=False, stream_silent_ms=20)
    await world.passes()
    cpu.say(epoch=2, role=Role.PRIMARY, ready=True, ack_version=0)
    again = Agent(world, gpu.id)
    saved = BranchSaved(f"{gpu.id}-e1", CommitId(1, 7), b"\1" * 32, CommitId(1, 5), (b"a",))
    again.say(epoch=2, branch_saved=saved)
    await world.passes()
    again.say(epoch=2, branch_saved=saved)
    await world.passes()
    branches = await world.database.branches("train")
    assert [(one.name, one.commit, one.paths) for one in branches] == [(saved.name, CommitId(1, 7), ("a",))]
    assert len(await world.events("branch")) == 1
    assert gpu.id not in {one.label for one in world.provider.rented}


async def test_nobody_speaks_in_anothers_name(world: World) -> None:
    """The certificate's name is the only one a host has (I7)."""
    gpu, cpu = await running(world)
    liar = world.connect(cpu.id)
    liar.other.inbox.put_nowait(AgentHello(VERSION, gpu.id))  # type: ignore[union-attr]
    await settle()
    assert liar.closed
    cpu.engine.other.inbox.put_nowait(gpu.status)  # type: ignore[union-attr]
    await settle()
    assert cpu.engine.closed


async def test_a_gateway_is_told_nothing_before_the_first_pass(world: World) -> None:
    """It drops the address of every workspace that a server leaves out."""
    await running(world)
    world.restart()
    gateway = world.connect("gateway")
    gateway.other.inbox.put_nowait(GatewayHello(VERSION))  # type: ignore[union-attr]
    await settle()
    assert _drain(gateway) == []
    await world.passes()
    told = [one for one in _drain(gateway) if isinstance(one, Routes)]
    assert [route.workspace for route in told[-1].routes] == ["train"]


async def test_sync_asks_the_primary_and_is_unknown_without_one(world: World) -> None:
    """Unknown, never OK, when nobody answers."""
    gpu, _ = await running(world)
    _drain(gpu.engine)
    asking = asyncio.create_task(world.hub.sync("train", 5.0))
    await settle()
    ask = next(one for one in _drain(gpu.engine) if isinstance(one, Sync))
    gpu.engine.other.inbox.put_nowait(Synced(ask.request, "ok", CommitId(1, 9)))  # type: ignore[union-attr]
    assert (await asking).id == CommitId(1, 9)
    gpu.die()
    await settle()
    assert (await world.hub.sync("train", 5.0)).outcome == "unknown"


async def test_one_providers_error_keeps_no_others_machines(world: World) -> None:
    """Whoever lets everything go wants no bill; and what may still be rented must not be written down as gone (I4)."""
    await running(world)
    elsewhere = MemoryProvider(world.clock, Random(2), name="elsewhere")
    elsewhere.faults.outage = True
    world.acts.providers = {"elsewhere": elsewhere, **world.acts.providers}
    row = next(iter(await world.database.instances()))
    stranded = replace(row, id="gpu-there", provider="elsewhere", state=InstanceState.RENTED)
    await world.database.add_instance(stranded)
    parts = Parts(world.acts, world.hub, world.observatory, world.shell, None, None, Random(3))  # type: ignore[arg-type]
    with pytest.raises(ProviderError, match="elsewhere"):
        await release_everything(parts)
    assert world.provider.rented == []
    assert [one.id for one in await world.database.instances()] == ["gpu-there"]
