"""A live tree is read fast, completely, and without being fooled by links, time stamps or files that move."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dumont.errors import BadInput
from dumont.model.commit import Kind
from dumont.snapshot.chunk import chunk_id
from dumont.snapshot.index import Index
from dumont.snapshot.live import LiveTree
from dumont.snapshot.place import Place
from dumont.snapshot.reading import Reading
from dumont.snapshot.scan import scan
from dumont.snapshot.tree import TOP, Tree
from tests.trees import Operation, add_a_socket, change, operations, path_of

LONG_AGO_NS = 10**15


async def nowhere(chunk: bytes, data: bytes) -> None:
    """A sink for what nobody needs."""


def scanned(root: Path) -> Tree:
    with Place(root) as place:
        return scan(place, Index(), time.time_ns()).tree


def note(tree: Tree, reading: Reading) -> None:
    """What a cut does with a reading."""
    if reading.entry is None or reading.entry.kind is not Kind.DIRECTORY:
        for below in tree.below(reading.path):
            tree.remove(below)
    if reading.entry is None:
        tree.remove(reading.path)
    else:
        tree.put(reading.path, reading.entry)


async def grab_into(live: LiveTree, tree: Tree, paths: list[bytes]) -> list[bytes]:
    readings = await live.digest(await live.grab(paths, 10**9), nowhere)
    for reading in readings:
        note(tree, reading)
    return [reading.path for reading in readings]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(operations, min_size=1, max_size=4), grab=st.booleans())
async def test_walking_and_reading_what_changed_finds_the_tree(
    rounds: list[list[Operation]], grab: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The scan mode: no hints at all, only attributes."""
    root = tmp_path_factory.mktemp("live")
    live, tree = LiveTree(root), Tree()
    for todo in rounds:
        change(root, todo)
        paths = sorted(await live.walk(TOP, tree))
        if grab:
            await grab_into(live, tree, paths)
        else:
            for path in paths:
                note(tree, await live.copy(path, nowhere))
            await grab_into(live, tree, [])
        assert tree.root() == scanned(root).root()
    live.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(operations, min_size=1, max_size=5), copied=st.booleans())
