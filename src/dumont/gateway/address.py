"""An address: the two doors of one workspace, SSH and HTTP, and everybody who came in through them."""

import asyncio
from collections.abc import Callable

import structlog

from dumont.gateway.splice import HTTP, READ_BYTES_MAX, SSH, Patience, Side, Splice
from dumont.wire.control import Endpoints
from dumont.wire.route import Route

WAITING_MAX = 1000
"""How many clients of one workspace may wait for a primary; the next ones are turned away."""
CLIENTS_MAX = 10_000
"""How many clients one workspace may have at all."""
RETRY_S = 0.02
RETRYING_AT_ONCE = 10
"""Up to so many waiting clients try every RETRY_S; more take longer, together `RETRYING_AT_ONCE / RETRY_S` a second."""
CONNECTING_AT_ONCE = 50
"""Servers commonly let 100 connections queue up; the kernel drops more, and a second is lost each time."""
BIND_RETRY_S = 1.0
BACKLOG = 1024

log = structlog.get_logger()

_buffer = memoryview(bytearray(READ_BYTES_MAX))


class Entrance:
    """One door of an address: a fixed TCP port of the gateway that leads to one port of whoever is primary."""

    def __init__(
        self, address: "Address", name: str, patience: Patience, inner_port: Callable[[Endpoints], int]
    ) -> None:
        self._address = address
        self._inner_port = inner_port
        self.name = name
        self.patience = patience
        self.buffer = _buffer
        self.attempts = address.attempts
        self.trouble = ""

    @property
    def route(self) -> Route:
        return self._address.route

    @property
    def answers(self) -> int:
        return self._address.answers

    @property
    def retry_s(self) -> float:
        return RETRY_S * max(1.0, len(self._address.waiting) / RETRYING_AT_ONCE)

    def port(self, endpoints: Endpoints) -> int:
        return self._inner_port(endpoints)

    def may_try(self, deliveries: int) -> bool:
        if self.patience is SSH:
            return True
        serving = self._address.serving
        return serving is not False and (serving is True or not deliveries)

    def doubt(self) -> None:
        if self.patience is not SSH:
            self._address.serving = None

    def arrived(self, splice: Splice) -> None:
        self._address.arrived(splice, self.name)

    def decided(self, splice: Splice) -> None:
        self._address.decided(splice)

    def left(self, splice: Splice) -> None:
        self._address.left(splice)

    async def listen(self, host: str, port: int) -> None:
        """Take clients in until cancelled. A port that somebody else holds is asked for again and again."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                server = await loop.create_server(self._admit, host, port, backlog=BACKLOG, reuse_address=True)
                break
            except (OSError, UnicodeError) as error:
                trouble = f"{self.route.workspace}: can't listen for {self.name} on {host}:{port}: {error}"
                if trouble != self.trouble:
                    log.error("a door stays closed; trying again every second", why=trouble)
                self.trouble = trouble
                await asyncio.sleep(BIND_RETRY_S)
        if self.trouble:
            self.trouble = ""
            log.info("a door opened at last", workspace=self.route.workspace, door=self.name, port=port)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()

    def _admit(self) -> Side:
        return Splice(self).client


class Address:
    """The one stable address of a workspace.

    `route` is where it leads now, `answers` counts signs that a primary lets clients in. `serving` is what the probe
    knows of the primary's HTTP door: None when that is nothing, or was proved wrong since.
    """

    def __init__(self, route: Route) -> None:
        self.route = route
        self.answers = 0
        self.serving: bool | None = None
        self.waiting: set[Splice] = set()
        self.attempts = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self.changed = asyncio.Event()
        self._splices: set[Splice] = set()
        self._searches: set[asyncio.Task[None]] = set()
        self._ssh = Entrance(self, "SSH", SSH, lambda endpoints: endpoints.ssh_port)
        self._http = Entrance(self, "HTTP", HTTP, lambda endpoints: endpoints.http_port)

    @property
    def clients(self) -> int:
        """How many clients are connected, waiting ones included."""
        return len(self._splices)

    @property
    def trouble(self) -> str:
        """Why a door stays closed, in words; "" when all is well."""
        return self._ssh.trouble or self._http.trouble

    async def serve(self, host: str) -> None:
        """Keep both doors open until cancelled; then everybody is cut."""
        try:
            async with asyncio.TaskGroup() as doors:
                for door, port in ((self._ssh, self.route.ssh_port), (self._http, self.route.http_port)):
                    if port:
                        doors.create_task(door.listen(host, port))
        finally:
            for splice in list(self._splices):
                splice.cut()
            for search in list(self._searches):
                search.cancel()

    def follow(self, route: Route) -> None:
        """Lead to `route` from now on. Clients of lower epochs are cut, waiting ones go there at once."""
        if route == self.route:
            return
        self.route = route
        self.serving = None
        for splice in list(self._splices):
            splice.follow()
        self.changed.set()

    def learn(self, serving: bool | None) -> None:
        """What the probe says of the HTTP door."""
        opened = serving is True and self.serving is not True
        self.serving = serving
        if opened:
            self._encourage()

    def arrived(self, splice: Splice, door: str) -> None:
        """A client came in."""
        if len(self.waiting) >= WAITING_MAX or len(self._splices) >= CLIENTS_MAX:
            log.warning("a client was turned away", workspace=self.route.workspace, waiting=len(self.waiting))
            splice.client.reset()
            return
        self._splices.add(splice)
        self.waiting.add(splice)
        search = asyncio.create_task(splice.find_primary(), name=f"{door} client of {self.route.workspace}")
        self._searches.add(search)
        search.add_done_callback(lambda done: self._searched(done, splice))

    def decided(self, splice: Splice) -> None:
        """A primary answered a client: the others that wait may try at once."""
        self.waiting.discard(splice)
        self._encourage()

    def left(self, splice: Splice) -> None:
        """A client is gone."""
        self._splices.discard(splice)
        self.waiting.discard(splice)

    def _encourage(self) -> None:
        self.answers += 1
        for splice in self.waiting:
            splice.encourage()

    def _searched(self, search: "asyncio.Task[None]", splice: Splice) -> None:
        self._searches.discard(search)
        if not search.cancelled() and (error := search.exception()):
            log.error("a client was cut by a mistake of ours", workspace=self.route.workspace, exc_info=error)
            splice.cut()
