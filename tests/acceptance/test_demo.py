"""`dumont demo`, as anybody runs it: a workspace survives its machines, and nothing is left behind."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dumont.demo.address import started
from dumont.provider.capabilities import best_mode
from dumont.provider.jail import Mode

pytest.importorskip("sklearn", reason="needs the `demo` extra")

DEMO_TIMEOUT_S = 170.0


@pytest.fixture
async def temporary() -> AsyncIterator[Path]:
    """A directory for the demo's home, with a path short enough for sockets; at the end nothing may run there."""
    with tempfile.TemporaryDirectory(prefix="dd-") as path:
        yield Path(path)
        assert not list(Path(path).glob("dumont-demo-*")), "the demo's home is still there"
        assert not _living_in(path), "processes of the demo are still there"


@pytest.mark.timeout(200)
async def test_a_killed_gpu_costs_no_acknowledged_byte(temporary: Path) -> None:
    """The main job."""
    told = await _play(temporary, "--kind", "killed", "--rounds", "2", "--fast", "--seed", "7")
    assert told["ok"], told
    assert told["acked_lost"] == 0
    assert told["training_resumed"] is True
    assert [round_["kind"] for round_ in told["rounds"]] == ["killed", "killed"]
    assert all(round_["tree_equal"] and round_["acked_commits"] > 0 for round_ in told["rounds"])
    assert told["by_kind"]["killed"]["first_byte_ms_max"] <= 5000


@pytest.mark.timeout(200)
async def test_a_primary_that_is_cut_off_is_fenced_and_its_files_are_kept(temporary: Path) -> None:
    """The harder half: a primary that goes on living must not go on acknowledging."""
    if await best_mode(temporary) is not Mode.NETNS:
        pytest.skip("needs root, iproute2 and bubblewrap, to give instances networks of their own")
    told = await _play(temporary, "--kind", "cut_off", "--rounds", "1", "--fast", "--seed", "7")
    assert told["ok"], told
    assert told["by_kind"]["cut_off"]["first_byte_ms_max"] <= 5000


@pytest.mark.timeout(240)
async def test_the_main_job_is_the_same_on_emulated_clouds(temporary: Path) -> None:
    """Vast.ai rents the GPU out and Google the standby, by their own words: the promises are the local cloud's."""
    told = await _play(temporary, "--cloud", "emulated", "--kind", "killed", "--rounds", "1", "--fast", "--seed", "7")
    assert told["ok"], told
    assert (told["acked_lost"], told["training_resumed"]) == (0, True)
    assert told["by_kind"]["killed"]["first_byte_ms_max"] <= 5000


@pytest.mark.timeout(200)
async def test_an_interrupted_demo_leaves_nothing_behind(temporary: Path) -> None:
    """Ctrl-C is how most demos end."""
    async with started(_demo("--fast"), _environment(temporary)) as process:
        assert process.stdout is not None
        async with asyncio.timeout(90):
            async for line in process.stdout:
                if b"ssh -F" in line:
                    break
            process.send_signal(signal.SIGINT)
            await process.stdout.read()
            assert await process.wait() == 130


async def _play(temporary: Path, *options: str) -> dict[str, Any]:
    """Run a demo; the object on its last line."""
    async with started(_demo("--json", *options), _environment(temporary)) as process:
        async with asyncio.timeout(DEMO_TIMEOUT_S):
            output, people = await process.communicate()
    print(people.decode(errors="replace"))
    told: dict[str, Any] = json.loads(output.splitlines()[-1])
    assert process.returncode == (0 if told["ok"] else 1)
    return told


def _demo(*options: str) -> list[str]:
    return [sys.executable, "-m", "dumont.main", "demo", *options]


def _environment(temporary: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8"}


def _living_in(path: str) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(path in word for word in process.info["cmdline"] or ()):
            found.append(" ".join(process.info["cmdline"]))
    return found
