"""The SDK without async: every method of `Dumont`, generated from it, for scripts and notebooks."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any

from dumont.client.dumont import Dumont
from dumont.client.home import Home


class Blocking:
    """`with Blocking() as dumont: dumont.workspaces()`. Methods, answers and errors are those of `Dumont`."""

    def __init__(self, home: Home | None = None) -> None:
        self._dumont = Dumont(home)
        self._runner = asyncio.Runner()

    def __enter__(self) -> "Blocking":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._dumont.close())
        self._runner.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._dumont, name)
        if inspect.isasyncgenfunction(method):
            return lambda *args, **kwargs: self._each(method(*args, **kwargs))
        if not inspect.iscoroutinefunction(method):
            return method

        @functools.wraps(method)
        def blocking(*args: Any, **kwargs: Any) -> Any:
            return self._runner.run(method(*args, **kwargs))

        return blocking

    def _each(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(items)

        while True:
            try:
                yield self._runner.run(following())
            except StopAsyncIteration:
                return
