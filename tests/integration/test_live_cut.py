"""A cut of a real directory: hardlinks, renames and bounded freezes, with the drivers of a real machine."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dumont.agent.source import LiveSource
from dumont.clock import SystemClock
from dumont.replication.cut import Cutter, Pace
from dumont.snapshot.tree import Tree
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
