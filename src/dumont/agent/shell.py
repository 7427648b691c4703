"""A shell: one program that an SSH client runs in the workspace, on a terminal or on three pipes."""

import asyncio
import contextvars
import os
import signal
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from dumont import i18n
from dumont.agent.files import WorkspaceFiles
from dumont.agent.pipe import CHUNK_BYTES, Reading, write_to
from dumont.agent.surroundings import Surroundings
from dumont.agent.terminal import open_terminal, resize

_QUIET_S = 0.1
_SFTP_VERSION = 3

# What Debian's sshd accepts from clients, by default, besides LC_*.
_FROM_CLIENT = frozenset({"LANG", "COLORTERM", "NO_COLOR", "GIT_PROTOCOL"})


@dataclass(frozen=True)
class Program:
    """What is to be started, with what environment and where."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path


@dataclass(frozen=True)
class Child:
    """A started program and our ends of its streams. `terminal` is our end of its terminal, or None."""

    process: asyncio.subprocess.Process
    stdin: asyncio.StreamWriter
    stdout: Reading
    stderr: Reading | None
    terminal: int | None

    def hang_up(self) -> None:
        """Close our ends. On a terminal the kernel tells the programs (SIGHUP)."""
        if not self.stdin.transport.is_closing():
            self.stdin.transport.abort()
        self.stdout.close()
        if self.stderr:
            self.stderr.close()


class Shells:
    """All shells of this session. A program may outlive its client, as with OpenSSH; it is waited for here."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.surroundings = surroundings
        self.open: set[ShellChannel] = set()
        self._waiting: set[asyncio.Task[int]] = set()

    def wait_for(self, process: asyncio.subprocess.Process) -> asyncio.Task[int]:
        """A task that ends with the program's exit status, kept even when nobody awaits it."""
        task = asyncio.create_task(process.wait())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return task

    def warn(self, message: Callable[[], str]) -> None:
        """Write one line to every open terminal, each in its client's language."""
        for shell in list(self.open):
            shell.warn(message)


