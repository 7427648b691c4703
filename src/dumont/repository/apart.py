"""Apart: long work in a thread and a loop of its own, so that the engine's loop answers barriers and pings meanwhile.

A save goes through every name of the workspace: a hundred thousand of them would keep the loop, and with it the lease,
for most of a second.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from dumont.store.base import Data, Store

T = TypeVar("T")


async def apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `work` returns, or raises. When we are cancelled it is cancelled too, and not waited for."""
    ours: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []
    stop = threading.Event()

    async def body() -> T:
        task = asyncio.current_task()
        assert task is not None
        ours.append((asyncio.get_running_loop(), task))
        if stop.is_set():
            raise asyncio.CancelledError
        return await work()

    executor = ThreadPoolExecutor(1, "apart")
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, lambda: asyncio.run(body()))
    except asyncio.CancelledError:
        stop.set()
        for loop, task in ours:
            with contextlib.suppress(RuntimeError):  # its loop has ended by itself
                loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        executor.shutdown(wait=False)


class LentStore:
    """A store that lives on one loop, for work on another. What is asked of it is asked there."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop

    async def put(self, key: str, data: Data) -> None:
        await self._there(self._store.put(key, data))

    async def get(self, key: str) -> bytes:
        return await self._there(self._store.get(key))

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return await self._there(self._store.get_range(key, start, length))

    async def size(self, key: str) -> int:
        return await self._there(self._store.size(key))

    async def exists(self, key: str) -> bool:
        return await self._there(self._store.exists(key))

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        for key in await self._there(self._all(prefix)):
            yield key

    async def delete(self, key: str) -> None:
        await self._there(self._store.delete(key))

    async def _all(self, prefix: str) -> list[str]:
        return [key async for key in self._store.keys(prefix)]

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
