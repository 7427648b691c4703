"""A real cloud in a short home: used through the command line and OpenSSH like anybody's, broken from outside."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dumont.client import Blocking, Home
from dumont.client.results import Happened, Replica, WorkspaceShown
from dumont.demo import faults
from dumont.demo.acklog import NONCE, Acked, AckReader, Found, lost
from dumont.demo.cloud import is_healthy
from dumont.demo.harness import BEACON
from dumont.demo.risk import take
from dumont.demo.witness import Errand, Outside, write_errand
from dumont.errors import DumontError, ServerAway

ROOT = Path(__file__).resolve().parents[2]
NAME = "w"
SETTLE_S_MAX = 60.0
BACK_S_MAX = 45.0
LOOK_EVERY_S = 0.05
COMMAND_S_MAX = 90.0
WORK = "while true; do date +%s.%N >> log; sleep 0.05; done"


class Cloud:
    """One home, one workspace `w` with a small workload, and a witness outside that logs every barrier.

    `wrapped` stands before each command line, `environment` is added to its environment.
    """

    def __init__(self, wrapped: tuple[str, ...] = (), environment: Mapping[str, str] | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="da-"))
        self.outside = Outside(self.home / "outside")
        self.acks = AckReader(self.outside.acks)
        self.environment = dict(environment or {})
        self._wrapped = wrapped
        self._witness: subprocess.Popen[bytes] | None = None

    # --- as anybody uses it

    def dumont(self, *words: str, status: int = 0, seconds: float = COMMAND_S_MAX) -> str:
        """What the command prints. Asserts its exit status."""
        done = self.run([sys.executable, "-m", "dumont.main", *words], seconds=seconds)
        assert done.returncode == status, f"{words} ended with {done.returncode}: {done.stdout!r} {done.stderr!r}"
        return done.stdout.decode()

    def run(
        self, argv: list[str], stdin: bytes = b"", seconds: float = COMMAND_S_MAX
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program of this machine, as the user of this cloud."""
        return subprocess.run(
            [*self._wrapped, *argv], env=self._environ(), input=stdin, capture_output=True, timeout=seconds, check=False
        )

    def ssh(self, command: str, stdin: bytes = b"", seconds: float = 30.0) -> subprocess.CompletedProcess[bytes]:
        """Run a command in the workspace with OpenSSH's client."""
        return self.run(["ssh", "-F", str(self.config), f"{NAME}.dumont", command], stdin, seconds)

    def python(self, script: str, seconds: float = 60.0) -> Any:
        """Run a Python program in the workspace; the JSON on its last line."""
        done = self.ask_python(script, seconds)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return json.loads(done.stdout.splitlines()[-1])

    def ask_python(self, script: str, seconds: float = 60.0) -> subprocess.CompletedProcess[bytes]:
        """Run a Python program in the workspace."""
        return self.ssh(f"{shlex.quote(sys.executable)} -", script.encode(), seconds)

    @property
    def config(self) -> Path:
        """An OpenSSH configuration file, as `dumont ssh-config` prints it."""
        path = self.home / "ssh-config"
        if not path.exists():
            path.write_text(self.dumont("ssh-config", NAME))
        return path

    def shown(self) -> WorkspaceShown:
        with Blocking(Home(self.home)) as sdk:
            shown: WorkspaceShown = sdk.workspace(NAME)
            return shown

    def events(self, since: str = "") -> list[Happened]:
        with Blocking(Home(self.home)) as sdk:
            return [event for event in sdk.events(NAME) if event.at > since]

    def kinds(self, since: str = "") -> list[str]:
        """What happened after that instant (ISO 8601, UTC)."""
        return [event.kind for event in self.events(since)]

    # --- its life

    def start(self) -> None:
        """Up, launch, wait until two machines hold it, and let the witness begin."""
        self.home.chmod(0o755)
        self.dumont("up")
        self.dumont("launch", NAME, "--run", WORK, "--on-standby", WORK, "--no-return")
        self.until("two copies", is_healthy)
        self.run(["scp", "-F", str(self.config), str(BEACON), f"{NAME}.dumont:beacon.py"])
        shown = self.shown()
        command = f"PYTHONDONTWRITEBYTECODE=1 {shlex.quote(sys.executable)} beacon.py run"
        url = f"http://{shown.address.host}:{shown.address.http_port}/.dumont/probe"
        write_errand(self.outside, Errand(str(self.config), shown.address.alias, command, url))
        self._witness = subprocess.Popen(
            [sys.executable, "-m", "dumont.demo.witness", str(self.outside.path)],
            env=self._environ(),
            start_new_session=True,
        )
        self.settle()

    def up(self, tries_max: int = 6) -> None:
        """Up, also where a server that imports a cloud's client takes longer than the command waits for it."""
        for _ in range(tries_max - 1):
            if self.run([sys.executable, "-m", "dumont.main", "up"]).returncode == 0:
                return
        self.dumont("up")

    def stop(self, seconds: float = COMMAND_S_MAX) -> None:
        """Everything down, however broken, and nothing left behind. `seconds`: what machines may take to end."""
        self.quieten()
        if self._witness:
            self._witness.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._witness.wait(10)
            self._witness.kill()
            self._witness.wait()
        try:
            self.dumont("down", "--all", "--yes", seconds=seconds)
        finally:
            for record in (self.home / "instances").glob("*/machine.json"):
                with suppress(DumontError):
                    asyncio.run(faults.kill(self.home, record.parent.name))
            shutil.rmtree(self.home, ignore_errors=True)

    def quieten(self) -> None:
        """Whatever a test froze or cut off goes on."""
        self.outside.pause.unlink(missing_ok=True)
        if pid := self.server_pid:
            faults.thaw_pid(pid)
        for record in (self.home / "instances").glob("*/machine.json"):
            with suppress(DumontError):
                asyncio.run(faults.heal(self.home, record.parent.name))

    @property
    def server_pid(self) -> int:
        """The server's process; 0 when there is none."""
        try:
            pid = int((self.home / "run/server.pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return 0
        return pid if os.fsencode(self.home) in words else 0

    def kill_server(self) -> None:
        """SIGKILL to the server, and to nothing else."""
        pid = self.server_pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        wait_until("the server is dead", lambda: not self.server_pid, 5)

    # --- what becomes of it

    def until(
        self, what: str, holds: Callable[[WorkspaceShown], bool], seconds: float = SETTLE_S_MAX
    ) -> WorkspaceShown:
        """The workspace once it is so."""
        give_up = time.monotonic() + seconds
        with Blocking(Home(self.home)) as sdk:
            while True:
                shown: WorkspaceShown = sdk.workspace(NAME)
                if holds(shown):
                    return shown
                assert time.monotonic() < give_up, f"{what}: not within {seconds:.0f} s, but {self.brief(shown)}"
                time.sleep(LOOK_EVERY_S)

    def settle(self, seconds: float = SETTLE_S_MAX) -> WorkspaceShown:
        """Two copies, and a barrier of the present epoch that returned OK after this call."""
        began = time.time()
        give_up = time.monotonic() + seconds
        while True:
            shown = self.until("two copies", is_healthy, max(give_up - time.monotonic(), 0))
            if any(ack.commit[0] == shown.epoch and ack.at > began for ack in self.nonces()):
                return shown
            assert time.monotonic() < give_up, f"no barrier is OK: {self.unknown()[-3:]}; {self.brief(shown)}"
            time.sleep(LOOK_EVERY_S)

    def brief(self, shown: WorkspaceShown) -> str:
        """What a failed test should say of it, with the end of what each machine and the server wrote."""
        replicas = [
            (one.id, one.role, one.phase, one.ready, one.epoch, one.head, one.refusal) for one in shown.replicas
        ]
        logs = [*(self.home / "instances").glob("*/log"), *(self.home / "log").glob("*.log")]
        tails = [f"{path}:\n{path.read_text(errors='replace')[-1500:]}" for path in logs]
        return "\n".join([f"{shown.state}, epoch {shown.epoch}, {shown.copies} copies, {replicas}", *tails])

    def nonces(self) -> list[Acked]:
        """Every barrier of the witness that returned OK."""
        self.acks.read()
        return [ack for ack in self.acks.all if ack.kind == NONCE]

    def unknown(self) -> list[dict[str, Any]]:
        """Every barrier of the witness that did not, and each of its sessions that ended."""
        if not self.outside.unknown.exists():
            return []
        return [json.loads(line) for line in self.outside.unknown.read_bytes().splitlines()]

    def lost(self) -> list[Acked]:
        """Acknowledged writes that the primary's tree, asked over its address, does not hold."""
        acked = list(self.nonces())
        told = json.loads(self.address_answers(f"{shlex.quote(sys.executable)} beacon.py show").splitlines()[-1])
        return lost(acked, Found(tuple(told["lines"]), told["slots"]))

    def address_answers(self, command: str = "true", seconds: float = BACK_S_MAX) -> str:
        """Try the one address until the command runs there; what it printed."""
        give_up = time.monotonic() + seconds
        while True:
            done = self.ssh(command, seconds=seconds)
            if done.returncode == 0:
                return done.stdout.decode()
            assert time.monotonic() < give_up, f"`{command}` ends with {done.returncode}: {done.stderr!r}"
            time.sleep(0.1)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Read the database from outside, also while the server is dead."""
        with sqlite3.connect(f"file:{self.home / 'dumont.db'}?mode=ro", uri=True, timeout=5) as database:
            return database.execute(query).fetchall()

    def epoch(self) -> int:
        """The epoch that is written in the database."""
        return int(self.rows(f"SELECT epoch FROM workspace WHERE name = '{NAME}'")[0][0])

    # --- faults

    def kill(self, instance_id: str) -> None:
        """What losing a machine's power does to it."""
        asyncio.run(faults.kill(self.home, instance_id))

    def fail_over(self, seconds: float = SETTLE_S_MAX) -> WorkspaceShown:
        """Kill the primary, and wait until all is well again."""
        before = self.settle(seconds)
        self.kill(before.primary)
        self.until("a promotion", lambda shown: serves(shown, before.epoch + 1), max(BACK_S_MAX, seconds))
        return self.settle(seconds)

    def take_disk(self, instance_id: str) -> Path:
        """The tree of a machine that was just killed, taken out of it before it is let go."""
        return take(faults.tree_of(self.home, instance_id), self.home / f"disk-{instance_id}")

    def _environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "DUMONT"))}
        ours = {"DUMONT_HOME": str(self.home), "PYTHONPATH": str(ROOT / "src"), "LANG": "C.UTF-8", "COLUMNS": "200"}
        return kept | ours | self.environment


