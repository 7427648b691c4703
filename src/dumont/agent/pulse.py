"""The pulse: says four times a second that this instance lives, and carries the answers to the watchdog.

    python -m dumont.agent.pulse RUN_DIR

A process of its own, so that a busy engine does not look like a dead machine. A server that answers "you lead" renews
the lease; one that knows of a higher epoch ends the workload of ours.
"""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dumont.agent.boot import Boot, RunDir, read_boot
from dumont.agent.orders import Orders
from dumont.clock import Clock, SystemClock
from dumont.errors import BadInput, Corrupt, LinkClosed
from dumont.replication.lease import Beats
from dumont.wire.control import Beat, BeatReply, FromServer
from dumont.wire.identity import SERVER, client_context
from dumont.wire.link import Link, SocketLink, dial

BEAT_S = 0.250
REDIAL_S_MIN = 0.1
REDIAL_S_MAX = 1.0
DIAL_S_MAX = 1.0
SILENT_MS_MAX = 1000
"""A link that says nothing for longer is kept, and another one is dialled beside it. Closing it first would tell a
server that was only frozen for a while that this instance is gone."""
IDENTITY_POLL_S = 0.1


class Pulse:
    """Beats over one link at a time. `dial_server` opens one and raises LinkClosed; `epoch` reads the engine's."""

    def __init__(
        self,
        instance_id: str,
        dial_server: Callable[[], Awaitable[Link[Beat, FromServer]]],
        orders: Orders,
        epoch: Callable[[], int],
        clock: Clock,
    ) -> None:
        self._instance_id = instance_id
        self._dial = dial_server
        self._orders = orders
        self._epoch = epoch
        self._clock = clock
        self._beats = Beats(clock.monotonic())
        self._pause_s = 0.0

    async def beat_for_ever(self, rng: random.Random) -> None:
        """Keep a link to some server open, and beat over it. Pauses between dials grow, with chance in them."""
        talking: asyncio.Task[None] | None = None
        try:
            while True:
                if talking and not talking.done() and self._hears():
                    await self._while_it_lasts(talking)
                    continue
                await self._clock.sleep(self._pause_s * rng.uniform(0.5, 1.0))
                self._pause_s = min(max(self._pause_s * 2, REDIAL_S_MIN), REDIAL_S_MAX)
                try:
                    link = await self._dial()
                except LinkClosed:
                    continue
                self._beats.opened(self._clock.monotonic())
                before, talking = talking, asyncio.create_task(self._talk(link))
                await _ended(before)
        finally:
            await _ended(talking)

    async def _while_it_lasts(self, talking: asyncio.Task[None]) -> None:
        """Until the link is closed, or it is time to look again whether it says anything."""
        late = asyncio.create_task(self._clock.sleep(BEAT_S))
        await asyncio.wait({talking, late}, return_when=asyncio.FIRST_COMPLETED)
        await _ended(late)

    def _hears(self) -> bool:
        return self._beats.heard_ms_ago(self._clock.monotonic()) <= SILENT_MS_MAX

    async def _talk(self, link: Link[Beat, FromServer]) -> None:
        """Beat and listen until the link is closed."""
        saying = asyncio.create_task(self._say(link))
        try:
            while True:
                message = await link.receive()
                if isinstance(message, BeatReply):
                    self._take(message)
        except (LinkClosed, Corrupt):
            return
        finally:
            link.close()
            await _ended(saying)

    async def _say(self, link: Link[Beat, FromServer]) -> None:
        with suppress(LinkClosed):  # which whoever listens notices too
            while True:
                now = self._clock.monotonic()
                await link.send(Beat(self._instance_id, self._epoch(), now, self._beats.heard_ms_ago(now)))
                await self._clock.sleep(BEAT_S)

    def _take(self, reply: BeatReply) -> None:
        self._beats.heard(self._clock.monotonic())
        self._pause_s = REDIAL_S_MIN
        epoch = self._epoch()
        if reply.epoch > epoch:
            self._orders.end(reply.epoch)
        elif reply.leads and reply.epoch == epoch:
            self._orders.renew(epoch, reply.sent_at)


async def _ended(task: asyncio.Task[None] | None) -> None:
    """Cancel a task of ours and wait until it is over."""
    if task is not None:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()


def read_epoch(run: RunDir) -> int:
    """The epoch that the engine follows; 0 before it said so."""
    try:
        return int(run.epoch.read_text())
    except (OSError, ValueError):
        return 0


async def dial_hub(run: RunDir, boot: Boot) -> SocketLink[Any, Any]:
    """A link to the hub. Raises LinkClosed when nobody answers, or somebody who is not the server.

    The identity is read each time: the engine renews it.
    """
    try:
        context = client_context(run.certificate, run.key, run.authority)
    except OSError as error:  # ssl.SSLError is one
        raise LinkClosed(f"the identity in {run.path} can't be used: {error}") from error
    link = await dial(boot.server_host, boot.server_port, FromServer, tls=context, timeout_s=DIAL_S_MAX)
    if link.peer != SERVER:
        link.close()
        raise LinkClosed(f"{boot.server_host}:{boot.server_port} is {link.peer or 'nobody'} and not the server")
    return link


async def run_pulse(run: RunDir, clock: Clock, rng: random.Random) -> None:
    """Wait for an identity, then beat for ever."""
    boot = read_boot(run)
    while not run.certificate.exists():
        await clock.sleep(IDENTITY_POLL_S)
    orders = Orders(run, clock.monotonic)
    try:
        pulse = Pulse(boot.instance_id, lambda: dial_hub(run, boot), orders, lambda: read_epoch(run), clock)
        await pulse.beat_for_ever(rng)
    finally:
        orders.close()


def main(arguments: list[str]) -> int:
    """Run the pulse. 2 when the run directory makes no sense."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m dumont.agent.pulse RUN_DIR\n")
        return 2
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        asyncio.run(run_pulse(RunDir(Path(arguments[0])), SystemClock(), random.Random(time.monotonic_ns())))
    except BadInput as error:
        sys.stderr.write(f"pulse: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
