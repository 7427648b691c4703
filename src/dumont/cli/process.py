"""Our two background processes, server and gateway: started detached, found again, ended by their own process ids."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dumont.client import Home

STOP_S_MAX = 10.0
LOOK_EVERY_S = 0.05


class Process:
    """`python -m MODULE …` for one home. `name` names its log and the file of its process id."""

    def __init__(self, home: Home, name: str, module: str) -> None:
        self.home = home
        self.name = name
        self.module = module
        self._started: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.home.log / f"{self.name}.log"

    def start(self, *arguments: str) -> None:
        """In a session of its own, its output appended to the log."""
        self.home.log.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._started = subprocess.Popen(
                [sys.executable, "-m", self.module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home.path,
                env={**os.environ, "PYTHONPATH": _absolute(os.environ.get("PYTHONPATH", ""))},
                start_new_session=True,
            )
        self._pid_file.write_text(str(self._started.pid))

    @property
    def ended(self) -> bool:
        """Whether it was started here and is over."""
        return self._started is not None and self._started.poll() is not None

    @property
    def pid(self) -> int | None:
        """Its process id, if it runs and is what we started; a number used again by another is not."""
        if self._started is not None and not self.ended:
            return self._started.pid  # its command line may not be there yet
        try:
            pid = int(self._pid_file.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError, IndexError):
            return None
        ours = self.module.encode() in words and any(os.fsencode(self.home.path) in word for word in words)
        return pid if ours and state != "Z" else None

    def end(self) -> bool:
        """Ask it to end, and make it end after STOP_S_MAX. False when it did not run."""
        pid = self.pid
        if pid is None:
            return False
        _signal(pid, signal.SIGTERM)
        give_up = time.monotonic() + STOP_S_MAX
        while self.pid == pid:
            if time.monotonic() > give_up:
                _signal(pid, signal.SIGKILL)
                break
            time.sleep(LOOK_EVERY_S)
        return True

    @property
    def _pid_file(self) -> Path:
        return self.home.run / f"{self.name}.pid"


def server_of(home: Home) -> Process:
    """The server's process."""
    return Process(home, "server", "dumont.main")


def gateway_of(home: Home) -> Process:
    """The gateway's process."""
    return Process(home, "gateway", "dumont.gateway")


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
        os.kill(pid, number)


def _absolute(search_path: str) -> str:
    return os.pathsep.join(str(Path(part).absolute()) for part in search_path.split(os.pathsep) if part)
