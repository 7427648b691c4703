"""An event loop in virtual time: sleeping costs nothing, and the same seed gives the same run."""

import asyncio
import selectors
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Stuck(Exception):
    """Nothing is left to happen, and the run is not over."""


class _Jump(selectors.BaseSelector):
    """Waits for no file: it moves the loop's time to the next timer instead."""

    def __init__(self) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}
        self.loop: VirtualLoop | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj if isinstance(fileobj, int) else fileobj.fileno(), events, data)
        self._keys[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert self.loop is not None
        self.loop.advance(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """`after_event` is called after every turn of the loop: the place where invariants are checked."""

    def __init__(self) -> None:
        jump = _Jump()
        super().__init__(jump)
        jump.loop = self
        self._virtual_s = 0.0
        self.after_event: Callable[[], None] | None = None
        self.events = 0

    def time(self) -> float:
        return self._virtual_s

    def advance(self, timeout: float | None) -> None:
        """Called where a real loop would wait."""
        if self.after_event:
            self.events += 1
            self.after_event()
        if timeout is None:
            raise Stuck("every task waits for something that nobody will do")
        self._virtual_s += max(timeout, 0.0)


class VirtualClock:
    """The clock of a world: the loop's own time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.time()

    def now(self) -> datetime:
        return _EPOCH + timedelta(seconds=self._loop.time())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
