"""The gateway's probe of a primary: one of the witnesses of a failure.

One lasting TCP connection to the primary's HTTP port. We send a line every 250 ms and get a line of JSON back. A closed
socket and silence are reported as the different things they are, and nothing is reported of a primary before its first
answer: a channel that was never up is absent, not dead.
"""

import asyncio
from collections.abc import Callable

import msgspec

from dumont.clock import Clock
from dumont.errors import Corrupt
from dumont.gateway.address import Address
from dumont.wire.control import Endpoints
from dumont.wire.route import Probe, Route

QUESTION = b"DUMONT PROBE 1\n"
EVERY_S = 0.25
REDIAL_S = 0.1
EAGER_S = 0.02
"""How often a primary that does not serve yet is asked, for EAGER_S_MAX: clients may be waiting for it."""
EAGER_S_MAX = 5.0
SILENT_S_MAX = 1.0
"""After so much silence another connection is tried: a link that comes back is heard sooner than TCP resends."""
LATE_S_MAX = 0.5
"""A report that comes so late means that this process was frozen: what it did not hear meanwhile says nothing."""
ANSWER_BYTES_MAX = 4096


class Answer(msgspec.Struct):
    """What a session says of itself; other fields are for people."""

    epoch: int
    instance: str = ""
    serving: bool = True


class Prober:
    """Watches whoever is primary of one address and hands what it sees to `report`, every 250 ms and at each change."""

    def __init__(self, address: Address, report: Callable[[Probe], None], clock: Clock) -> None:
        self._address = address
        self._report = report
        self._clock = clock
        self._route = address.route
        self._up: bool | None = None  # None: this primary never answered yet
        self._heard_at = self._told_at = self._began_at = clock.monotonic()

    async def run(self) -> None:
        """Probe until cancelled, each new route from scratch."""
        while True:
            self._address.changed.clear()
            self._route, self._up = self._address.route, None
            self._began_at = self._clock.monotonic()
            watching = asyncio.create_task(self._watch(self._route))
            changing = asyncio.create_task(self._address.changed.wait())
            try:
                await asyncio.wait({watching, changing}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    watching.result()  # it ends by a mistake of ours only
            finally:
                watching.cancel()
                changing.cancel()
                await asyncio.wait({watching, changing})  # else it might still see the former primary

    async def _watch(self, route: Route) -> None:
        if route.endpoints is None or not route.endpoints.http_port or not route.instance_id:
            await asyncio.Event().wait()
            return
        async with asyncio.TaskGroup() as both:
            both.create_task(self._tell_forever())
            both.create_task(self._ask_forever(route, route.endpoints))

    async def _tell_forever(self) -> None:
        self._told_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(EVERY_S)
            now = self._clock.monotonic()
            if now - self._told_at > EVERY_S + LATE_S_MAX:
                self._heard_at = now
            self._told_at = now
            self._tell()

    def _tell(self) -> None:
        if self._up is None:
            return
        silent_ms = max(0, round((self._clock.monotonic() - self._heard_at) * 1000))
        self._report(
            Probe(
                workspace=self._route.workspace,
                instance_id=self._route.instance_id,
                up=self._up,
                silent_ms=silent_ms,
                clients=self._address.clients,
            )
        )

    def _see(self, up: bool) -> None:
        if self._up is None and not up:
            return
        changed = self._up is not up
        self._up = up
        if changed:
            self._tell()

    def _closed(self) -> None:
        self._address.learn(serving=None)
        self._see(up=False)

    async def _ask_forever(self, route: Route, endpoints: Endpoints) -> None:
        while True:
            try:
                async with asyncio.timeout(SILENT_S_MAX):
                    reader, writer = await asyncio.open_connection(
                        endpoints.host, endpoints.http_port, limit=ANSWER_BYTES_MAX
                    )
            except ConnectionError:
                self._closed()
            except (OSError, UnicodeError):
                pass  # no way there, or no reply in time: silence, which `silent_ms` tells
            else:
                await self._converse(route, reader, writer)
            await self._clock.sleep(self._pause_s(REDIAL_S))

    def _pause_s(self, usual_s: float) -> float:
        """Shorter while clients may be waiting for a primary that was just promoted."""
        eager = self._address.serving is not True and self._clock.monotonic() - self._began_at < EAGER_S_MAX
        return EAGER_S if eager else usual_s

    async def _converse(self, route: Route, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Question and answer until the other side closes, or is silent for SILENT_S_MAX."""
        asking = asyncio.create_task(self._ask(writer))
        try:
            while True:
                async with asyncio.timeout(SILENT_S_MAX):
                    line = await reader.readuntil(b"\n")
                self._see(up=self._is_primary(route, line))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, Corrupt, ConnectionError):
            self._closed()
        except OSError:
            pass  # timed out: neither closed nor alive
        finally:
            asking.cancel()
            writer.transport.abort()

    async def _ask(self, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(QUESTION)
            await self._clock.sleep(self._pause_s(EVERY_S))

    def _is_primary(self, route: Route, line: bytes) -> bool:
        """Whether that answer comes from the primary we are led to. Raises Corrupt when it is no answer."""
        try:
            answer = msgspec.json.decode(line, type=Answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Corrupt(f"{route.instance_id} does not answer a probe but says {line[:80]!r}: {error}") from error
        if answer.epoch < route.epoch or answer.instance not in ("", route.instance_id):
            self._address.learn(serving=False)
            return False
        self._heard_at = self._clock.monotonic()
        self._address.learn(answer.serving)
        return True
