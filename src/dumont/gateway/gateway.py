"""The gateway: holds every workspace's address, follows the routes of the server, and tells it what its probes see.

It needs no server to route: the last routes are in a file, and whatever the server says wrong leaves them as they were.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import structlog

from dumont.clock import Clock
from dumont.errors import BadInput, Corrupt, DumontError, LinkClosed
from dumont.gateway.address import Address
from dumont.gateway.probe import Prober
from dumont.gateway.routes import Table, load, save
from dumont.wire.control import VERSION
from dumont.wire.link import Link
from dumont.wire.route import FromGateway, GatewayHello, Probe, Route, ToGateway

BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 1.0
MEND_S = 1.0
"""After how long something is tried again that failed here: a full disk, a mistake of ours."""

log = structlog.get_logger()

HubLink = Link[FromGateway, ToGateway]


class Gateway:
    """All addresses of one gateway. `dial` opens a link to a server, or raises a DumontError that says why not."""

    def __init__(
        self, dial: Callable[[], Awaitable[HubLink]], routes_file: Path, listen_host: str, clock: Clock
    ) -> None:
        self._dial = dial
        self._routes_file = routes_file
        self._listen_host = listen_host
        self._clock = clock
        self._rng = random.Random()
        self._table = Table()
        self._unsaved = asyncio.Event()
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._reports: dict[str, Probe] = {}
        self._news = asyncio.Event()
        self.addresses: dict[str, Address] = {}

    async def run(self) -> None:
        """Serve until cancelled; at first the routes from the file."""
        try:
            self._table = load(self._routes_file)
        except BadInput as error:
            log.error("starting without routes", why=str(error))
        self._apply()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._supervise(self._follow_server))
                both.create_task(self._supervise(self._keep_routes))
        finally:
            for workspace in list(self.addresses):
                self._close(workspace)

    # --- addresses

    def _take(self, offered: ToGateway) -> None:
        before = self._table.whole()
        for complaint in self._table.take(offered):
            log.warning("a route is not followed", why=complaint)
        self._apply()
        if self._table.whole() != before:
            self._unsaved.set()

    def _apply(self) -> None:
        """Make the addresses what the table says."""
        for workspace, address in list(self.addresses.items()):
            route = self._table.held.get(workspace)
            if route is None or _ports(route) != _ports(address.route):
                self._close(workspace)
        for workspace, route in self._table.held.items():
            if workspace in self.addresses:
                self.addresses[workspace].follow(route)
            else:
                self._open(route)

    def _open(self, route: Route) -> None:
        address = self.addresses[route.workspace] = Address(route)
        prober = Prober(address, self._report, self._clock)
        self._tasks[route.workspace] = [
            asyncio.create_task(self._supervise(lambda: address.serve(self._listen_host))),
            asyncio.create_task(self._supervise(prober.run)),
        ]

    def _close(self, workspace: str) -> None:
        del self.addresses[workspace]
        self._reports.pop(workspace, None)
        for task in self._tasks.pop(workspace):
            task.cancel()

    async def _keep_routes(self) -> None:
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            try:
                await asyncio.to_thread(save, self._routes_file, self._table.whole())
            except OSError as error:
                log.error("the routes can't be saved; a restart would use older ones", why=str(error))
                await self._clock.sleep(MEND_S)
                self._unsaved.set()

    # --- the server

    def _report(self, probe: Probe) -> None:
        """Have the newest probe of a workspace sent; an older one that is still unsent is skipped."""
        self._reports[probe.workspace] = probe
        self._news.set()

    async def _follow_server(self) -> None:
        backoff_s = BACKOFF_S_MIN
        said = ""
        while True:
            try:
                link = await self._dial()
            except DumontError as error:
                if str(error) != said:  # once, not ten times a second
                    said = str(error)
                    log.warning("no server; the routes stay as they are", why=said)
            else:
                backoff_s, said = BACKOFF_S_MIN, ""
                await self._talk(link)
            await self._clock.sleep(backoff_s * self._rng.uniform(0.5, 1.0))
            backoff_s = min(BACKOFF_S_MAX, backoff_s * 2)

    async def _talk(self, link: HubLink) -> None:
        """Send probes and take routes until the link closes."""
        log.info("connected to the server")
        self._reports.clear()
        try:
            await link.send(GatewayHello(VERSION))
            async with asyncio.TaskGroup() as both:
                both.create_task(self._listen(link))
                both.create_task(self._tell(link))
        except* LinkClosed as closed:
            log.warning("the server went away", why=str(closed.exceptions[0]))
        finally:
            link.close()

    async def _listen(self, link: HubLink) -> None:
        while True:
            try:
                self._take(await link.receive())
            except Corrupt as error:
                log.error("the server said something that can't be followed", why=str(error))

    async def _tell(self, link: HubLink) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._reports:
                _, probe = self._reports.popitem()
                await link.send(probe)

    async def _supervise(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Begin `work` again when a mistake of ours ended it: one broken part must not take every address down."""
        while True:
            task = asyncio.create_task(work())
            try:
                await asyncio.wait({task})
            finally:
                task.cancel()
            if not task.cancelled() and (error := task.exception()):
                log.error("a part of the gateway broke and begins anew", exc_info=error)
            await self._clock.sleep(MEND_S)


def _ports(route: Route) -> tuple[int, int]:
    return route.ssh_port, route.http_port
