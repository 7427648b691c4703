"""Local instances are real: they outlive the server, are found again after its death, and die as a whole."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from dumont.demo import faults
from dumont.errors import ProviderError
from dumont.provider import process
from dumont.provider.base import Phase
from dumont.provider.jail import Mode
from dumont.provider.local import Directory, LocalProvider
from dumont.provider.network import cloud_key
from dumont.provider.process import Process
from tests.integration.landlord import GPU, JAILED, MODES, SOURCE, boot, landlord, processes, rent, until

CRASHES = 12

# A server that rents one machine and says so; it is killed while it does.
SERVER = """
import asyncio, sys
from pathlib import Path
from dumont.provider.jail import Mode
from dumont.provider.local import LocalProvider
from tests.integration.landlord import rent

async def main():
    provider = await LocalProvider.open(Path(sys.argv[1]), Mode(sys.argv[2]), ("sh", "-c", "exec sleep 1000"))
    print("open", flush=True)
    await rent(provider, "gpu-1")
    print("rented", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{SOURCE}:{SOURCE.parent}"}


# --- a server may die at any instant


@MODES
async def test_an_instance_outlives_the_server(short_dir: Path, mode: Mode) -> None:
    """The data path never depends on the server; a `kill -9` of it must not end a training run."""
    async with landlord(short_dir, mode) as provider:
        with subprocess.Popen(
            [sys.executable, "-c", SERVER, short_dir, mode], env=environment(), stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            assert [server.stdout.readline(), server.stdout.readline()] == ["open\n", "rented\n"]
            while not (before := processes("gpu-1", cloud_key(short_dir))):
                await asyncio.sleep(0.02)  # a process in mid-exec shows no environment
            server.kill()
        machine = await provider.machine("gpu-1")
        assert machine.phase is Phase.RUNNING
        assert before
        assert set(before) <= set(processes("gpu-1", cloud_key(short_dir))), "a jail may still be starting more"


@MODES
async def test_a_server_killed_while_renting_leaves_no_second_machine(short_dir: Path, mode: Mode) -> None:
    """Between starting a machine and noting it lies the instant in which bills are orphaned (I4)."""
    rng = Random(20)
    async with landlord(short_dir, mode) as provider:
        for _ in range(CRASHES):
            with subprocess.Popen(
                [sys.executable, "-c", SERVER, short_dir, mode], env=environment(), stdout=subprocess.PIPE, text=True
            ) as server:
                assert server.stdout is not None
                assert server.stdout.readline() == "open\n"
                await asyncio.sleep(rng.uniform(0, 0.03 if mode is Mode.NETNS else 0.012))
                server.kill()
            machine = await rent(provider, "gpu-1")
            outermost = Directory(provider.home / "instances/gpu-1").process()
            assert outermost is not None
            await until(lambda: leaders(short_dir) == [outermost.pid], "there is one machine")  # noqa: B023
            await provider.release(machine.ref)
            assert processes("gpu-1", cloud_key(short_dir)) == []


async def test_an_intent_without_a_machine_is_listed_and_can_be_released(short_dir: Path) -> None:
    """A server that died between the intent and the start left nothing that runs, but it must stay in sight."""
    async with landlord(short_dir, Mode.PLAIN) as provider:
        (short_dir / "instances/gpu-1").mkdir()
        assert [(m.label, m.phase) for m in await provider.machines()] == [("gpu-1", Phase.STARTING)]
        await provider.release("gpu-1")
        assert await provider.machines() == []


async def test_what_was_half_removed_is_removed_at_the_next_start(short_dir: Path) -> None:
    """A server killed while it removes a large tree must not leave it on the disk for ever."""
    async with landlord(short_dir, Mode.PLAIN):
        (short_dir / "instances/.gone-gpu-1-7/root/workspace").mkdir(parents=True)
        await LocalProvider.open(short_dir, Mode.PLAIN)
        assert not (short_dir / "instances/.gone-gpu-1-7").exists()


# --- what `machines` says is true


@MODES
async def test_an_instance_that_ended_by_itself_is_stopped(short_dir: Path, mode: Mode) -> None:
    """A preempted machine answers STOPPED; a zombie is not RUNNING."""
    async with landlord(short_dir, mode, ("sh", "-c", "exit 3")) as provider:
        await provider.rent(GPU, "gpu-1", boot(provider, "gpu-1"))
        directory = Directory(provider.home / "instances/gpu-1")
        await until(lambda: directory.phase() is Phase.STOPPED, "it stopped")
        assert [m.phase for m in await provider.machines()] == [Phase.STOPPED]


async def test_a_zombie_is_not_alive() -> None:
    """Where nobody collects the dead, a killed machine keeps its pid and its start time."""
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        boot_id = process.BOOT_ID.read_text().strip()
        named = Process.parse(f"{boot_id} {Path(f'/proc/{sleeper.pid}/stat').read_text()}")
        assert named is not None
        assert named.alive()
        os.kill(sleeper.pid, signal.SIGKILL)
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
        assert not named.alive()


async def test_a_pid_that_was_used_again_is_not_the_machine(short_dir: Path) -> None:
    """Otherwise a stranger's process would be taken for a running GPU, or killed as one."""
    async with landlord(short_dir, Mode.PLAIN) as provider:
        await rent(provider, "gpu-1")
        named = Directory(short_dir / "instances/gpu-1").process()
        assert named is not None
        assert named.alive()
        assert not replace(named, start_ticks=named.start_ticks + 1).alive()
        assert not replace(named, boot="before-the-reboot").alive()


async def test_a_slow_machine_is_starting_until_it_has_booted(short_dir: Path) -> None:
    """Real machines take a minute; nothing may count on them before."""
    async with landlord(short_dir, Mode.PLAIN, boot_delay_s=0.4) as provider:
        assert (await rent(provider, "gpu-1")).phase is Phase.STARTING
        directory = Directory(short_dir / "instances/gpu-1")
        await until(lambda: directory.phase() is not Phase.STARTING, "it booted")
        assert directory.phase() is Phase.RUNNING


async def test_a_machine_that_cannot_be_started_is_an_error(short_dir: Path) -> None:
    """The label is listed all the same, so the sweeper can end what may be half there."""
    home = short_dir / ("long" * 25)
    async with landlord(home, Mode.PLAIN) as provider:
        with pytest.raises(ProviderError, match="DUMONT_HOME"):
            await rent(provider, "gpu-1")
        assert [m.phase for m in await provider.machines()] == [Phase.STARTING]


@pytest.mark.parametrize("label", ["", "../gpu", ".census", "a/b", "x" * 64])
async def test_a_label_that_is_no_name_touches_nothing(short_dir: Path, label: str) -> None:
    """A label becomes a directory; it must not lead anywhere else."""
    async with landlord(short_dir / "home", Mode.PLAIN) as provider:
        with pytest.raises(ProviderError):
            await rent(provider, label)
        await provider.release(label)
        assert [path.name for path in short_dir.iterdir()] == ["home"]


# --- the end of a machine is the end of all of it

DAEMONS = """
import os, sys, time
for scrubbed in (False, True):
    reading, writing = os.pipe()  # the exec of the daemon closes it
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/bin/sleep", ["sleep", "1000"], {} if scrubbed else dict(os.environ))
        os.close(writing)
        if scrubbed:
            time.sleep(1000)
        os._exit(0)
    os.close(writing)
    os.read(reading, 1)
    if not scrubbed:
        os.waitpid(child, 0)
open(sys.argv[1] + "/ready", "w").close()
time.sleep(1000)
"""


@MODES
async def test_releasing_ends_daemons_and_what_hides_its_environment(short_dir: Path, mode: Mode) -> None:
    """A workload that left its session, or cleaned its environment, must not go on writing for nobody."""
    async with landlord(short_dir, mode, (sys.executable, "-c", DAEMONS)) as provider:
        machine = await rent(provider, "gpu-1")
        await until((short_dir / "instances/gpu-1/root/run/dumont/ready").exists, "its daemons run")
        marked = set(processes("gpu-1", cloud_key(short_dir)))
        everything = process._members({mark.encode() for mark in provider._marks("gpu-1")}, ())
        assert everything > marked, "the one without an environment belongs to it too"
        await provider.release(machine.ref)
        assert not [pid for pid in everything if _runs(pid)]


EXECUTES_ITSELF = {"AGAIN": 'exec sh -c "$AGAIN"', "MARKED_FOR_A_TEST": "1"}


def test_a_process_in_the_middle_of_an_exec_is_not_overlooked() -> None:
    """It has no environment for that moment (seen at every eighth look); overlooked once, it would run for ever."""
    with subprocess.Popen(["sh", "-c", 'exec sh -c "$AGAIN"'], env=EXECUTES_ITSELF) as restless:
        try:
            for members in (process._members({b"MARKED_FOR_A_TEST=1"}, ()) for _ in range(40)):
                assert restless.pid in members
            for members in (faults._members({b"MARKED_FOR_A_TEST=1"}) for _ in range(40)):
                assert restless.pid in members
        finally:
            restless.kill()


@JAILED
async def test_killing_the_jails_init_kills_everything_in_it(short_dir: Path, mode: Mode) -> None:
    """A machine that loses power: one signal from outside, and nothing in it runs another instruction."""
    async with landlord(short_dir, mode, (sys.executable, "-c", DAEMONS)) as provider:
        await rent(provider, "gpu-1")
        await until((short_dir / "instances/gpu-1/root/run/dumont/ready").exists, "its daemons run")
        everything = process._members({mark.encode() for mark in provider._marks("gpu-1")}, ())
        inits = [pid for pid in everything if process._is_namespace_init(pid)]
        assert len(inits) == 1
        os.kill(inits[0], signal.SIGKILL)
        await until(lambda: not any(map(_runs, everything)), "all of it is dead")
        assert (await provider.machine("gpu-1")).phase is Phase.STOPPED


@MODES
async def test_a_neighbour_lives_on(short_dir: Path, mode: Mode) -> None:
    """Ending one machine ends that one."""
    async with landlord(short_dir, mode) as provider:
        await rent(provider, "gpu-1")
        await rent(provider, "gpu-10")
        await provider.release("gpu-1")
        assert (await provider.machine("gpu-10")).phase is Phase.RUNNING


async def test_a_namesake_of_another_home_lives_on(short_dir: Path) -> None:
    """Two clouds on one machine may use the same names."""
    async with landlord(short_dir / "a", Mode.PLAIN) as one, landlord(short_dir / "b", Mode.PLAIN) as other:
        await rent(one, "gpu-1")
        await rent(other, "gpu-1")
        await one.release("gpu-1")
        assert (await other.machine("gpu-1")).phase is Phase.RUNNING


async def test_releasing_removes_directories_nobody_may_write_to(short_dir: Path) -> None:
    """`chmod 500` on a directory of the workspace is ordinary, and must not keep a machine from being released."""
    async with landlord(short_dir, Mode.PLAIN) as provider:
        await rent(provider, "gpu-1")
        inner = short_dir / "instances/gpu-1/root/workspace/closed/inner"
        inner.mkdir(parents=True)
        (inner / "file").touch()
        for path in (inner, inner.parent):
            path.chmod(stat.S_IRUSR)
        await provider.release("gpu-1")
        assert not [path for path in (short_dir / "instances").iterdir() if "gpu-1" in path.name]


def leaders(home: Path) -> list[int]:
    """The first processes of machines: each leads a session of its own. One in the middle of an exec is not seen."""
    return [pid for pid in processes("gpu-1", cloud_key(home)) if os.getsid(pid) == pid]


def _runs(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return False
    return fields[0] not in ("Z", "X")
