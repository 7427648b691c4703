"""The store as an instance sees it: the remote driver over a link, with the keys of its own workspace."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from random import Random

import msgspec
import pytest

from dumont.agent.grant import Grant
from dumont.control.scrutiny import Scrutiny, Standing
from dumont.control.shelf import Shelf
from dumont.control.vault import Vault
from dumont.errors import AlreadyStored, BadInput, LinkClosed, NotStored, StoreError
from dumont.repository.keys import Keys
from dumont.repository.record import VERSION, Doomed
from dumont.store.memory import MemoryStore
from dumont.store.remote import RemoteStore
from tests.unit.memory_link import Line, line

SERVER_KEY = bytes(range(32))
PRIMARY = Standing("train", 3, leads=True)


async def anything(standing: Callable[[], Standing], key: str, data: bytes) -> str:
    """Refuse nothing: what may be added is looked at elsewhere."""
    return ""


class Doorstep:
    """One store, and the links to it that a remote driver opened."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.vault = Vault(self.store, SERVER_KEY, Random(1).randbytes)
        self.shelf = Shelf(self.vault, anything)
        self.ends: list[Line] = []
        self.serving: list[asyncio.Task[None]] = []

    async def dial(self) -> Line:
        far, near = line("gpu-1")
        self.ends.append(far)
        self.serving.append(asyncio.create_task(self.serve(near)))
        return far

    async def serve(self, near: Line) -> None:
        await near.receive()  # the hello, which the hub has read
        with contextlib.suppress(LinkClosed):
            await self.shelf.serve(near, lambda: PRIMARY)  # type: ignore[arg-type]


@pytest.fixture
async def doorstep() -> AsyncIterator[Doorstep]:
    doorstep = Doorstep()
    yield doorstep
    for end in doorstep.ends:
        end.close()
    await asyncio.gather(*doorstep.serving)


@pytest.fixture
def remote(doorstep: Doorstep) -> RemoteStore:
    return RemoteStore(doorstep.dial, "gpu-1")  # type: ignore[arg-type]


async def test_what_is_put_lies_under_the_workspaces_own_prefix(doorstep: Doorstep, remote: RemoteStore) -> None:
    """No host can name what belongs to another workspace (I7)."""
    await remote.put("some/a", b"one")
    assert await doorstep.store.get("workspaces/train/some/a") == b"one"
    assert await remote.get("some/a") == b"one"
    assert await remote.exists("some/a")
    assert [key async for key in remote.keys("some/")] == ["some/a"]


async def test_history_can_be_added_to_and_not_changed(remote: RemoteStore) -> None:
    """A host that was taken over must not be able to destroy what it once wrote (I7)."""
    await remote.put("some/a", b"one")
    with pytest.raises(AlreadyStored):
        await remote.put("some/a", b"two")
    with pytest.raises(StoreError):
        await remote.delete("some/a")
    assert await remote.get("some/a") == b"one"


async def test_errors_arrive_as_what_they_were(remote: RemoteStore) -> None:
    """The engine treats a missing object otherwise than a broken link."""
    with pytest.raises(NotStored):
        await remote.get("some/none")
    with pytest.raises(BadInput, match="key of an object"):
        await remote.get("../other/some/a")


async def test_a_broken_link_is_dialled_again(doorstep: Doorstep, remote: RemoteStore) -> None:
    """The server may restart in the middle of an upload."""
    await remote.put("some/a", b"one")
    doorstep.ends[0].close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await remote.get("some/a") == b"one"
    assert len(doorstep.ends) == 2


async def test_an_instance_is_granted_its_own_workspaces_keys_only(doorstep: Doorstep, remote: RemoteStore) -> None:
    """The server's key opens every workspace; a host must not come near it (I7)."""
    own, other = await doorstep.vault.open("train"), await doorstep.vault.open("other")
    granted = await remote.granted()
    keys = msgspec.msgpack.decode(granted, type=Keys)
    assert keys == own.keys
    assert keys.secret != other.keys.secret and keys.chunk_key != other.keys.chunk_key
    for secret in (SERVER_KEY, other.keys.secret, other.keys.private):
        assert secret not in granted


async def test_the_repository_outlives_a_broken_link(doorstep: Doorstep, remote: RemoteStore) -> None:
    """To learn all that is stored anew at each link would cost minutes of a large history."""
    grant = Grant(remote, (await doorstep.vault.open("train")).keys.chunk_key)
    repo = await grant.repository()
    doorstep.ends[0].close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await grant.repository() is repo
    assert await repo.look() is not None
    assert len(doorstep.ends) == 2


async def test_a_store_that_was_replaced_is_told_from_the_one_that_was(remote: RemoteStore) -> None:
    """Its chunks have other names: a save would read everything, name every file as changed, and say nothing of it."""
    with pytest.raises(StoreError, match="rent a new instance"):
        await Grant(remote, bytes(32)).repository()


async def test_what_is_refused_is_not_stored_and_told_in_words(doorstep: Doorstep, remote: RemoteStore) -> None:
    """The rules are no rules if a link does not ask them."""
    doorstep.shelf = Shelf(doorstep.vault, Scrutiny(doorstep.vault).refusal)
    with pytest.raises(StoreError, match="never adds"):
        await remote.put("state/labels/1", b"")
    assert not await remote.exists("state/labels/1")


async def test_a_repository_that_was_deleted_is_made_anew_and_not_written_on_without_its_config(
    doorstep: Doorstep,
) -> None:
    """A server that remembered the keys would go on sealing what nobody could open after its next start."""
    before = await doorstep.vault.learned("train")
    for key in [key async for key in doorstep.store.keys("workspaces/train/")]:
        await doorstep.store.delete(key)
    after = await doorstep.vault.open("train")
    assert after.keys != before.keys
    assert (await doorstep.vault.learned("train")).keys == after.keys
    assert (await Vault(doorstep.store, SERVER_KEY, Random(9).randbytes).open("train")).keys == after.keys


async def test_a_repository_is_made_once_and_opened_with_the_same_key(doorstep: Doorstep) -> None:
    """Several server processes, one store: whoever comes second must find the first one's."""
    vaults = [Vault(doorstep.store, SERVER_KEY, Random(seed).randbytes) for seed in (5, 6)]
    one, other = await asyncio.gather(*(vault.open("train") for vault in vaults))
    assert one.keys == other.keys
    await one.put_record("state/doomed/1", Doomed(VERSION, []))
    assert await other.get_record("state/doomed/1", Doomed) == Doomed(VERSION, [])
