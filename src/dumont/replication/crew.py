"""A crew: the tasks of one engine. One that fails in an unforeseen way ends them all: no role dies in silence."""

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn


class Crew:
    """Owns tasks that nobody awaits. Whoever runs the engine awaits `fail`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failures: list[BaseException] = []
        self._failed = asyncio.Event()

    def start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Begin `work`. What it raises is unforeseen: a role catches what it can answer to."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def fail(self) -> NoReturn:
        """Wait until a task fails, and raise what it raised."""
        await self._failed.wait()
        raise self._failures[0]

    def dismiss(self) -> None:
        """Cancel every task that still runs."""
        for task in list(self._tasks):
            task.cancel()

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failures.append(error)
            self._failed.set()
