"""A hand inside the loop: a worker that waits for the store where it stands, while others run, without a thread.

Workers are plain functions that wait. In a greenlet such a function can be left in the middle and gone on with later.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import Any

import greenlet

from dumont.errors import DumontError
from dumont.repository.hands import Blocking, Start, Worker
from dumont.store.base import Store

_TOLD = (DumontError, OSError, AssertionError, asyncio.CancelledError)
"""What is told to whoever waits; anything else is a bug, and ends the world."""


class InlineHand:
    """The driver of the port `Hand` that runs its worker in the coordinator's own loop and thread."""

    def __init__(self, start: Start, store: Store) -> None:
        self._start = start
        self._blocking = Blocking(store, _wait_for, self._begin)
        self._worker: Worker | None = None
        self._turn = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()

    async def ask(self, message: bytes) -> bytes:
        async with self._turn:
            work = greenlet.greenlet(self._handle)
            step = work.switch(message)
            while not work.dead:
                try:
                    answer = await step
                except _TOLD as error:  # whatever it waited for, and its own end
                    step = work.throw(error)
                else:
                    step = work.switch(answer)
            return bytes(step)

    async def close(self) -> None:
        left = tuple(self._under_way)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def _handle(self, message: bytes) -> bytes:
        if self._worker is None:
            self._worker = self._start(message, self._blocking)
            return b""
        return self._worker.handle(message)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> "concurrent.futures.Future[Any]":
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return _Begun(task)


class _Begun(concurrent.futures.Future[Any]):
    """What a worker holds of a task: to wait for it is to leave the worker."""

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        super().__init__()
        self._task = task

    def done(self) -> bool:
        return self._task.done()

    def result(self, timeout: float | None = None) -> Any:
        return self._task.result() if self._task.done() else _wait_for(self._task)


def _wait_for(work: Any) -> Any:
    """Leave the worker until `work` is done; what it returned."""
    return greenlet.getcurrent().parent.switch(work)


class InlineExecutor(concurrent.futures.ThreadPoolExecutor):
    """Does at once what a thread would be given, so that a seed decides everything."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **named: Any) -> "concurrent.futures.Future[Any]":
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            done.set_result(fn(*args, **named))
        except _TOLD as error:
            done.set_exception(error)
        return done
