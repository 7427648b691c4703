"""The promise of the port `Store`, kept by each of its drivers."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.errors import AlreadyStored, BadInput, NotStored, StoreError
from dumont.store.base import Store
from dumont.store.directory import DirectoryStore
from dumont.store.memory import MemoryStore
from dumont.store.prefix import PrefixStore


class StoreContract:
    """What every store does. A driver's class supplies the fixture `store`."""

    async def test_what_was_put_is_what_is_got(self, store: Store) -> None:
        """The one thing a store is for."""
        await store.put("a/b/c", b"\0data")
        await store.put("empty", b"")
        assert await store.get("a/b/c") == b"\0data"
        assert await store.get("empty") == b""
        assert await store.exists("a/b/c")

    async def test_an_object_never_changes(self, store: Store) -> None:
        """History that can be overwritten is no history."""
        await store.put("key", b"first")
        with pytest.raises(AlreadyStored):
            await store.put("key", b"second")
        assert await store.get("key") == b"first"

    async def test_of_racing_writers_one_wins(self, store: Store) -> None:
        """Commit records rely on it."""
        bodies = [b"%d" % number for number in range(16)]
        outcomes = await asyncio.gather(*(store.put("a/race", body) for body in bodies), return_exceptions=True)
        winners = [body for body, outcome in zip(bodies, outcomes, strict=True) if outcome is None]
        assert len(winners) == 1
        assert all(isinstance(outcome, AlreadyStored) for outcome in outcomes if outcome is not None)
        assert await store.get("a/race") == winners[0]

    async def test_what_is_not_there_is_said_so(self, store: Store) -> None:
        """Absent and empty are different answers."""
        await store.put("a/b", b"")
        for key in ("nothing", "a", "a/b/c"):
            with pytest.raises(NotStored):
                await store.get(key)
            assert not await store.exists(key)

    async def test_keys_are_listed_in_order_by_prefix(self, store: Store) -> None:
        """A prefix is a beginning of a key, not a directory."""
        for key in ("b/2", "b/1", "a", "bc/1", "b-1"):
            await store.put(key, b"")
        assert [key async for key in store.keys("")] == ["a", "b-1", "b/1", "b/2", "bc/1"]
        assert [key async for key in store.keys("b/")] == ["b/1", "b/2"]
        assert [key async for key in store.keys("b")] == ["b-1", "b/1", "b/2", "bc/1"]
        assert [key async for key in store.keys("none/")] == []

    async def test_deleting_is_harmless_when_repeated(self, store: Store) -> None:
        """Clean-up runs again after any crash."""
        await store.put("x/y", b"")
        await store.delete("x/y")
        await store.delete("x/y")
        assert not await store.exists("x/y")
        await store.put("x/y", b"again")
        assert await store.get("x/y") == b"again"

    @pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../../b", "..", "a//b", "a/", "./a", "a\0b", "é"])
    async def test_a_key_can_mean_nothing_else(self, store: Store, key: str) -> None:
        """Keys come from other machines."""
        for call in (store.put(key, b""), store.get(key), store.exists(key), store.delete(key)):
            with pytest.raises(BadInput):
                await call


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestPrefix(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return PrefixStore(MemoryStore(), "workspaces/mine/")


class TestDirectory(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return DirectoryStore(tmp_path)

    async def test_racing_stores_of_several_processes_have_one_winner(self, tmp_path: Path) -> None:
        """Each agent and each server process has a driver of its own."""
        stores = [DirectoryStore(tmp_path) for _ in range(8)]
        outcomes = await asyncio.gather(*(s.put("k", b"x") for s in stores), return_exceptions=True)
        assert outcomes.count(None) == 1

    async def test_a_killed_writer_leaves_nothing_that_can_be_seen(self, tmp_path: Path) -> None:
        """A torn object under its key would be taken for a whole one."""
        program = (
            "import asyncio, sys; from pathlib import Path; from dumont.store.directory import DirectoryStore\n"
            "async def main():\n"
            "    store = DirectoryStore(Path(sys.argv[1]))\n"
            "    print('ready', flush=True)\n"
            "    for number in range(10**6): await store.put(f'k/{number}', bytes([number % 251]) * 4_000_000)\n"
            "asyncio.run(main())"
        )
        for delay_s in (0.01, 0.03, 0.05, 0.1):
            top = tmp_path / f"{delay_s}"
            top.mkdir()
            writer = subprocess.Popen(
                [sys.executable, "-c", program, str(top)], stdout=subprocess.PIPE, env=_environment()
            )
            assert writer.stdout is not None
            writer.stdout.readline()
            await asyncio.sleep(delay_s)
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
            store = DirectoryStore(top)
            for key in [key async for key in store.keys("")]:
                number = int(key.removeprefix("k/"))
                assert await store.get(key) == bytes([number % 251]) * 4_000_000

    async def test_object_and_names_are_fsynced_before_put_returns(self, tmp_path: Path) -> None:
        """The order can't be seen from outside after a kill, for the page cache survives it: trace it."""
        if shutil.which("strace") is None:
            pytest.skip("strace is missing: apt-get install strace")
        program = (
            "import asyncio, sys; from pathlib import Path; from dumont.store.directory import DirectoryStore\n"
            "asyncio.run(DirectoryStore(Path(sys.argv[1])).put('deep/er/key', b'x'))\n"
            "print('returned', flush=True)"
        )
        trace = tmp_path / "trace"
        command = [
            "strace",
            "-f",
            "-y",
            "-o",
            str(trace),
            "-e",
            "trace=fsync,linkat,link,write",
            sys.executable,
            "-c",
            program,
        ]
        (tmp_path / "store").mkdir()
        subprocess.run([*command, str(tmp_path / "store")], check=True, env=_environment(), stdout=subprocess.DEVNULL)
        lines = trace.read_text().splitlines()
        calls = [line for line in lines if "fsync" in line or "link" in line or "returned" in line]
        order = [
            next(at for at, line in enumerate(calls) if wanted in line and (not where or where in line))
            for wanted, where in (
                ("fsync", "/.aside/"),
                ("link", "deep/er/key"),
                ("fsync", "deep/er>"),
                ("returned", ""),
            )
        ]
        assert order == sorted(order)
        assert any("fsync" in line and "/store>" in line for line in calls[: order[-1]])
        assert any("fsync" in line and "/deep>" in line for line in calls[: order[-1]])

    async def test_what_old_writers_left_is_swept(self, tmp_path: Path) -> None:
        """Otherwise every kill would cost space for ever."""
        store = DirectoryStore(tmp_path)
        await store.put("a", b"")
        left = tmp_path / ".aside" / "1-old"
        left.write_bytes(b"half")
        fresh = tmp_path / ".aside" / "1-new"
        fresh.write_bytes(b"half")
        os.utime(left, (time.time() - 10**6,) * 2)
        await DirectoryStore(tmp_path).put("b", b"")
        assert not left.exists()
        assert fresh.exists()
        assert [key async for key in store.keys("")] == ["a", "b"]

    async def test_a_full_disk_is_said_in_words(self, small_disk: Path) -> None:
        """A person has to know what to do."""
        store = DirectoryStore(small_disk)
        with pytest.raises(StoreError, match="full"):
            await store.put("big", bytes(8 * 2**20))
        assert [key async for key in store.keys("")] == []
        await store.put("small", b"still works")

    async def test_keys_with_dots_in_front_are_ours(self, tmp_path: Path) -> None:
        """What is being written must not be readable as an object."""
        with pytest.raises(BadInput):
            await DirectoryStore(tmp_path).get(".aside/x")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs may be mounted here: run as root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def _environment() -> dict[str, str]:
    source = Path(__file__).resolve().parents[2] / "src"
    return {**os.environ, "PYTHONPATH": str(source)}
