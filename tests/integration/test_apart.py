"""Work apart from the engine's loop: it hinders nobody, its errors arrive, and it ends when it is not wanted."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from dumont.errors import NotStored, StoreError
from dumont.repository.apart import LentStore, apart
from dumont.store.memory import MemoryStore

BUSY_S = 0.5
GAP_S_MAX = 0.25


async def _busy() -> str:
    """As a save of very many names: Python all the time."""
    until = time.perf_counter() + BUSY_S
    while time.perf_counter() < until:
        sum(range(100))
    return "done"


async def _longest_gap(work: Callable[[], Awaitable[str]]) -> float:
    """How long the loop answered nobody, in seconds, while `work` went on."""
    longest = 0.0
    working = asyncio.ensure_future(work())
    while not working.done():
        before = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - before)
    assert working.result() == "done"
    return longest


async def test_the_loop_answers_meanwhile() -> None:
    """A lease is 2 s and a standby hangs up after 3: a save every minute must not come near them."""
    assert await _longest_gap(lambda: apart(_busy)) < GAP_S_MAX


async def test_control_on_the_loop_itself_nobody_is_answered() -> None:
    """If that were no different, the thread would be for nothing."""
    assert await _longest_gap(_busy) > GAP_S_MAX


async def test_errors_arrive_as_what_they_were() -> None:
    """Roles answer to a StoreError, and end the engine for anything else."""

    async def fail() -> None:
        raise StoreError("away")

    with pytest.raises(StoreError, match="away"):
        await apart(fail)


async def test_a_store_of_the_engines_loop_is_used_from_apart() -> None:
    """The link to the server, its reader and its waiting questions belong to one loop."""
    loop = asyncio.get_running_loop()

    class Homely(MemoryStore):
        async def get(self, key: str) -> bytes:
            assert asyncio.get_running_loop() is loop
            return await super().get(key)

    lent = LentStore(Homely(), loop)

    async def work() -> list[str]:
        assert asyncio.get_running_loop() is not loop
        for key in ("a/1", "a/2", "b/1"):
            await lent.put(key, memoryview(b"one"))
        assert await lent.get("a/1") == b"one"
        assert await lent.get_range("a/1", 1, 1) == b"n"
        assert await lent.size("a/1") == 3
        assert await lent.exists("a/2")
        await lent.delete("a/2")
        with pytest.raises(NotStored):
            await lent.get("a/2")
        return [key async for key in lent.keys("a/")]

    assert await apart(work) == ["a/1"]


async def test_what_is_cancelled_ends_apart_too() -> None:
    """An engine that ends must not be kept alive by a save, whatever that waits for."""
    began, ended = threading.Event(), threading.Event()

    class Hanging(MemoryStore):
        async def get(self, key: str) -> bytes:
            began.set()
            await asyncio.Event().wait()
            return b""

    lent = LentStore(Hanging(), asyncio.get_running_loop())

    async def work() -> None:
        try:
            await lent.get("a")
        finally:
            ended.set()

    working = asyncio.create_task(apart(work))
    await asyncio.to_thread(began.wait, 10)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert await asyncio.to_thread(ended.wait, 10)