class ShellChannel(asyncssh.SSHServerProcess[bytes]):
    """The SSH side of one shell; what happens on the channel is handed on to `_Run`."""

    def __init__(self, shells: Shells) -> None:
        super().__init__(self._start, self._files, _SFTP_VERSION, False)
        self._dumont_run = _Run(self, shells)
        self._dumont_shells = shells

    async def _start(self, _process: asyncssh.SSHServerProcess[bytes]) -> None:
        self._dumont_shells.open.add(self)
        try:
            await self._dumont_run.to_the_end()
        finally:
            self._dumont_shells.open.discard(self)

    def _files(self, _channel: object) -> asyncssh.SFTPServer:
        return WorkspaceFiles(self.channel, self._dumont_shells.surroundings.directory)

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def exception_received(self, exc: Exception) -> None:
        """Sizes, signals and breaks reach the program at once, even while its input is held back."""
        self._dumont_run.told(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._dumont_run.gone.set()

    def warn(self, message: Callable[[], str]) -> None:
        """Write one line to the client's screen, if it has a terminal."""
        if self.term_type is not None and not self.channel.is_closing():
            wish = i18n.wished(dict(self.env))
            text = contextvars.copy_context().run(_said_in, wish, message)
            self.stdout.write(f"\r\n{text}\r\n".encode())


class _Run:
    """One program from its start to its exit status."""

    def __init__(self, channel: ShellChannel, shells: Shells) -> None:
        self.gone = asyncio.Event()
        self._channel = channel
        self._shells = shells
        self._child: Child | None = None
        self._given_bytes = 0
        self._held = False

    async def to_the_end(self) -> None:
        """Start the program, carry its bytes both ways, report how it ended. Output is whole before the status."""
        channel = self._channel
        try:
            self._child = child = await self._begin()
        except OSError as error:
            channel.stderr.write(f"dumont: {error}\n".encode())
            channel.exit(1)
            return
        exited = self._shells.wait_for(child.process)
        taking = asyncio.create_task(self._take(child))
        giving = [asyncio.create_task(self._give(child.stdout, channel.stdout))]
        if child.stderr:
            giving.append(asyncio.create_task(self._give(child.stderr, channel.stderr)))
        gone = asyncio.create_task(self.gone.wait())
        try:
            if child.terminal is None:
                await _unless(gone, giving)
                if not gone.done():
                    channel.channel.write_eof()
                await _unless(gone, [exited])
            else:
                await _unless(gone, [exited])
                await self._drain(giving[0], gone)
            if exited.done() and not gone.done():
                _report(channel, exited.result())
        finally:
            for task in (taking, *giving, gone):
                task.cancel()
            self._child = None
            child.hang_up()

    def told(self, event: Exception) -> None:
        """Hand a new size, a signal or a break to the program."""
        child = self._child
        if child is None:
            return
        if isinstance(event, asyncssh.TerminalSizeChanged) and child.terminal is not None:
            with suppress(OSError):  # the terminal may be closing
                resize(child.terminal, event.term_size)
        elif isinstance(event, asyncssh.BreakReceived):
            _signal(child, signal.SIGINT)
        elif isinstance(event, asyncssh.SignalReceived):
            number = getattr(signal, f"SIG{event.signal}", None)
            if isinstance(number, signal.Signals):
                _signal(child, number)

    async def _begin(self) -> Child:
        channel = self._channel
        around = self._shells.surroundings
        command = channel.command
        environment = around.environment(_sent_by_client(channel.env) | _ssh_variables(channel))
        argv = (around.shell, "-l") if command is None else (around.shell, "-c", command)
        if channel.term_type is None:
            return await _on_pipes(Program(argv, environment, around.directory))
        terminal = open_terminal(channel.term_size, channel.term_modes)
        environment["TERM"] = channel.term_type or "dumb"
        with suppress(OSError):  # in a jail without /dev/pts a terminal has no name
            environment["SSH_TTY"] = os.ttyname(terminal[1])
        return await _on_terminal(Program(argv, environment, around.directory), terminal)

    async def _take(self, child: Child) -> None:
        """Client → program. A program that stopped reading doesn't stop the client from sending in vain."""
        deaf = False
        with suppress(asyncssh.Error, OSError):
            while data := await self._channel.stdin.read(CHUNK_BYTES):
                if deaf:
                    continue
                child.stdin.write(data)
                try:
                    await child.stdin.drain()
                except OSError:
                    deaf = True
            if child.terminal is None:
                child.stdin.close()

    async def _give(self, source: Reading, target: asyncssh.SSHWriter[bytes]) -> None:
        """Program → client, no faster than the client takes it."""
        with suppress(asyncssh.Error, OSError):  # the client went away
            while data := await source.chunk():
                target.write(data)
                self._given_bytes += len(data)
                self._held = True
                await target.drain()
                self._held = False

    async def _drain(self, giving: asyncio.Task[None], gone: asyncio.Task[bool]) -> None:
        """Give what the terminal still holds. Background programs may keep it open for ever: silence ends it too."""
        while not giving.done() and not gone.done():
            before = self._given_bytes
            await asyncio.wait({giving, gone}, timeout=_QUIET_S, return_when=asyncio.FIRST_COMPLETED)
            if self._given_bytes == before and not self._held:
                return


async def _on_pipes(program: Program) -> Child:
    pipes = [os.pipe() for _ in range(3)]
    theirs = (pipes[0][0], pipes[1][1], pipes[2][1])
    ours = (pipes[0][1], pipes[1][0], pipes[2][0])
    process = await _spawn(program, theirs, ours)
    stdin, stdout, stderr = await write_to(ours[0]), await Reading.open(ours[1]), await Reading.open(ours[2])
    return Child(process, stdin, stdout, stderr, None)


async def _on_terminal(program: Program, terminal: tuple[int, int]) -> Child:
    ours, theirs = terminal
    process = await _spawn(program, (theirs,), (ours,))
    return Child(process, await write_to(os.dup(ours)), await Reading.open(ours), None, ours)


async def _spawn(program: Program, theirs: tuple[int, ...], ours: tuple[int, ...]) -> asyncio.subprocess.Process:
    """Start it on `theirs`, which are closed here: three pipes, or one terminal. Closes `ours` when that fails."""
    stdin, stdout, stderr = theirs if len(theirs) == 3 else theirs * 3
    # setsid(1) makes the terminal the program's controlling one without running Python between fork and exec.
    prefix = () if len(theirs) == 3 else ("setsid", "-c")
    try:
        return await asyncio.create_subprocess_exec(
            *prefix,
            *program.argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=program.directory,
            env=program.environment,
            start_new_session=not prefix,
        )
    except OSError:
        for descriptor in ours:
            os.close(descriptor)
        raise
    finally:
        for descriptor in theirs:
            os.close(descriptor)


async def _unless(gone: asyncio.Task[bool], tasks: Collection[asyncio.Task[Any]]) -> None:
    """Wait until all `tasks` are done, or the client is gone. None is cancelled."""
    left = set(tasks)
    while left and not gone.done():
        done, _ = await asyncio.wait({*left, gone}, return_when=asyncio.FIRST_COMPLETED)
        left -= done


def _report(channel: ShellChannel, status: int) -> None:
    """Pass on how the program ended: its status, or the signal that ended it (RFC 4254, 6.10)."""
    try:
        name = signal.Signals(-status).name.removeprefix("SIG") if status < 0 else ""
    except ValueError:  # a real-time signal has no name
        status, name = 128 - status, ""
    if name:
        channel.exit_with_signal(name)
    else:
        channel.exit(status)


def _signal(child: Child, number: signal.Signals) -> None:
    """To the terminal's foreground programs, or to all that the command started."""
    with suppress(OSError):  # it may have ended already
        group = os.tcgetpgrp(child.terminal) if child.terminal is not None else child.process.pid
        os.killpg(group, number)


def _sent_by_client(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if name in _FROM_CLIENT or name.startswith("LC_")}


def _ssh_variables(channel: ShellChannel) -> dict[str, str]:
    """What sshd sets; bash reads ~/.bashrc for remote commands because of it."""
    peer, own = channel.get_extra_info("peername"), channel.get_extra_info("sockname")
    if not peer or not own:
        return {}
    return {
        "SSH_CLIENT": f"{peer[0]} {peer[1]} {own[1]}",
        "SSH_CONNECTION": f"{peer[0]} {peer[1]} {own[0]} {own[1]}",
    }


def _said_in(language: str, message: Callable[[], str]) -> str:
    i18n.use(language)
    return message()
