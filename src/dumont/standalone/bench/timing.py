"""How long a whole process takes: wall time, processor time and peak memory, from outside."""

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dumont.errors import DumontError

STOPWATCH = str(Path(__file__).with_name("stopwatch.py"))
OUTPUT_BYTES_MAX = 2**20
COMMAND_S_MAX = 900.0
KEPT_OF_ERRORS_BYTES = 2_000
LAST_LINES = 2


class PeerFailed(DumontError):
    """A tool that the bench runs ended with an error, or not in time; the message holds its last words."""


@dataclass(frozen=True)
class Command:
    """A process to start: its words, what it finds in its environment beside ours, where it runs."""

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True)
class Sample:
    """One run. `cpu_s` sums over all its processes; `memory_bytes_max` is the largest one's peak."""

    seconds: float
    cpu_s: float
    memory_bytes_max: int
    started_at: float
    output: str = ""


def run(command: Command) -> Sample:
    """Run to the end and measure. Raises PeerFailed when it can't start, ends with an error or takes too long."""
    with _memory() as out, _memory() as err, _memory() as told:
        launcher = [sys.executable, "-I", "-S", STOPWATCH, str(told.fileno()), *command.words]
        process = subprocess.Popen(
            launcher, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=command.folder,
            env={**os.environ, **command.environment}, pass_fds=(told.fileno(),), start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(COMMAND_S_MAX)
        except subprocess.TimeoutExpired as error:
            raise PeerFailed(f"`{' '.join(command.words)}` took more than {COMMAND_S_MAX:.0f} s") from error
        finally:
            if process.returncode is None:  # too long, or Ctrl-C: what we started ends, and then we
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output, errors = _read(out, OUTPUT_BYTES_MAX), _read(err, KEPT_OF_ERRORS_BYTES)
        if status != 0:
            last = " | ".join([line.strip() for line in (errors or output).splitlines() if line.strip()][-LAST_LINES:])
            raise PeerFailed(f"`{' '.join(command.words)}` ended with {status}: {last}")
        return Sample(**json.loads(_read(told, OUTPUT_BYTES_MAX)), output=output)


def spread(samples: Sequence[float], digits: int = 4) -> dict[str, Any]:
    """Median, least, greatest and all of `samples`, for the record."""
    return {
        "median": round(statistics.median(samples), digits),
        "min": round(min(samples), digits),
        "max": round(max(samples), digits),
        "all": [round(one, digits) for one in samples],
    }


def turns(names: Sequence[str], rounds: int) -> list[list[str]]:
    """Who runs when: A B C, then C B A, and so on (ABBA), so that a drift of the machine touches all alike."""
    return [list(names) if number % 2 == 0 else list(reversed(names)) for number in range(rounds)]


def _memory() -> Any:
    return os.fdopen(os.memfd_create("output"), "w+b")


def _read(file: Any, limit: int) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - limit))
    raw: bytes = file.read()
    return raw.decode(errors="replace")
