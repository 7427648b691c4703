"""What a market does to machines happens to local ones for real: taken away, resumed on their old disks, slowed."""

import asyncio
from pathlib import Path

import pytest

from dumont.errors import NoSuchInstance, NotPossibleHere
from dumont.provider.base import Phase, Why
from dumont.provider.jail import Mode
from dumont.provider.local import Directory, LocalProvider
from dumont.provider.market import Boots
from dumont.provider.network import cloud_key
from tests.integration.landlord import GPU, MODES, PATIENCE_S, boot, landlord, processes, rent, until

WRITER = ("sh", "-c", 'trap "echo told >> note; exit 0" TERM; echo started >> note; while :; do sleep 0.02; done', "sh")
"""Writes into its workspace that it started, and that it was told to end."""


async def said(provider: LocalProvider) -> tuple[Phase, Why]:
    machine = await provider.machine("gpu-1")
    return machine.phase, machine.why


def note(home: Path) -> str:
    found = home / "instances/gpu-1/root/workspace/note"
    return found.read_text() if found.exists() else ""


@MODES
@pytest.mark.parametrize(("grace_s", "told"), [(0.0, ""), (5.0, "told\n")], ids=["without notice", "with notice"])
async def test_a_preempted_machine_ends_and_says_why(short_dir: Path, mode: Mode, grace_s: float, told: str) -> None:
    """SIGKILL, or SIGTERM and some seconds: what the last processes saw is on the disk."""
    async with landlord(short_dir, mode, WRITER) as provider:
        await rent(provider, "gpu-1")
        await until(lambda: note(short_dir) == "started\n", "it started")
        await provider.preempt("gpu-1", grace_s=grace_s)
        assert await said(provider) == (Phase.STOPPED, Why.PREEMPTED)
        assert processes("gpu-1", cloud_key(short_dir)) == []
        assert note(short_dir) == f"started\n{told}"


@MODES
async def test_a_machine_that_was_outbid_resumes_on_its_old_disk(short_dir: Path, mode: Mode) -> None:
    """It wakes up in a world that has gone on without it; ending it is the epoch's business."""
    async with landlord(short_dir, mode, WRITER) as provider:
        before = await rent(provider, "gpu-1")
        await until(lambda: note(short_dir) == "started\n", "it started")
        await provider.preempt("gpu-1", Why.OUTBID)
        assert await said(provider) == (Phase.STOPPED, Why.OUTBID)
        await asyncio.gather(*(provider.resume("gpu-1") for _ in range(3)))
        await until(lambda: note(short_dir) == "started\nstarted\n", "it started once more, and once only")
        assert await said(provider) == (Phase.RUNNING, Why.UNTOLD)
        assert (await provider.machine("gpu-1")).host == before.host
        await provider.release("gpu-1")
        assert await provider.machines() == []
        with pytest.raises(NoSuchInstance):
            await provider.resume("gpu-1")


@MODES
async def test_a_boot_that_fails_says_so(short_dir: Path, mode: Mode) -> None:
    """The machine's first process ended; whoever rented it need not wait for an agent."""
    async with landlord(short_dir, mode) as provider:
        provider.boots = Boots.FAIL
        await provider.rent(GPU, "gpu-1", boot(provider, "gpu-1"))
        directory = Directory(provider.home / "instances/gpu-1")
        await until(lambda: directory.phase() is Phase.STOPPED, "it came to nothing")
        assert await said(provider) == (Phase.STOPPED, Why.FAILED)
        provider.boots = Boots.WELL
        await rent(provider, "gpu-2")


async def test_a_boot_may_come_to_nothing_without_a_word(short_dir: Path) -> None:
    """It runs, and its agent never comes."""
    async with landlord(short_dir, Mode.PLAIN, WRITER) as provider:
        provider.boots = Boots.NEVER
        await rent(provider, "gpu-1")
        assert await said(provider) == (Phase.RUNNING, Why.UNTOLD)
        assert note(short_dir) == ""


async def test_a_link_can_be_slowed_where_the_kernel_allows(short_dir: Path) -> None:
    """2 MB through 8 Mbit/s take 2 s less the bucket; unslowed, they take some milliseconds."""
    serve = "import socket, sys; s = socket.create_server(('', 7000)); c = s.accept()[0]; c.sendall(bytes(2_000_000))"
    async with landlord(short_dir, Mode.NETNS, ("python3", "-c", serve)) as provider:
        machine = await rent(provider, "gpu-1")
        try:
            await provider.slow_link("gpu-1", 8.0)
        except NotPossibleHere as error:
            pytest.skip(str(error))
        taken_s = await _fetch(machine.host)
        assert taken_s > 1.5


SYNC = """
import os, sys, time
for call in (os.fsync, os.fdatasync):
    began = time.monotonic()
    with open("data", "wb") as file:
        file.write(b"x")
        file.flush()
        call(file.fileno())
    print(time.monotonic() - began, file=open("note", "a"))
print("done", file=open("note", "a"))
"""


@MODES
async def test_the_disks_of_machines_can_be_slow(short_dir: Path, mode: Mode) -> None:
    """What must be durable before it is acknowledged waits for its disk, as on a host that others use, too."""
    async with landlord(short_dir, mode, ("python3", "-c", SYNC)) as provider:
        provider.slow_disks(0.3)
        await rent(provider, "gpu-1")
        await until(lambda: note(short_dir).endswith("done\n"), "it wrote")
        assert all(float(line) >= 0.3 for line in note(short_dir).split()[:2])


async def test_a_machine_with_a_slow_disk_ends_as_any_other(short_dir: Path) -> None:
    """In the middle of an fsync, with a notice that its processes get themselves; nothing of it stays."""
    sync_forever = 'trap "echo told >> note; exit 0" TERM; echo started >> note; while :; do sync note; done'
    async with landlord(short_dir, Mode.PLAIN, ("sh", "-c", sync_forever, "sh")) as provider:
        provider.slow_disks(0.1)
        await rent(provider, "gpu-1")
        await until(lambda: note(short_dir) == "started\n", "it started")
        await provider.preempt("gpu-1", grace_s=5.0)
        assert note(short_dir) == "started\ntold\n"
        await provider.resume("gpu-1")
        await until(lambda: note(short_dir).endswith("told\nstarted\n"), "it started again")
        await provider.kill("gpu-1")
        assert processes("gpu-1", cloud_key(short_dir)) == []


async def test_a_number_that_was_half_written_keeps_nobody_from_renting(short_dir: Path) -> None:
    """A server that is killed between emptying the file and filling it leaves it empty."""
    async with landlord(short_dir, Mode.NETNS) as provider:
        (short_dir / "instances/.last-number").write_text("")
        await rent(provider, "gpu-1")


async def test_a_machine_without_a_network_of_its_own_has_no_link_to_slow(short_dir: Path) -> None:
    """Said in words, instead of a drill that proves nothing."""
    async with landlord(short_dir, Mode.PLAIN) as provider:
        await rent(provider, "gpu-1")
        with pytest.raises(NotPossibleHere):
            await provider.slow_link("gpu-1", 8.0)


async def _fetch(host: str) -> float:
    """How long it takes to read all, in seconds, once somebody listens."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                reader, writer = await asyncio.open_connection(host, 7000)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
        began, size = loop.time(), 0
        while part := await reader.read(65_536):
            size += len(part)
        writer.close()
    assert size == 2_000_000
    return loop.time() - began
