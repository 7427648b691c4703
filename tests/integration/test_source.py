"""The source on a real workspace: a workload that writes, maps and moves, and what we hear and read of it."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dumont.agent.maps import mapped_files
from dumont.agent.source import LiveSource
from dumont.model.commit import Kind
from dumont.replication.ports import Happening
from dumont.snapshot.tree import TOP, Tree
from tests.integration.household import Household, household, states, within

MAPPER = """
import mmap, os, sys, time
path = os.fsencode(sys.argv[1])
file = os.open(path, os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 8192)
shared = mmap.mmap(file, 8192)
os.close(file)
if "delete" in sys.argv:
    os.unlink(path)
at = 0
while "quit" not in sys.argv:
    at = (at + 1) % 4096
    shared[at] = (shared[at] + 1) % 256
    open(sys.argv[1] + ".ready", "w").close() if at == 1 else time.sleep(0.001)
shared[0] = 7
"""
READERS = """
import mmap, os, sys, time
file = open(sys.argv[1], "r+b")
private = mmap.mmap(file.fileno(), 4096, flags=mmap.MAP_PRIVATE)
reading = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
open(sys.argv[1] + ".ready", "w").close()
time.sleep(1000)
"""


async def nowhere(chunk: bytes, data: bytes) -> None:
    """A sink that forgets."""


@pytest.fixture
def house(short_dir: Path) -> Iterator[Household]:
    with household(short_dir) as house:
        (house.directory / "mapper.py").write_text(MAPPER)
        (house.directory / "readers.py").write_text(READERS)
        yield house


@pytest.fixture
async def top(short_dir: Path) -> Path:
    top = short_dir / "workspace"
    top.mkdir(exist_ok=True)
    return top


@pytest.fixture
async def source(house: Household, top: Path) -> AsyncIterator[LiveSource]:
    source = await LiveSource.open(house.run, top)
    yield source
    source.close()


def python(house: Household, script: str, *arguments: str) -> str:
    words = [sys.executable, str(house.directory / script), *arguments]
    return "exec " + " ".join(f"'{word}'" for word in words)


def ready(path: Path) -> None:
    mark = path.with_name(path.name + ".ready")
    within(5.0, mark.exists, f"{path} is mapped")


async def test_a_file_written_through_shared_memory_is_named(house: Household, top: Path, source: LiveSource) -> None:
    """Such writes give neither an event nor, until much later, a new time."""
    data = top / "deep/data"
    data.parent.mkdir()
    house.ask(python(house, "mapper.py", str(data)), 1)
    ready(data)
    source.hints()
    time.sleep(0.05)
    silent = {hint.path for hint in source.hints()}
    assert b"deep/data" not in silent, "the kernel tells of mapped writes after all?"
    assert source.mapped() == {b"deep/data"}
    assert source.unasked == []


async def test_frozen_a_mapped_file_stands_still_and_is_read_whole(
    house: Household, top: Path, source: LiveSource
) -> None:
    """What a commit holds of it must be what was there at one instant."""
    data = top / "data"
    house.ask(python(house, "mapper.py", str(data)), 1)
    ready(data)
    for _ in range(5):
        assert await source.freeze(1.0)
        (grabbed,) = [one for one in await source.grab(source.mapped(), 2**20) if one.path == b"data"]
        assert grabbed.blocks == (data.read_bytes(),)
        await source.thaw()
        await asyncio.sleep(0.01)
        assert grabbed.blocks != (data.read_bytes(),)


async def test_only_writers_through_shared_memory_are_named(house: Household, top: Path, source: LiveSource) -> None:
    """Private and read-only maps, deleted files and files elsewhere: hashing them would be for nothing."""
    for name in ("read", "elsewhere"):
        (top / name).write_bytes(bytes(4096))
    (house.directory / "outside").mkdir()
    house.ask(python(house, "readers.py", str(top / "read")), 1)
    house.ask(python(house, "mapper.py", str(house.directory / "outside/elsewhere")), 2)
    house.ask(python(house, "mapper.py", str(top / "deleted"), "delete"), 3)
    ready(top / "read")
    ready(house.directory / "outside/elsewhere")
    ready(top / "deleted")
    assert source.mapped() == set()


async def test_our_own_maps_are_not_the_workloads(house: Household, top: Path, source: LiveSource) -> None:
    """Whoever is not below the watchdog, or is one of us, writes nothing into a workspace."""
    data = top / "data"
    mapping = subprocess.Popen([sys.executable, str(house.directory / "mapper.py"), str(data)])
    try:
        ready(data)
        assert source.mapped() == set()
        assert mapped_files(top, [mapping.pid]) == ({b"data"}, [])
    finally:
        mapping.kill()
        mapping.wait()


async def test_a_mapping_that_ends_is_told_by_the_kernel(house: Household, top: Path, source: LiveSource) -> None:
    """A program that maps, writes and ends between two commits was never seen by `mapped`."""
    subprocess.run([sys.executable, str(house.directory / "mapper.py"), str(top / "data"), "quit"], check=True)
    first = {hint.path for hint in source.hints()}
    assert b"data" in first
    shell = f"{sys.executable} {house.directory / 'mapper.py'} {top / 'data'}"
    with subprocess.Popen(shell.split()) as mapping:
        ready(top / "data")
        source.hints()
        mapping.kill()
        mapping.wait()
        assert b"data" in {hint.path for hint in source.hints()}


@pytest.mark.parametrize(
    "name", [b"a\nb", b"\xff\xfe", b"x (deleted)", b"back\\012slash", b" spaces ", b"-", b"a/b c/\n"]
)
async def test_names_of_mapped_files_are_bytes(house: Household, top: Path, name: bytes) -> None:
    """/proc/PID/maps escapes newlines, and marks what is deleted in words that may be part of a name."""
    path = os.fsencode(top) + b"/" + name
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with subprocess.Popen([sys.executable, str(house.directory / "mapper.py"), path]) as mapping:
        within(5.0, lambda: os.path.exists(path + b".ready"), "it is mapped")
        assert mapped_files(top, [mapping.pid])[0] == {name}
        mapping.kill()


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing: apt install bubblewrap")
async def test_a_mapped_file_is_found_from_outside_its_jail(house: Household, top: Path) -> None:
    """In a jail the workspace is /workspace, whatever we call it."""
    (top / "in").mkdir()
    jail = ["bwrap", "--dev-bind", "/", "/", "--bind", str(top), "/mnt", "--die-with-parent"]
    script = f"import sys; sys.argv = ['', '/mnt/in/data']\n{MAPPER}"
    with subprocess.Popen([*jail, sys.executable, "-c", script]) as mapping:
        within(5.0, (top / "in/data.ready").exists, "it is mapped")
        inside = subprocess.run(["pgrep", "-P", str(mapping.pid)], capture_output=True, check=False).stdout.split()
        pids = [mapping.pid, *(int(pid) for pid in inside)]
        assert mapped_files(top, pids)[0] == {b"in/data"}
        mapping.kill()


async def test_who_may_not_be_asked_is_said(house: Household, top: Path) -> None:
    """A process of another user may map what it likes; that it is unknown has to be known (I6)."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    answer = top.parent / "answer"
    top.parent.chmod(0o755)
    answer.touch()
    answer.chmod(0o666)
    nobody = os.fork()
    if nobody == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            answer.write_text(str(mapped_files(Path("/"), [1])))
        finally:
            os._exit(0)
    os.waitpid(nobody, 0)
    assert answer.read_text() == "(set(), [1])"


