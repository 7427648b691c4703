"""The store as an instance sees it: the remote driver over a link, and what a stranger may not write."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import blake3
import pytest

from dumont.control.shelf import Standing, refusal, serve_store
from dumont.errors import AlreadyStored, LinkClosed, NotStored, StoreError
from dumont.store.memory import MemoryStore
from dumont.store.remote import RemoteStore
from tests.unit.memory_link import Line, line

PRIMARY = Standing("train", 3, leads=True)
STANDBY = Standing("train", 3, leads=False)
FENCED = Standing("train", 3, leads=False, branch="gpu-1-e2")


class Shelf:
    """One store, and the links to it that a remote driver opened."""

    def __init__(self) -> None:
        self.store = MemoryStore()
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
            await serve_store(near, self.store, lambda: PRIMARY)  # type: ignore[arg-type]


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    shelf = Shelf()
    yield shelf
    for end in shelf.ends:
        end.close()
    await asyncio.gather(*shelf.serving)


@pytest.fixture
def remote(shelf: Shelf) -> RemoteStore:
    return RemoteStore(shelf.dial, "gpu-1")


async def test_what_is_put_lies_under_the_workspaces_own_prefix(shelf: Shelf, remote: RemoteStore) -> None:
    """No host can name what belongs to another workspace (I7)."""
    await remote.put("index/a", b"one")
    assert await shelf.store.get("workspaces/train/index/a") == b"one"
    assert await remote.get("index/a") == b"one"
    assert await remote.exists("index/a")
    assert [key async for key in remote.keys("index/")] == ["index/a"]


async def test_history_can_be_added_to_and_not_changed(remote: RemoteStore) -> None:
    """A host that was taken over must not be able to destroy what it once wrote (I7)."""
    await remote.put("index/a", b"one")
    with pytest.raises(AlreadyStored):
        await remote.put("index/a", b"two")
    with pytest.raises(StoreError):
        await remote.delete("index/a")
    assert await remote.get("index/a") == b"one"


async def test_errors_arrive_as_what_they_were(remote: RemoteStore) -> None:
    """The engine treats a missing object otherwise than a broken link."""
    with pytest.raises(NotStored):
        await remote.get("index/none")
    with pytest.raises(StoreError, match="key of an object"):
        await remote.get("../other/index/a")


async def test_a_broken_link_is_dialled_again(shelf: Shelf, remote: RemoteStore) -> None:
    """The server may restart in the middle of an upload."""
    await remote.put("index/a", b"one")
    shelf.ends[0].close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await remote.get("index/a") == b"one"
    assert len(shelf.ends) == 2


@pytest.mark.parametrize(
    ("standing", "key", "allowed"),
    [
        (PRIMARY, "commits/3-9", True),
        (PRIMARY, "commits/4-9", False),
        (STANDBY, "commits/3-9", False),
        (FENCED, "commits/2-9", False),
        (FENCED, "branches/gpu-1-e2/commits/2-9", True),
        (FENCED, "branches/gpu-2-e1/commits/2-9", False),
        (PRIMARY, "branches/gpu-1-e2/commits/2-9", False),
        (FENCED, "index/abc", True),
    ],
)
def test_only_who_leads_names_commits(standing: Standing, key: str, allowed: bool) -> None:
    """A fenced host could otherwise take the names of commits that its successor is to store."""
    assert (refusal(standing, key, b"") == "") is allowed


def test_what_is_named_after_its_content_must_be_that() -> None:
    """Others deduplicate against it."""
    data = b"a pack"
    assert refusal(PRIMARY, f"packs/{blake3.blake3(data).hexdigest()}", data) == ""
    assert refusal(PRIMARY, f"packs/{blake3.blake3(b'another').hexdigest()}", data) != ""
