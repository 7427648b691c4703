"""The promise of the port `Store`, kept by each of its drivers."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import uuid
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from dumont.control.scrutiny import Standing
from dumont.control.shelf import Shelf
from dumont.control.vault import Vault
from dumont.errors import AlreadyStored, BadInput, LinkClosed, NotStored, StoreError
from dumont.repository.keys import keys_of
from dumont.repository.repository import Repository
from dumont.store.address import parse
from dumont.store.base import Store
from dumont.store.cloud import open_cloud
from dumont.store.directory import DirectoryStore
from dumont.store.memory import MemoryStore
from dumont.store.prefix import PrefixStore
from dumont.store.remote import RemoteStore
from tests.integration.s3_server import BUCKET, S3Server
from tests.unit.memory_link import Line, line


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

    async def test_any_kind_of_bytes_can_be_put(self, store: Store) -> None:
        """The engine keeps packs in buffers of its own, and should not have to copy them."""
        body = bytearray(b"0123456789")
        await store.put("array", body)
        await store.put("view", memoryview(body)[2:5])
        await store.put("wide", memoryview(array("I", [1, 2, 3])))
        body[:] = b"overwritten"
        assert await store.get("array") == b"0123456789"
        assert await store.get("view") == b"234"
        assert await store.get("wide") == array("I", [1, 2, 3]).tobytes()

    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [
            (0, 10, b"0123456789"),
            (3, 4, b"3456"),
            (8, 10, b"89"),
            (9, 1, b"9"),
            (10, 1, b""),
            (99, 5, b""),
            (4, 0, b""),
        ],
    )
    async def test_a_range_is_exactly_what_was_asked_for(
        self, store: Store, start: int, length: int, expected: bytes
    ) -> None:
        """A restore reads chunks out of packs; past the end there is nothing, and that is no error."""
        await store.put("a/ten", b"0123456789")
        assert await store.get_range("a/ten", start, length) == expected

    async def test_an_empty_object_has_empty_ranges(self, store: Store) -> None:
        """No HTTP range fits an empty object."""
        await store.put("nothing", b"")
        assert await store.size("nothing") == 0
        assert await store.get_range("nothing", 0, 5) == b""
        assert await store.get_range("nothing", 0, 0) == b""

    async def test_a_size_is_known_without_reading(self, store: Store) -> None:
        """A check of the store asks for thousands."""
        await store.put("a/three", b"abc")
        assert await store.size("a/three") == 3

    async def test_ranges_and_sizes_of_what_is_not_there_are_said_so(self, store: Store) -> None:
        """An empty answer would be taken for an empty object."""
        for call in (
            store.size("no/thing"),
            store.get_range("no/thing", 0, 1),
            store.get_range("no/thing", 0, 0),
            store.get_range("no/thing", 7, 1),
        ):
            with pytest.raises(NotStored):
                await call

    @pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, -1), (-5, 10)])
    async def test_a_range_below_zero_is_refused(self, store: Store, start: int, length: int) -> None:
        """It would count from the end, which nobody means."""
        await store.put("a/ten", b"0123456789")
        with pytest.raises(BadInput):
            await store.get_range("a/ten", start, length)

    async def test_readers_see_the_whole_object_or_none(self, store: Store) -> None:
        """Half a commit is worse than none."""
        body = os.urandom(2**20) * 8
        writing = asyncio.create_task(store.put("a/large", body))
        seen: set[int] = set()
        while not writing.done():
            try:
                seen.add(len(await store.get("a/large")))
            except NotStored:
                seen.add(-1)
            await asyncio.sleep(0)
        await writing
        assert seen <= {-1, len(body)}
        assert await store.get("a/large") == body

    async def test_a_large_object_comes_back_whole_and_in_parts(self, store: Store) -> None:
        """Packs have tens of MiB."""
        body = os.urandom(2**20) * 40
        await store.put("a/large", memoryview(body))
        assert await store.size("a/large") == len(body)
        assert await store.get("a/large") == body
        assert await store.get_range("a/large", 17, 33 * 2**20) == body[17 : 17 + 33 * 2**20]
        assert await store.get_range("a/large", 39 * 2**20, 2**30) == body[39 * 2**20 :]

    async def test_more_keys_than_a_page_are_listed_whole(self, store: Store) -> None:
        """Services list a thousand at once; a lost page would look like lost history."""
        keys = [f"many/{number:04}" for number in range(1100)]
        for some in range(0, len(keys), 100):
            await asyncio.gather(*(store.put(key, b"x") for key in keys[some : some + 100]))
        assert [key async for key in store.keys("many/")] == keys
        assert [key async for key in store.keys("many/10")] == keys[1000:]
        assert [key async for key in store.keys("")] == keys

    async def test_odd_keys_mean_themselves(self, store: Store) -> None:
        """Names of branches come from people, and services encode names each in its own way."""
        odd = [
            "a b", "a%20b", "a#b", "q?x=1", "st*r", "til~de", "br[]{}", "quo'\"te", "pl+us&amp;", "co:lon;x", "<>|^`",
            "a=b,c@d!$()", "trail.", "a..x", "dir/x...y", "%", "k%2Fz", "UP", "up",
        ]  # fmt: skip
        for key in odd:
            await store.put(f"odd/{key}", key.encode())
        assert [key async for key in store.keys("odd/")] == sorted(f"odd/{key}" for key in odd)
        for key in odd:
            assert await store.get(f"odd/{key}") == key.encode()
            assert await store.size(f"odd/{key}") == len(key)

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


class BareVault(Vault):
    """Keys and a store, and no repository in it."""

    async def open(self, workspace: str) -> Repository:
        return Repository(self._store, keys_of(bytes(32), bytes(16)), os.urandom)


async def anything(standing: Callable[[], Standing], key: str, data: bytes) -> str:
    """Refuse nothing: what may be added is looked at elsewhere."""
    return ""


class TestRemote(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        shelf = Shelf(BareVault(MemoryStore(), bytes(32), os.urandom), anything)
        ends: list[Line] = []
        serving: list[asyncio.Task[None]] = []

        async def dial() -> Line:
            far, near = line("gpu-1")
            ends.append(far)
            serving.append(asyncio.create_task(serve(near)))
            return far

        async def serve(near: Line) -> None:
            await near.receive()  # the hello, which the hub has read
            with contextlib.suppress(LinkClosed):
                await shelf.serve(near, lambda: Standing("train", 3, leads=True))  # type: ignore[arg-type]

        yield RemoteStore(dial, "gpu-1")
        for end in ends:
            end.close()
        await asyncio.gather(*serving)

    async def test_deleting_is_harmless_when_repeated(self, store: Store) -> None:
        """A host has no right to destroy history, so here it is refused each time."""
        await store.put("x/y", b"")
        for _ in range(2):
            with pytest.raises(StoreError, match="pruned by the server"):
                await store.delete("x/y")
        assert await store.exists("x/y")

    async def test_an_object_that_no_message_holds_is_refused_before_it_is_sent(self, store: Store) -> None:
        """The link's own bound is an assertion, which would tear the agent down."""
        with pytest.raises(BadInput, match="one message"):
            await store.put("a/huge", bytes(64 * 2**20))