async def test_a_frozen_workload_tells_all_it_did(house: Household, top: Path, source: LiveSource) -> None:
    """What is read after a freeze, following hints, is the whole tree: the heart of a consistent commit."""
    script = f"""
cd {top}
for n in 1 2 3; do
  ( while true; do
      mkdir -p d$n/e; echo $RANDOM > d$n/e/f; echo $RANDOM >> log$n; mv d$n/e d$n/g; rm -rf old$n; mv d$n old$n
    done ) &
done
wait
"""
    house.ask(script, 4)
    tree = Tree()
    for path in await source.walk(TOP, tree):
        await read(source, tree, path)
    for _ in range(15):
        await asyncio.sleep(0.03)
        assert await source.freeze(2.0)
        assert states(house.workload()) <= {"T", "Z"}
        paths: set[bytes] = set()
        for hint in source.hints():
            paths.add(hint.path)
            if hint.happening is not Happening.TOUCHED:
                paths |= await source.walk(hint.path, tree)
        for path in sorted(paths):
            await read(source, tree, path)
        names = {os.fsencode(path.relative_to(top)) for path in top.rglob("*")} | {TOP}
        assert {path for path, _ in tree.entries()} == names
        assert await source.walk(TOP, tree) <= recent(top), "a walk finds what no hint told"
        await source.thaw()


async def read(source: LiveSource, tree: Tree, path: bytes) -> None:
    entry = (await source.copy(path, nowhere)).entry
    if entry is None or entry.kind is not Kind.DIRECTORY:
        for below in tree.below(path):
            tree.remove(below)
    if entry is None:
        tree.remove(path)
    else:
        tree.put(path, entry)


def recent(top: Path) -> set[bytes]:
    """Paths that changed within the last seconds: a walk names them again, to be safe."""
    since = time.time_ns() - 5 * 10**9
    found = {path for path in [top, *top.rglob("*")] if path.lstat().st_ctime_ns > since}
    return {b"" if path == top else os.fsencode(path.relative_to(top)) for path in found}


async def test_waiting_ends_with_a_change(top: Path, source: LiveSource) -> None:
    """The engine sleeps while nothing happens."""
    assert source.incomplete == ""
    waiting = asyncio.create_task(source.wait())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    (top / "file").write_text("")
    async with asyncio.timeout(1):
        await waiting
