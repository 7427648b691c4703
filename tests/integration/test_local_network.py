"""The embedded cloud's network, and what this machine is found to allow."""

import asyncio
import fcntl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dumont.provider import capabilities
from dumont.provider.base import Phase
from dumont.provider.command import run
from dumont.provider.jail import Mode
from dumont.provider.local import LocalProvider
from dumont.provider.network import LOCK, NETNS, Network, cloud_key
from tests.integration.landlord import landlord, rent, require


@pytest.fixture
async def netns(short_dir: Path) -> AsyncIterator[LocalProvider]:
    async with landlord(short_dir, Mode.NETNS) as provider:
        yield provider


async def test_an_instance_has_an_address_of_its_own(netns: LocalProvider) -> None:
    """Each is a machine with its own ports; the server is reached at the cloud's first address."""
    one, other = await rent(netns, "gpu-1"), await rent(netns, "gpu-2")
    assert len({one.host, other.host, netns.server_host}) == 3
    assert {host.rpartition(".")[0] for host in (one.host, other.host)} == {netns.server_host.rpartition(".")[0]}


async def test_releasing_removes_the_namespace_and_the_cable(netns: LocalProvider) -> None:
    """Leftovers would fill the switch up in a day of demos."""
    key = cloud_key(netns.home)
    await rent(netns, "gpu-1")
    assert len(_namespaces(key)) == 2
    await netns.release("gpu-1")
    assert _namespaces(key) == [f"dmt-{key}"]
    assert "PERMANENT" not in await run(("ip", "neigh", "show", "dev", f"dmt-{key}"))


async def test_an_address_is_not_used_again_soon(netns: LocalProvider) -> None:
    """Others may still dial the dead machine's address, and must not reach another workspace's machine there."""
    one = await rent(netns, "gpu-1")
    await netns.release("gpu-1")
    assert (await rent(netns, "gpu-2")).host != one.host


async def test_the_switch_is_found_again(netns: LocalProvider) -> None:
    """A server that restarts must listen at the same address: its machines know no other."""
    again = await LocalProvider.open(netns.home, Mode.NETNS)
    assert again.server_host == netns.server_host


async def test_opening_removes_leftovers_of_this_home_only(netns: LocalProvider, tmp_path: Path) -> None:
    """A crash may leave namespaces behind; those of another cloud on this machine are not ours to remove."""
    await rent(netns, "gpu-1")
    ours, others = await Network.open(netns.home), await Network.open(tmp_path)
    try:
        await ours.plug(200)
        await others.plug(200)
        await LocalProvider.open(netns.home, Mode.NETNS)
        assert (NETNS / others.cable(200).netns).exists()
        assert not (NETNS / ours.cable(200).netns).exists()
        assert (await netns.machine("gpu-1")).phase is Phase.RUNNING
        assert len(_namespaces(ours.key)) == 2
    finally:
        await others.close()


async def test_many_may_open_one_home_in_one_instant(short_dir: Path) -> None:
    """As two emulators and a server do. All of them must find the same switch, whoever makes it."""
    await require(Mode.NETNS, short_dir)
    program = (
        "import asyncio,sys,pathlib;from dumont.provider.network import Network;"
        "print(asyncio.run(Network.open(pathlib.Path(sys.argv[1]))).host)"
    )
    try:
        opened = [await _started(program, str(short_dir)) for _ in range(4)]
        told = [await one.communicate() for one in opened]
        assert [one.returncode for one in opened] == [0] * 4, told
        assert len({out for out, _ in told}) == 1
        assert _namespaces(cloud_key(short_dir)) == [f"dmt-{cloud_key(short_dir)}"]
    finally:
        await (await Network.open(short_dir)).close()


async def test_nobody_makes_a_network_while_another_process_does(short_dir: Path) -> None:
    """What makes the test above certain: the whole of looking and making is behind one lock of this machine."""
    await require(Mode.NETNS, short_dir)
    with LOCK.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await Network.open(short_dir)
        assert _namespaces(cloud_key(short_dir)) == []
    network = await Network.open(short_dir)
    assert _namespaces(network.key) == [f"dmt-{network.key}"]
    await network.close()


async def _started(program: str, *words: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-c", program, *words, stdout=pipe, stderr=pipe)


async def test_two_clouds_get_different_subnets_even_when_they_wish_for_the_same(tmp_path: Path) -> None:
    """The subnet comes from a hash of the home, and hashes of one byte collide."""
    await require(Mode.NETNS, tmp_path)
    homes: dict[str, Path] = {}
    for number in range(10_000):
        home = tmp_path / str(number)
        wish = cloud_key(home)[:2]
        if wish in homes:
            break
        homes[wish] = home
    one, other = await Network.open(home), await Network.open(homes[wish])
    try:
        assert one.net != other.net
    finally:
        await one.close()
        await other.close()


@pytest.mark.parametrize("lost", ["namespace", "interface", "address", "file"])
async def test_a_network_that_is_half_there_is_made_again(tmp_path: Path, lost: str) -> None:
    """A server may be killed between any two of its commands, and a reboot leaves at most empty files behind."""
    await require(Mode.NETNS, tmp_path)
    network = await Network.open(tmp_path)
    breaking = {
        "namespace": ("ip", "netns", "del", network.switch),
        "interface": ("ip", "link", "del", "dev", network.switch),
        "address": ("ip", "addr", "flush", "dev", network.switch),
        "file": ("umount", str(NETNS / network.switch)),
    }
    try:
        await network.plug(2)
        await run(breaking[lost])
        again = await Network.open(tmp_path)
        assert await again.plugged() == set()
        assert await again.plug(2) == again.cable(2)
    finally:
        await network.close()
    assert _namespaces(network.key) == []


# --- what doctor says


async def test_every_capability_says_what_would_help(short_dir: Path) -> None:
    """An answer that only says no leaves a person alone."""
    found = await capabilities.examine(short_dir)
    assert len({capability.name for capability in found}) == len(found)
    for capability in found:
        assert capability.detail
    assert list(short_dir.iterdir()) == []


async def test_the_best_mode_is_what_the_capabilities_allow(short_dir: Path) -> None:
    """Doctor and the server must not disagree."""
    allowed = {capability.name: capability.ok for capability in await capabilities.examine(short_dir)}
    expected = Mode.PLAIN if not allowed["jail"] else Mode.NETNS if allowed["network"] else Mode.JAIL
    assert await capabilities.best_mode(short_dir) is expected


def _namespaces(key: str) -> list[str]:
    return sorted(path.name for path in NETNS.iterdir() if path.name.startswith(f"dmt-{key}"))
