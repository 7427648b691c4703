"""A cut of a real directory: hardlinks, renames and bounded freezes, with the drivers of a real machine."""

import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path

import pytest

from dumont.agent.source import LiveSource
from dumont.clock import SystemClock
from dumont.errors import BadInput
from dumont.replication.cut import Cutter, Pace
from dumont.replication.ports import BlobSink, Grabbed, Reading
from dumont.snapshot.tree import TOP, Tree
from tests.integration.household import Household, household


async def nowhere(chunk: bytes, data: bytes) -> None:
    """A sink that forgets."""


@pytest.fixture
def house(short_dir: Path) -> Iterator[Household]:
    with household(short_dir) as house:
        yield house


@pytest.fixture
async def source(house: Household, short_dir: Path) -> AsyncIterator[LiveSource]:
    (short_dir / "workspace").mkdir()
    source = await LiveSource.open(house.run, short_dir / "workspace")
    yield source
    source.close()


async def test_a_write_through_one_name_reaches_the_others_even_when_nothing_could_be_frozen(
    source: LiveSource, short_dir: Path
) -> None:
    """The kernel tells of one name only; the other would keep its old bytes in every later commit."""
    top = short_dir / "workspace"
    (top / "a").write_text("old")
    os.link(top / "a", top / "b")
    cutter = Cutter(source, Tree(), SystemClock(), Pace(rounds_max=2))
    cutter.distrust_everything()
    await consistent(cutter)
    freezer, source._freezer = source._freezer, Unfreezable()  # type: ignore[assignment]
    (top / "a").write_text("new!")
    fuzzy = await cutter.cut(nowhere)
    assert not fuzzy.consistent and set(fuzzy.fuzzy) == {b"a", b"b"}
    source._freezer = freezer
    assert not cutter.quiet()
    await consistent(cutter)
    a, b = cutter.tree.get(b"a"), cutter.tree.get(b"b")
    assert a and b and a == b and a.size == 4 and a.link == b"a"
    assert cutter.quiet() or (await cutter.cut(nowhere)).consistent


class Interrupted:
    """A source that reads one path after another while the workload runs, and calls what is to happen around it.

    `before` and `after` hold, by path, what happens once before and once after that path is first read.
    """

    def __init__(
        self, source: LiveSource, before: dict[bytes, Callable[[], None]], after: dict[bytes, Callable[[], None]]
    ) -> None:
        self._source = source
        self._before = before
        self._after = after
        self.hints, self.mapped, self.walk = source.hints, source.mapped, source.walk
        self.size, self.digest, self.close = source.size, source.digest, source.close
        self._is_frozen = False

    async def freeze(self, timeout_s: float) -> bool:
        self._is_frozen = await self._source.freeze(10.0)
        return self._is_frozen

    async def thaw(self) -> None:
        self._is_frozen = False
        await self._source.thaw()

    async def copy(self, path: bytes, sink: BlobSink) -> Reading:
        self._before.pop(path, nothing)()
        reading = await self._source.copy(path, sink)
        self._after.pop(path, nothing)()
        return reading

    async def grab(self, paths: Collection[bytes], bytes_max: int) -> list[Grabbed]:
        if self._is_frozen:
            return await self._source.grab(paths, bytes_max)
        raise BadInput("one after another, please")


def nothing() -> None:
    """Nothing happens."""


async def test_a_name_read_while_its_directory_was_away_goes_with_it(source: LiveSource, short_dir: Path) -> None:
    """Read between two renames, a file's directory is not there and the file is. Both are right, at their moments.

    When the name goes too, the kernel tells of the directory only: what no directory leads to would stay for ever,
    in a commit that calls itself consistent.
    """
    top = short_dir / "workspace"

    def go_away() -> None:
        (top / "d").rename(top / "old")

    def come_back() -> None:
        (top / "d/e").mkdir(parents=True)
        (top / "d/e/f").write_text("another")

    before = {b"d": go_away, b"d/e/f": come_back}
    after = {b"d/e/f": lambda: shutil.rmtree(top / "d/e")}
    (top / "d/e").mkdir(parents=True)
    (top / "d/e/f").write_text("one")
    cutter = Cutter(Interrupted(source, before, after), Tree(), SystemClock(), Pace(little_bytes=0))
    cutter.distrust_everything()
    await consistent(cutter)
    assert not before and not after, "it was not read in the order that this is about"
    names = {os.fsencode(path.relative_to(top)) for path in top.rglob("*")} | {TOP}
    assert {b"d", b"old/e/f"} < names and b"d/e" not in names
    assert {path for path, _ in cutter.tree.entries()} == names


async def consistent(cutter: Cutter) -> None:
    """Cut until it is: a busy machine may not let the workload stand still soon enough at once."""
    for _ in range(20):
        if (await cutter.cut(nowhere)).consistent:
            return
    raise AssertionError("no cut was consistent")


class Unfreezable:
    """A workload with a process that never stands still."""

    def freeze(self, timeout_s: float) -> bool:
        return False

    def thaw(self) -> None:
        return

    def workload(self) -> list[object]:
        return []