async def test_names_that_nobody_hinted_at_follow_their_inode(
    rounds: list[list[Operation]], copied: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The kernel hints at the name that was used; a hard link's other names change all the same."""
    root = tmp_path_factory.mktemp("live")
    live, tree = LiveTree(root), Tree()
    for todo in rounds:
        before = {path for path, _ in tree.entries()}
        change(root, todo)
        now = scanned(root)
        named = {path_of(number) for _, first, second, _ in todo for number in (first, second)}
        named |= {path + b".swap" for path in named}
        hinted = {path for path in before | {path for path, _ in now.entries()} if not path or is_near(path, named)}
        if copied:
            for path in sorted(hinted):
                note(tree, await live.copy(path, nowhere))
            hinted = live.relinked()
        await grab_into(live, tree, sorted(hinted))
        assert tree.root() == now.root()
    live.close()


def is_near(path: bytes, named: set[bytes]) -> bool:
    """Named itself, in or above something that is."""
    prefix = path + b"/" if path else b""
    return any(one == path or one.startswith(prefix) or path.startswith(one + b"/") for one in named)


async def test_a_change_with_its_time_put_back_is_seen(tmp_path: Path) -> None:
    """mtime belongs to the user; only ctime tells the truth."""
    (tmp_path / "file").write_bytes(b"before")
    live, tree = LiveTree(tmp_path), Tree()
    await grab_into(live, tree, sorted(await live.walk(TOP, tree)))
    seen = (tmp_path / "file").stat()
    (tmp_path / "file").write_bytes(b"after!")
    os.utime(tmp_path / "file", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert b"file" in await live.walk(TOP, tree)


async def test_what_changed_just_before_it_was_read_is_read_again(tmp_path: Path) -> None:
    """A second write within one tick of the clock shows in no attribute at all."""
    (tmp_path / "file").write_bytes(b"x")
    live, tree = LiveTree(tmp_path), Tree()
    await grab_into(live, tree, [TOP, b"file"])
    assert await live.walk(TOP, tree) == {TOP, b"file"}
    while time.time_ns() - (tmp_path / "file").stat().st_ctime_ns < 60 * 10**6:
        await asyncio.sleep(0.01)
    await grab_into(live, tree, [TOP, b"file"])
    assert await live.walk(TOP, tree) == set()


async def test_a_file_that_moves_while_it_is_read_is_said_to(tmp_path: Path) -> None:
    """Its blocks are of different times; nobody may take them for one file."""
    (tmp_path / "file").write_bytes(bytes(range(256)) * 2**14)
    live = LiveTree(tmp_path)
    blocks = 0

    async def disturb(chunk: bytes, data: bytes) -> None:
        nonlocal blocks
        blocks += 1
        with (tmp_path / "file").open("r+b") as file:
            file.write(b"%d" % blocks)

    reading = await live.copy(b"file", disturb)
    assert reading.moved
    assert not (await live.copy(b"file", nowhere)).moved


@pytest.mark.parametrize("way", ["shrinks", "vanishes", "is replaced"])
async def test_a_file_that_goes_while_it_is_read_is_said_to_move(tmp_path: Path, way: str) -> None:
    """None of it may raise: trees are alive."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(4 * 2**20))
    live = LiveTree(tmp_path)

    async def disturb(chunk: bytes, data: bytes) -> None:
        if way == "shrinks":
            os.truncate(file, 10)
        elif way == "vanishes":
            file.unlink(missing_ok=True)
        else:
            (tmp_path / "other").write_bytes(b"other")
            os.replace(tmp_path / "other", file)

    reading = await live.copy(b"file", disturb)
    assert reading.moved
    assert reading.entry is not None
    assert len(reading.entry.chunks) == 64


async def test_a_long_file_is_handed_on_while_it_is_read(tmp_path: Path) -> None:
    """Memory is bounded: a step is read only when the last one was taken."""
    with (tmp_path / "file").open("wb") as file:
        for number in range(64):
            file.write(bytes([number]) * 2**20)
    live = LiveTree(tmp_path)
    seen: dict[bytes, bytes] = {}

    async def sink(chunk: bytes, data: bytes) -> None:
        assert chunk_id(data) == chunk
        seen[chunk] = data

    reading = await live.copy(b"file", sink)
    assert reading.entry is not None
    assert b"".join(seen[chunk] for chunk in reading.entry.chunks) == (tmp_path / "file").read_bytes()


async def test_a_grab_is_bounded(tmp_path: Path) -> None:
    """The workload stands still meanwhile, and memory is finite. Holes cost nothing."""
    (tmp_path / "big").write_bytes(os.urandom(2**20))
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(2**40)
    live = LiveTree(tmp_path)
    with pytest.raises(BadInput):
        await live.grab([b"big"], 2**20 - 1)
    assert len(await live.grab([b"big", b"hole"], 2**20)) == 2
    assert await live.size([b"big", b"hole", b"nothing"]) == 2**20


async def test_twenty_small_files_are_grabbed_in_milliseconds(tmp_path: Path) -> None:
    """A frozen workload is a workload that does not work. Aimed at 1 ms; the bound leaves room for a busy machine."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    paths = [b"deep/er/%d" % number for number in range(20)]
    for path in paths:
        (tmp_path / os.fsdecode(path)).write_bytes(os.urandom(3000))
    live = LiveTree(tmp_path)
    best_s = 1.0
    for _ in range(20):
        began = time.perf_counter()
        await live.grab(paths, 2**20)
        best_s = min(best_s, time.perf_counter() - began)
    print(f"grabbed 20 small files in {best_s * 1000:.2f} ms")
    assert best_s < 0.01


async def test_fifos_and_sockets_are_not_waited_for(short_dir: Path) -> None:
    """Opening a fifo for reading waits for a writer, for ever if need be."""
    os.mkfifo(short_dir / "fifo")
    add_a_socket(short_dir / "socket")
    live = LiveTree(short_dir)
    async with asyncio.timeout(5):
        fifo, sock = await live.copy(b"fifo", nowhere), await live.copy(b"socket", nowhere)
    assert fifo.entry is not None
    assert fifo.entry.kind is Kind.FIFO
    assert sock.entry is None
    assert sock.uncovered == "a socket"


async def test_nothing_is_read_through_a_symlink(tmp_path: Path) -> None:
    """A workload could otherwise make us copy what only we may read."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    (tmp_path / "tree" / "door").symlink_to(tmp_path / "outside")
    live = LiveTree(tmp_path / "tree")
    reading = await live.copy(b"door/secret", nowhere)
    assert reading.entry is None
    assert await live.walk(b"door", Tree()) == {b"door"}


async def test_reading_leaves_no_trace(tmp_path: Path) -> None:
    """The user's access times are the user's."""
    (tmp_path / "file").write_bytes(b"x")
    os.utime(tmp_path / "file", ns=(LONG_AGO_NS, LONG_AGO_NS))
    await LiveTree(tmp_path).copy(b"file", nowhere)
    assert (tmp_path / "file").stat().st_atime_ns == LONG_AGO_NS


async def test_a_tree_that_is_known_need_not_be_read_to_know_its_links(tmp_path: Path) -> None:
    """A promoted standby starts with a tree that it never read; `ln` gives a hint for the new name only."""
    (tmp_path / "old").write_bytes(b"one inode")
    tree = scanned(tmp_path)
    live = LiveTree(tmp_path)
    await live.learn(tree)
    os.link(tmp_path / "old", tmp_path / "new")
    await grab_into(live, tree, [TOP, b"new"])
    assert tree.root() == scanned(tmp_path).root()
    (tmp_path / "old").write_bytes(b"written through one name")
    await grab_into(live, tree, [b"old"])
    assert tree.root() == scanned(tmp_path).root()