class Clouds:
    """Hands out the shared cloud, whole."""

    def __init__(self) -> None:
        self._cloud: Cloud | None = None

    def whole(self) -> Cloud:
        """The shared cloud with two copies and barriers that return OK; another one if the last test left none."""
        if self._cloud:
            try:
                self._cloud.quieten()
                self._cloud.dumont("up")
                self._cloud.settle(30)
                return self._cloud
            except (AssertionError, DumontError):
                self.close()
        self._cloud = Cloud()
        try:
            self._cloud.start()
        except (AssertionError, DumontError):
            self.close()
            raise
        return self._cloud

    def close(self) -> None:
        if self._cloud:
            self._cloud.stop()
            self._cloud = None


def serves(shown: WorkspaceShown, epoch: int) -> bool:
    """Whether a primary of that epoch or a later one lets people in."""
    return shown.epoch >= epoch and any(replica.id == shown.primary and replica.ready for replica in shown.replicas)


def standby_of(shown: WorkspaceShown) -> Replica:
    """The replica that is no primary, but in the ack set."""
    return next(replica for replica in shown.replicas if replica.in_ack_set and replica.id != shown.primary)


def now() -> str:
    """The present instant as events tell it."""
    stamp = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp)) + f".{int(stamp % 1 * 1e6):06}+00:00"


def wait_until(what: str, holds: Callable[[], object], seconds: float, every_s: float = LOOK_EVERY_S) -> None:
    """Fails the test when it is not so in time."""
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, f"{what}: not within {seconds} s"
        time.sleep(every_s)


@contextmanager
def running(cloud: Cloud) -> Iterator[Cloud]:
    """Started, and always taken down."""
    try:
        cloud.start()
        yield cloud
    finally:
        cloud.stop()


def is_away(cloud: Cloud) -> bool:
    """Whether nobody answers for that home."""
    try:
        cloud.shown()
    except ServerAway:
        return True
    return False
