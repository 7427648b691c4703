"""The session process of an instance: everything that a user of the workspace touches.

Run as `python -m dumont.agent.session RUN_DIR`. It starts on every instance with its doors closed, and opens them
when the engine says that this replica is primary, so that a promotion costs no start-up.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from dumont.agent.boot import RunDir, read_boot
from dumont.agent.ending import Kin, end
from dumont.agent.gpus import Nvml
from dumont.agent.listening import listen
from dumont.agent.meters import METERS_S, MachineGauges, Meter
from dumont.agent.shell import Shells
from dumont.agent.ssh import SshDoor
from dumont.agent.surroundings import Surroundings
from dumont.agent.web import WebDoor
from dumont.agent.workload import Log, ShellCommand, Workload, in_words
from dumont.clock import Clock, SystemClock
from dumont.errors import BadInput, Corrupt, LinkClosed
from dumont.i18n import _
from dumont.wire.control import Meters
from dumont.wire.link import MESSAGE_BYTES_MAX, SocketLink
from dumont.wire.local import FromSession, Quiesce, Quiesced, Serve, Serving, ToSession

CLOSING_TERM_S = 0.3
"""When the doors close for good, programs have so long between TERM and KILL: this replica is no longer primary."""

_QUIESCE_TERM_S_MIN = 0.3
_METERS_OLD_S = 5.0

log = logging.getLogger("dumont.session")


class Session:
    """Serves what the engine last asked for. Safe to be told again.

    The doors close within the call that says so; what runs behind them ends after it, and is gone before they open
    again. `epoch` is the one that all of this has been done for. A quiesced epoch is not opened again unless the
    doors were closed on purpose in between.
    """

    def __init__(self, around: Surroundings, kin: Kin, clock: Clock, listener: socket.socket) -> None:
        self.wanted = Serve(workspace="", epoch=0, serving=False)
        self.epoch = 0
        self.serving = False
        self.changed = asyncio.Event()
        self.shells = Shells(around)
        self.ssh = SshDoor(listener, self.shells, self.changed.set)
        self.web = WebDoor(around.app_port, self.probe)
        self.workload = Workload(self._launch, clock, self.changed.set)
        self._around = around
        self._kin = kin
        self._clock = clock
        self._log = Log(around.run.path / "workload.log")
        self._asked: tuple[bool, int, str] | None = None
        self._quiesced: int | None = None
        self._asked_at: float | None = None
        self._dirty = True  # whatever a crashed predecessor left running is not ours to serve
        self._step: asyncio.Task[None] | None = None
        self._stepping = asyncio.Lock()

    def probe(self) -> dict[str, Any]:
        """What the gateway and `/.dumont/probe` are told."""
        self._asked_at = self._clock.monotonic()
        head = self.wanted.head
        return {
            "epoch": self.epoch,
            "serving": self.serving,
            "head": str(head) if head else None,
            "instance": self._around.boot.instance_id,
        }

    @property
    def asked_s_ago(self) -> float | None:
        """Seconds since somebody last probed; None while nobody did."""
        return None if self._asked_at is None else self._clock.monotonic() - self._asked_at

    def serve(self, serve: Serve) -> None:
        """Follow the engine's wish. Closes the doors before it returns, if they must close."""
        if serve.epoch < self.wanted.epoch:
            log.warning("epoch %d is over; following %d", serve.epoch, self.wanted.epoch)
            return
        self.wanted = serve
        self._around.workspace = serve.workspace
        self.ssh.use_keys(serve.host_key, serve.owner_keys)
        asked = (serve.serving, serve.epoch, serve.command)
        if asked == self._asked:
            return
        if not serve.serving:
            self._quiesced = None
        elif serve.epoch == self._quiesced:
            return
        if self._asked and self._asked[:2] != asked[:2]:
            self._close()
        self._asked = asked
        self._begin(self._follow)

    def quiesce(self, quiesce: Quiesce, done: Callable[[], None]) -> None:
        """Warn, let `on_switch` run, end everything; then call `done`. Nobody gets in from now on."""
        again = self._quiesced == self.wanted.epoch
        if again and self._step and not self._step.done():
            return  # it will say `done` when it is
        self._quiesced = self.wanted.epoch
        self.serving = False
        self.ssh.admit_nobody()
        self.web.admit_nobody()
        self.changed.set()
        self._begin(lambda: self._quiesce(quiesce, first=not again, done=done))

    async def shut(self) -> None:
        """Close the doors and end everything, because this process ends."""
        self._close()
        self._begin(self._clear)
        if self._step:
            await asyncio.wait({self._step})

    def _begin(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `step` instead of what was being done. Each sets right whatever an earlier one left half done."""
        if self._step:
            self._step.cancel()
        self._step = asyncio.create_task(self._take(step))

    async def _take(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._stepping:
            await step()
        self.changed.set()

    async def _follow(self) -> None:
        serve = self.wanted
        if self._dirty and not self.serving:
            await self._clear()
        self.epoch = serve.epoch
        if serve.serving:
            self._dirty = True
            self.serving = True
            self.ssh.open()
            self.web.open()
            self.changed.set()
            await self.workload.run(serve.command)

    async def _clear(self) -> None:
        await self.workload.forget()
        if not await end(self._kin.all, CLOSING_TERM_S, self._clock, hang_up=True):
            log.error("some programs can't be ended: %s", self._kin.all())
        await self.workload.stop()
        self._dirty = False

    async def _quiesce(self, quiesce: Quiesce, *, first: bool, done: Callable[[], None]) -> None:
        until = self._clock.monotonic() + quiesce.grace_s
        self.shells.warn(lambda: _("This workspace is moving to another machine. Connect again in a moment."))
        await self.workload.forget()
        if first:
            await self._on_switch(quiesce.on_switch, until)
        term_s = max(until - self._clock.monotonic(), _QUIESCE_TERM_S_MIN)
        while not await end(self._kin.all, term_s, self._clock, hang_up=True):
            log.error("some programs can't be ended: %s", self._kin.all())
            term_s = 0
        await self.workload.stop()
        self._close()
        self._dirty = False
        done()

    async def _on_switch(self, command: str, until: float) -> None:
        if not command:
            return
        try:
            async with asyncio.timeout(max(until - self._clock.monotonic(), 0)):
                status = await (await self._launch(command)).wait()
            if status != 0:
                log.warning("on_switch failed: %s", in_words(status))
        except TimeoutError:
            log.warning("on_switch took longer than its grace, and is ended")
        except OSError as error:
            log.warning("on_switch could not be started: %s", error)

    async def _launch(self, command: str) -> ShellCommand:
        return await ShellCommand.start(command, self._around, self._kin, self._clock, self._log)

    def _close(self) -> None:
        self.serving = False
        self.ssh.close()
        self.web.close()
        self.changed.set()


class Desk:
    """The Unix socket at which the engine tells the session what to do. The newest connection counts."""

    def __init__(self, session: Session, meter: Meter, clock: Clock, ports: tuple[int, int]) -> None:
        self._session = session
        self._meter = meter
        self._clock = clock
        self._ssh_port, self._http_port = ports
        self._link: SocketLink[FromSession, ToSession] | None = None
        self._meters = Meters()
        self._metered_at = clock.monotonic()
        self._sending: set[asyncio.Task[None]] = set()

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection of the engine to its end. What is served goes on without it."""
        link: SocketLink[FromSession, ToSession] = SocketLink(reader, writer, ToSession, peer="the engine")
        if self._link:
            self._link.close()
        self._link = link
        self._session.changed.set()
        try:
            while True:
                self._obey(await link.receive())
        except LinkClosed:
            log.info("the engine went away")
        except Corrupt as error:
            log.error("%s", error)
        finally:
            link.close()
            if self._link is link:
                self._link = None

    def close(self) -> None:
        """Hang up."""
        if self._link:
            self._link.close()

    async def report_forever(self) -> None:
        """Send what is served at each change and once a second."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._session.changed.wait()
            self._session.changed.clear()
            await self._send(self._serving())

    async def meter_forever(self) -> None:
        """Read the meters in a thread: a file system that hangs must not stop the rest."""
        while True:
            served = self._session.epoch if self._session.serving else None
            self._meters = await asyncio.to_thread(self._meter.read, served)
            self._metered_at = self._clock.monotonic()
            await self._clock.sleep(METERS_S)

    def _obey(self, message: ToSession) -> None:
        if isinstance(message, Serve):
            self._session.serve(message)
            self._session.changed.set()
        else:
            self._session.quiesce(message, self._say_quiesced)

    def _say_quiesced(self) -> None:
        task = asyncio.create_task(self._send(Quiesced()))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _serving(self) -> Serving:
        session = self._session
        old = self._clock.monotonic() - self._metered_at > _METERS_OLD_S
        return Serving(
            epoch=session.epoch,
            serving=session.serving,
            ssh_port=self._ssh_port,
            http_port=self._http_port,
            workload=session.workload.state,
            clients=session.ssh.clients + session.web.clients,
            meters=Meters() if old else self._meters,
            asked_s_ago=session.asked_s_ago,
        )

    async def _send(self, message: FromSession) -> None:
        if self._link:
            with suppress(LinkClosed):
                await self._link.send(message)


async def main(run: RunDir) -> None:
    """Serve until TERM. Raises BadInput when the boot file is bad, OSError when a port is taken."""
    boot, clock = read_boot(run), SystemClock()
    around, kin = Surroundings(run, boot), Kin(run)
    ssh_listener, web_listener = listen(boot.host, boot.ssh_port), listen(boot.host, boot.http_port)
    session = Session(around, kin, clock, ssh_listener)
    meter = Meter(MachineGauges(around.directory, Nvml(), Kin(run).all))  # kin of its own: it is asked from a thread
    ports = session.ssh.port, int(web_listener.getsockname()[1])
    desk = Desk(session, meter, clock, ports)
    session.serve(session.wanted)
    run.session_socket.unlink(missing_ok=True)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    umask = os.umask(0o177)
    desk_server = await asyncio.start_unix_server(desk.receive, run.session_socket, limit=MESSAGE_BYTES_MAX)
    os.umask(umask)
    web_server = await asyncio.start_server(session.web.serve, sock=web_listener)
    forever = [session.ssh.serve_forever(), desk.report_forever(), desk.meter_forever(), stopped.wait()]
    tasks = [asyncio.create_task(work) for work in forever]
    done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    desk_server.close()
    web_server.close()
    desk.close()
    await session.shut()
    for task in done:
        task.result()  # raises what ended it, if it wasn't a signal


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    try:
        asyncio.run(main(RunDir(Path(sys.argv[1]))))
    except (BadInput, OSError) as error:
        sys.exit(f"session: {error}")
