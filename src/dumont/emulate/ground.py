"""The ground: where an emulator's instances really run."""

from collections.abc import Mapping
from typing import Protocol


class Ground(Protocol):
    """Runs what an emulated instance is told to run at its start. Promises:

    - `start` runs `script` with bash as the instance's first process, on the disk of that name, which it makes when
      there is none and otherwise leaves as it was. Starting what runs is harmless.
    - `tell` runs `script` beside what runs in the instance, for at most `seconds`; harmless when nothing runs.
    - `stop` sends SIGTERM to all of the instance's processes and SIGKILL after `grace_s` seconds; the disk stays.
    - `end` kills at once and removes the disk; ending what never was is harmless.
    - `address` is the IP address that the instance has while it runs; instances may share one.
    - `outside` is the port at that address under which others reach the instance's own TCP port `inside`.
    """

    async def start(self, name: str, script: str, environment: Mapping[str, str]) -> None: ...

    async def tell(self, name: str, script: str, seconds: float) -> None: ...

    async def stop(self, name: str, grace_s: float) -> None: ...

    async def end(self, name: str) -> None: ...

    def is_running(self, name: str) -> bool: ...

    def address(self, name: str) -> str: ...

    def outside(self, name: str, inside: int) -> int: ...

    async def close(self) -> None: ...


class Nowhere:
    """A ground without processes: what was started counts as running. For tests of a driver's words with a provider."""

    def __init__(self) -> None:
        self._running: set[str] = set()

    async def start(self, name: str, script: str, environment: Mapping[str, str]) -> None:
        self._running.add(name)

    async def tell(self, name: str, script: str, seconds: float) -> None:
        return

    async def stop(self, name: str, grace_s: float) -> None:
        self._running.discard(name)

    async def end(self, name: str) -> None:
        self._running.discard(name)

    def is_running(self, name: str) -> bool:
        return name in self._running

    def address(self, name: str) -> str:
        return "127.0.0.1"

    def outside(self, name: str, inside: int) -> int:
        return inside

    async def close(self) -> None:
        self._running.clear()