class TestS3(StoreContract):
    """A real server. Each test has a prefix of its own in one bucket."""

    @pytest.fixture
    def store(self, s3_server: S3Server) -> Store:
        address = parse(f"s3://{BUCKET}/{uuid.uuid4().hex}/deep")
        return open_cloud(address, s3_server.environment())

    async def test_without_a_prefix_the_whole_bucket_is_the_store(self, s3_server: S3Server) -> None:
        """A person may have made a bucket for Dumont alone."""
        environment = s3_server.environment()
        whole = open_cloud(parse("s3://whole-bucket"), environment)
        part = open_cloud(parse("s3://whole-bucket/part/"), environment)
        await part.put("a", b"one")
        await whole.put("b", b"two")
        assert [key async for key in whole.keys("")] == ["b", "part/a"]
        assert [key async for key in part.keys("")] == ["a"]

    async def test_a_neighbours_prefix_is_not_ours(self, s3_server: S3Server) -> None:
        """`team` and `team-2` share a bucket."""
        place = uuid.uuid4().hex
        ours, theirs = (open_cloud(parse(f"s3://{BUCKET}/{place}{n}"), s3_server.environment()) for n in ("", "-2"))
        await theirs.put("a", b"theirs")
        await ours.put("b", b"ours")
        assert [key async for key in ours.keys("")] == ["b"]
        assert not await ours.exists("a")


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

    async def test_a_large_put_copies_nothing(self, tmp_path: Path) -> None:
        """Packs are what the engine's memory is spent on; a copy would double it."""
        body = memoryview(bytearray(32 * 2**20))
        store = DirectoryStore(tmp_path)
        await store.put("small", b"")  # imports and threads come first
        tracemalloc.start()
        try:
            await store.put("a/large", body)
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()

    async def test_what_cant_be_listed_is_not_left_out(self, tmp_path: Path) -> None:
        """Pruning would take what it does not see for gone."""
        await DirectoryStore(tmp_path).put("a/b", b"")
        (tmp_path / "a").chmod(0)
        program = (
            "import asyncio, concurrent.futures.thread, os; from pathlib import Path\n"
            "from dumont.store.directory import DirectoryStore\n"
            "async def main(): return [key async for key in DirectoryStore(Path('.')).keys('')]\n"
            "if os.geteuid() == 0: os.setuid(65534)  # root may read everything\n"
            "print(asyncio.run(main()))"
        )
        tmp_path.chmod(0o755)
        command = [sys.executable, "-c", program]
        listed = subprocess.run(command, cwd=tmp_path, env=_environment(), capture_output=True, text=True, check=False)
        (tmp_path / "a").chmod(0o700)
        assert listed.returncode == 1
        assert "StoreError: the store can't use a: Permission denied" in listed.stderr

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
