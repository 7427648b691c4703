"""Joining at the hub: an identity and the workspace's chunk key, or nothing yet; and who is let to the store."""

import asyncio
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec
import pytest

from dumont.clock import SystemClock
from dumont.control.hub import Hub
from dumont.control.observe import Observatory
from dumont.control.vault import Vault
from dumont.db.memory import MemoryDatabase
from dumont.errors import LinkClosed, StoreError
from dumont.model.instance import Instance, InstanceState, Machine
from dumont.model.policy import Policy
from dumont.model.workspace import Workspace
from dumont.repository.keys import Keys
from dumont.store.base import Data
from dumont.store.memory import MemoryStore
from dumont.wire.identity import token_hash
from dumont.wire.join import Join, Joined, JoinRefused
from dumont.wire.store import VERSION, StoreGranted, StoreHello
from tests.unit.memory_link import line

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Signer:
    def issue_instance(self, csr_pem: str, instance_id: str, workspace: str) -> str:
        return f"certificate of {instance_id}"


class Flaky(MemoryStore):
    """`away`: neither reads nor writes."""

    away = False

    async def get(self, key: str) -> bytes:
        if self.away:
            raise StoreError("away")
        return await super().get(key)

    async def put(self, key: str, data: Data) -> None:
        if self.away:
            raise StoreError("away")
        await super().put(key, data)


class World:
    """A hub, and three instances of two workspaces that were intended."""

    def __init__(self) -> None:
        self.database = MemoryDatabase(SystemClock())
        self.store = Flaky()
        self.vault = Vault(self.store, bytes(32), Random(1).randbytes)
        self.hub = Hub(self.database, Observatory(SystemClock()), Signer(), self.vault, SystemClock())

    async def prepare(self) -> None:
        for number, (name, ids) in enumerate({"train": ("gpu-1", "cpu-1"), "other": ("gpu-2",)}.items()):
            row = Workspace(name=name, created_at=NOW, policy=Policy(), ssh_port=number, http_port=10 + number)
            await self.database.add_workspace(row)
            for id in ids:
                await self.database.add_instance(
                    Instance(
                        id=id,
                        workspace=name,
                        machine=Machine.GPU,
                        provider="memory",
                        state=InstanceState.RENTED,
                        price_micros_per_hour=0,
                        created_at=NOW,
                        token_hash=token_hash(f"token of {id}"),
                    )
                )
        self.hub.own(await self.database.workspaces(), await self.database.instances(), 0.0)

    async def say(self, first: Any, peer: str = "") -> Any:
        """The hub's first answer to somebody who begins so; raises LinkClosed when it hangs up."""
        far, near = line(peer)
        serving = asyncio.create_task(self.hub.serve(near))  # type: ignore[arg-type]
        try:
            await far.send(first)
            return await far.receive()
        finally:
            far.close()
            await serving

    async def join(self, id: str) -> Any:
        return await self.say(Join(id, f"token of {id}", "csr"))


@pytest.fixture
async def world() -> World:
    world = World()
    await world.prepare()
    return world


async def test_replicas_of_one_workspace_are_given_one_chunk_key(world: World) -> None:
    """Standby and primary would otherwise have no chunk in common; two workspaces must have none."""
    answers = [await world.join(id) for id in ("gpu-1", "cpu-1", "gpu-2")]
    assert all(isinstance(answer, Joined) for answer in answers)
    first, second, other = (answer.chunk_key for answer in answers)
    assert first == second == (await world.vault.open("train")).keys.chunk_key
    assert other not in (first, bytes(32))


async def test_a_store_that_is_away_spends_no_token(world: World) -> None:
    """The instance asks again; a spent token would have it refused for ever, and a machine rented for nothing."""
    world.store.away = True
    with pytest.raises(LinkClosed):
        await world.join("gpu-1")
    world.store.away = False
    assert isinstance(await world.join("gpu-1"), Joined)
    assert isinstance(await world.join("gpu-1"), JoinRefused)


async def test_the_store_link_is_for_the_certificates_own_workspace(world: World) -> None:
    """And for an engine that speaks the same version of it."""
    granted = await world.say(StoreHello(VERSION, "gpu-2"), "gpu-2")
    assert isinstance(granted, StoreGranted)
    assert msgspec.msgpack.decode(granted.keys, type=Keys) == (await world.vault.open("other")).keys
    for hello, peer in (
        (StoreHello(VERSION - 1, "gpu-2"), "gpu-2"),
        (StoreHello(VERSION, "gpu-1"), "gpu-2"),
        (StoreHello(VERSION, "gpu-2"), ""),
        (StoreHello(VERSION, "gone"), "gone"),
    ):
        with pytest.raises(LinkClosed):
            await world.say(hello, peer)
