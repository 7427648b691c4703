"""A workspace's one address, used as its owner does: OpenSSH's client and rsync, with `dumont ssh-config`."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dumont.errors import DumontError

CONNECT_TIMEOUT_S = 8


class CommandFailed(DumontError):
    """A command over the workspace's address did not end well; the message holds what it said."""


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it printed."""

    status: int
    output: str
    errors: str


@dataclass(frozen=True)
class Address:
    """Where to find a workspace, whichever instance is behind it. `config` is an OpenSSH configuration file."""

    config: Path
    alias: str

    def argv(self, command: str) -> list[str]:
        """The whole command line of OpenSSH's client."""
        options = [f"ConnectTimeout={CONNECT_TIMEOUT_S}", "BatchMode=yes", "LogLevel=ERROR"]
        chosen = [part for option in options for part in ("-o", option)]
        return ["ssh", "-F", str(self.config), *chosen, self.alias, command]

    async def run(self, command: str, timeout_s: float = 30.0) -> Answer:
        """Run a command in the workspace. Ending it early, or being cancelled, leaves no process of ours behind."""
        return await run_local(self.argv(command), timeout_s)

    async def ask(self, command: str, timeout_s: float = 30.0) -> Any:
        """The JSON object that a command prints as its last line. Raises CommandFailed."""
        answer = await self.run(command, timeout_s)
        try:
            if answer.status == 0:
                return json.loads(answer.output.splitlines()[-1])
        except (ValueError, IndexError) as error:
            raise CommandFailed(f"`{command}` printed no JSON: {answer.output[-200:]!r}") from error
        raise CommandFailed(f"`{command}` ended with {answer.status}: {answer.errors[-500:]}")

    async def copy(self, source: Path, target: str, filters: Sequence[str] = (), timeout_s: float = 180.0) -> None:
        """Copy a file, or what is in a directory, to a path in the workspace with rsync. Raises CommandFailed.

        `filters` are rsync's `--include`, `--exclude` and the like.
        """
        shell = f"ssh -F {self.config} -o BatchMode=yes -o LogLevel=ERROR"
        origin = f"{source}/" if source.is_dir() else str(source)
        argv = ["rsync", "-a", *filters, "-e", shell, origin, f"{self.alias}:{target}"]
        answer = await run_local(argv, timeout_s)
        if answer.status:
            raise CommandFailed(f"rsync to {target} ended with {answer.status}: {answer.errors[-500:]}")


async def run_local(argv: list[str], timeout_s: float, environment: dict[str, str] | None = None) -> Answer:
    """Run a program of this machine to its end. Status 124 when it took longer than `timeout_s`."""
    async with started(argv, environment) as process:
        try:
            async with asyncio.timeout(timeout_s):
                output, errors = await process.communicate()
        except TimeoutError:
            return Answer(124, "", f"no end after {timeout_s} s")
        return Answer(process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))


@contextlib.asynccontextmanager
async def started(
    argv: list[str], environment: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process in a group of its own, with its output to read; the group is ended when the block is left."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
