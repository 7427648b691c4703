"""A doorstep to test on: a real session process, the engine's side of its socket, and OpenSSH's own clients."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from dumont.agent.boot import RunDir
from dumont.agent.processes import state
from dumont.errors import LinkClosed
from dumont.wire.link import SocketLink
from dumont.wire.local import FromSession, Quiesce, Quiesced, Serve, Serving, ToSession

SOURCES = Path(__file__).resolve().parents[2] / "src"
CLIENT_S_MAX = 60.0
NEEDED = {name: shutil.which(name) for name in ("ssh", "scp", "sftp", "rsync", "git", "ssh-keygen")}

needs_openssh = pytest.mark.skipif(
    not all(NEEDED.values()), reason=f"these programs are missing: {[name for name in NEEDED if not NEEDED[name]]}"
)


@dataclass(frozen=True)
class Ended:
    """What a client said, and with which exit status it ended."""

    status: int
    out: bytes
    err: bytes


class Doorstep:
    """A session process with its run directory and workspace, told what to serve as the engine would."""

    def __init__(self, directory: Path, watched: bool = False) -> None:
        self.watched = watched
        self.directory = directory
        self.run = RunDir(directory / "run")
        self.workspace = directory / "work"
        self.home = directory / "client"
        for folder in (self.run.path, self.workspace, self.home):
            folder.mkdir(parents=True, mode=0o700)
        self.host_key, self.owner_key = make_key(self.home / "host"), make_key(self.home / "owner")
        self.identity = self.owner_key
        self.reports: list[Serving] = []
        self.quiesced = 0
        self.ports = (0, 0)
        self._heard = asyncio.Event()
        self._lost = False
        self._link: SocketLink[ToSession, FromSession] | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def report(self) -> Serving:
        return self.reports[-1]

    def write_boot(self) -> None:
        """The boot file; the ports of an earlier start are kept."""
        boot = {
            "instance_id": "i-1", "server_host": "127.0.0.1", "server_port": 1, "ca_pem": "-", "join_token": "-",
            "host": "127.0.0.1", "workspace_dir": str(self.workspace), "data_dir": str(self.directory),
            "machine": "gpu", "ssh_port": self.ports[0], "http_port": self.ports[1], "stream_port": 0,
        }  # fmt: skip
        self.run.boot.write_text(json.dumps(boot))

    async def start(self) -> None:
        """Start the process and dial it. Watched, it has a real watchdog as its parent, and idle brothers."""
        self.write_boot()
        (self.home / "stand_in_idle.py").write_text("import time\nwhile True: time.sleep(60)\n")
        arguments = ["dumont.agent.session", str(self.run.path)]
        if self.watched:
            modules = ["engine=stand_in_idle", "pulse=stand_in_idle", "session=dumont.agent.session"]
            arguments = ["dumont.agent.watchdog", str(self.run.path), *modules]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", *arguments],
            env={**os.environ, "PYTHONPATH": f"{SOURCES}:{self.home}"},
            start_new_session=True,
        )
        await self.dial()

    async def dial(self) -> None:
        """Connect as the engine does, replacing the connection before, and wait for the first report."""
        until = time.monotonic() + 20
        await self.hang_up()
        self.reports.clear()
        while not self.reports:  # a process that was just killed may still take the call
            assert time.monotonic() < until, "the session process did not come up"
            await asyncio.sleep(0.02)
            with suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(self.run.session_socket)
                self._link = link = SocketLink(reader, writer, FromSession)
                self._reading = asyncio.create_task(self._read(link))
                await self.until(lambda: bool(self.reports) or self._lost)
        self.ports = (self.report.ssh_port, self.report.http_port)

    async def hang_up(self) -> None:
        """Close the engine's side."""
        if self._link and self._reading:
            self._link.close()
            await asyncio.wait({self._reading})

    async def serve(self, epoch: int, serving: bool = True, **more: object) -> None:
        """Send a Serve with the owner's key and the host key."""
        assert self._link
        keys = {"owner_keys": (public(self.owner_key),), "host_key": self.host_key.read_text()}
        await self._link.send(Serve(workspace="w", epoch=epoch, serving=serving, **(keys | more)))  # type: ignore[arg-type]

    async def open(self, epoch: int = 1, **more: object) -> None:
        """Send a Serve and wait until the doors are open."""
        await self.serve(epoch, **more)
        await self.until(lambda: self.report.serving and self.report.epoch == epoch)

    async def quiesce(self, on_switch: str = "", grace_s: float = 1.0) -> float:
        """Quiesce and wait for the answer; after how many seconds it came."""
        assert self._link
        began, count = time.monotonic(), self.quiesced
        await self._link.send(Quiesce(on_switch, grace_s))
        await self.until(lambda: self.quiesced > count)
        return time.monotonic() - began

    async def until(self, is_so: Callable[[], bool], seconds: float = 15.0) -> None:
        """Wait until what the session reported makes something so."""
        async with asyncio.timeout(seconds):
            while not is_so():
                self._heard.clear()
                await self._heard.wait()

    async def client(self, program: str, *arguments: str, stdin: bytes | None = None) -> Ended:
        """Run ssh, scp, sftp, rsync or git to its end, as the workspace's owner."""
        process = await self.begin(program, *arguments)
        async with asyncio.timeout(CLIENT_S_MAX):
            out, err = await process.communicate(stdin or b"")
        assert process.returncode is not None
        return Ended(process.returncode, out, err)

    async def begin(self, program: str, *arguments: str) -> asyncio.subprocess.Process:
        """Start such a client, with pipes."""
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            program, *self.options(program), *arguments, stdin=pipe, stdout=pipe, stderr=pipe, cwd=self.home
        )

    async def ssh(self, *arguments: str, stdin: bytes | None = None) -> Ended:
        """`ssh … w arguments`."""
        return await self.client("ssh", "w", *arguments, stdin=stdin)

    def options(self, program: str) -> list[str]:
        """Options that lead a client here, and nowhere else; the host key must be the known one."""
        config = self.home / f"config-{self.ports[0]}"
        if not config.exists():  # a client that just starts may be reading it
            (self.home / "known").write_text(f"w {public(self.host_key)}\n")
            config.write_text(
                f"Host w\n  HostName 127.0.0.1\n  Port {self.ports[0]}\n  User anybody\n  HostKeyAlias w\n"
                f"  IdentitiesOnly yes\n  IdentityAgent none\n  BatchMode yes\n"
                f"  StrictHostKeyChecking yes\n  UserKnownHostsFile {self.home / 'known'}\n"
                "  GlobalKnownHostsFile /dev/null\n  LogLevel ERROR\n  UpdateHostKeys no\n  ConnectTimeout 10\n"
            )
        if program == "rsync":
            return ["-e", f"ssh -F {config} -i {self.identity}"]
        if program == "git":
            return ["-c", f"core.sshCommand=ssh -F {config} -i {self.identity}"]
        return ["-F", str(config), "-i", str(self.identity)]

    async def stop(self) -> None:
        """End the process, whatever state it is in."""
        await self.hang_up()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.process.wait, 5)
        self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def _read(self, link: SocketLink[ToSession, FromSession]) -> None:
        self._lost = False
        with suppress(LinkClosed):
            while True:
                match await link.receive():
                    case Serving() as serving:
                        self.reports.append(serving)
                    case Quiesced():
                        self.quiesced += 1
                self._heard.set()
        link.close()
        self._lost = True
        self._heard.set()


@asynccontextmanager
async def doorstep(directory: Path, watched: bool = False) -> AsyncIterator[Doorstep]:
    """A started session process with its doors closed, ended with the block."""
    step = Doorstep(directory, watched)
    try:
        await step.start()
        yield step
    finally:
        await step.stop()


def make_key(path: Path) -> Path:
    """A new key pair made by OpenSSH; the path of its private half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    path.chmod(0o600)  # OpenSSH refuses a key that others may read
    return path


def public(key: Path) -> str:
    """The public half of a key, as one line."""
    return key.with_suffix(".pub").read_text().strip()


async def exchange(port: int, text: bytes) -> bytes:
    """Send `text` to a port and read to the end; b"" when the connection is closed or refused at once."""
    with suppress(OSError):
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(text)
            answer = await reader.read()
            writer.close()
            return answer
    return b""


async def until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.02)


async def number_in(path: Path) -> int:
    """The number that a program writes to a file, once it has."""
    await until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def runs(pid: int) -> bool:
    """Whether that process is there and has not ended."""
    return state(pid) not in ("", "Z", "X")
