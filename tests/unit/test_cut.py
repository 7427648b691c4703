"""A cut: one point in time or a name for what moved, a freeze that is bounded and always ends."""

import asyncio
from collections.abc import Callable

import pytest

from dumont.model.commit import Kind
from dumont.replication.cut import Cut, Cutter, Pace
from dumont.replication.ports import BlobSink, Grabbed, Happening, Hint, Reading
from dumont.snapshot.check import check_shape
from dumont.snapshot.tree import TOP, Tree
from tests.simulation.disk import Files, SimSource
from tests.simulation.pair import Stage, passes, play


async def nowhere(chunk: bytes, data: bytes) -> None:
    """A sink that forgets."""


class Scripted(SimSource):
    """A source during whose work something happens: `before_copy`, `before_grab`, `in_walk` are called then."""

    def __init__(self, files: Files, stage: Stage) -> None:
        super().__init__(files, stage.gpu.rng)
        self.before_copy: Callable[[bytes], None] = lambda path: None
        self.before_grab: Callable[[], None] = lambda: None
        self.slow_s = 0.0
        self.slow_walk_s = 0.0
        self.thaws = 0
        self.still: list[bytes] = []

    def touched(self, path: bytes) -> None:
        self._hints.append(Hint(path))

    def write(self, path: bytes, data: bytes | None) -> None:
        if data is None:
            self._files.content.pop(path, None)
        else:
            self._files.content[path] = data
        self.touched(path)

    async def walk(self, below: bytes, known: Tree) -> set[bytes]:
        await passes(self.slow_walk_s)
        return await super().walk(below, known)

    async def copy(self, path: bytes, sink: BlobSink) -> Reading:
        self.before_copy(path)
        return await super().copy(path, sink)

    async def grab(self, paths: "list[bytes] | set[bytes]", bytes_max: int) -> list[Grabbed]:
        self.before_grab()
        await passes(self.slow_s)
        return await super().grab(paths, bytes_max)

    async def thaw(self) -> None:
        if self.frozen:
            self.still.append(self._files.tree().root())
        self.thaws += 1
        await super().thaw()


def cutter_of(stage: Stage, pace: Pace | None = None) -> tuple[Scripted, Cutter]:
    source = Scripted(stage.gpu.disk.files, stage)
    return source, Cutter(source, Tree(), stage.clock, pace or Pace(rounds_max=3))


def test_nothing_to_read_costs_no_freeze() -> None:
    """An idle workload is not to feel us."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage)
        assert await cutter.cut(nowhere) == Cut(consistent=True)
        assert source.thaws == 0 and cutter.quiet()

    play(story)


def test_a_consistent_cut_is_the_tree_as_it_stood_when_it_was_frozen() -> None:
    """A pair of files that belong together must never be found from two different moments."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage)
        cutter.distrust_everything()
        writing = asyncio.ensure_future(_write_forever(stage, source))
        for _ in range(40):
            cut = await cutter.cut(nowhere)
            assert cut.consistent and cutter.tree.root() == source.still[-1]
            await passes(0.01)
        writing.cancel()

    play(story)


async def _write_forever(stage: Stage, source: Scripted) -> None:
    rng = stage.gpu.rng
    for number in range(10**9):
        await passes(rng.uniform(0, 0.004))
        while source.frozen:
            await passes(0.0005)
        path = b"%d/%d" % (rng.randrange(3), rng.randrange(5))
        source.write(path, None if rng.random() < 0.2 else b"%d" % number)
        source.touched(path[:1])
        source.touched(TOP)


def test_what_was_too_much_for_one_freeze_is_copied_while_the_workload_runs() -> None:
    """A freeze lasts milliseconds; a gigabyte does not fit into it."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage, Pace(frozen_bytes_max=1_000, rounds_max=3))
        copied: list[bytes] = []
        source.before_copy = copied.append
        source.write(b"large", bytes(900))
        assert (await cutter.cut(nowhere)).consistent
        assert b"large" not in copied  # read many at a time, as small files are
        assert cutter.tree.get(b"large") is not None

    play(story)


def test_a_workload_that_can_t_be_frozen_gives_a_commit_that_names_what_moved() -> None:
    """Better a commit with a warning than none; better a warning than a lie."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage)
        source.stubborn = 1.0
        source.write(b"a", b"1")
        cut = await cutter.cut(nowhere)
        assert not cut.consistent and cut.fuzzy == (b"a",)
        assert cutter.tree.get(b"a") is not None

    play(story)


@pytest.mark.parametrize("known", [False, True], ids=["a new file", "a file of earlier commits"])
def test_a_file_renamed_during_a_fuzzy_cut_is_found_under_its_new_name(known: bool) -> None:
    """Read under neither name, an acknowledged file would be gone with the primary."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage)
        if known:
            source.write(b"old", b"precious")
            await cutter.cut(nowhere)
            cutter.take_changes()
        source.stubborn = 1.0
        source.write(b"a", b"1")
        source.write(b"old", b"precious")

        def rename(path: bytes) -> None:
            if b"old" in source._files.content:
                source.write(b"new", source._files.content[b"old"])
                source.write(b"old", None)

        source.before_copy = rename
        cut = await cutter.cut(nowhere)
        assert cutter.tree.get(b"new") is not None and cutter.tree.get(b"old") is None
        assert {b"old", b"new"} <= set(cut.fuzzy)

    play(story)


class Torn(Scripted):
    """A source whose directory `d` is not there whenever it is read, while `d/f` is. `times`: how often at most."""

    def __init__(self, files: Files, stage: Stage) -> None:
        super().__init__(files, stage)
        self.times = 10**6

    async def copy(self, path: bytes, sink: BlobSink) -> Reading:
        return Reading(path, None) if self._is_torn(path) else await super().copy(path, sink)

    async def grab(self, paths: "list[bytes] | set[bytes]", bytes_max: int) -> list[Grabbed]:
        grabbed = await super().grab(paths, bytes_max)
        return [Grabbed(one.path, None) if self._is_torn(one.path) else one for one in grabbed]

    def _is_torn(self, path: bytes) -> bool:
        self.times -= path == b"d"
        return path == b"d" and self.times >= 0


@pytest.mark.parametrize("stubborn", [0.0, 1.0], ids=["though nobody seems to move", "while everybody moves"])
def test_a_file_in_what_is_no_directory_is_neither_committed_nor_called_consistent(stubborn: float) -> None:
    """It was read at another moment than what it lies in, and no standby would take such a commit."""

    async def story(stage: Stage) -> None:
        source = Torn(stage.gpu.disk.files, stage)
        cutter = Cutter(source, Tree(), stage.clock, Pace(rounds_max=3))
        source.stubborn = stubborn
        source.write(b"d/f", b"1")
        source.write(b"g", b"2")
        cut = await cutter.cut(nowhere)
        assert not cut.consistent and b"d/f" in cut.fuzzy
        changes = cutter.take_changes()
        check_shape(cutter.tree, changes)
        assert {change.path for change in changes} == {TOP, b"g"}
        source.times, source.stubborn = 0, 0.0
        assert (await cutter.cut(nowhere)).consistent
        assert cutter.tree.root() == stage.gpu.disk.files.tree().root()

    play(story)


def test_what_was_read_at_two_moments_is_read_again_at_one() -> None:
    """One torn reading costs another freeze, and no more."""

    async def story(stage: Stage) -> None:
        source = Torn(stage.gpu.disk.files, stage)
        cutter = Cutter(source, Tree(), stage.clock, Pace(rounds_max=3))
        source.times = 1
        source.write(b"d/f", b"1")
        assert (await cutter.cut(nowhere)).consistent
        assert cutter.tree.root() == stage.gpu.disk.files.tree().root()

    play(story)


def test_what_vanished_during_a_fuzzy_cut_is_named() -> None:
    """A file that keeps changing its name may be found under none; then the answer says so."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage)
        source.stubborn = 1.0
        names = iter(range(10**6))
        source.write(b"n0", b"precious")

        def rename(path: bytes) -> None:
            at = next(iter(source._files.content))
            data = source._files.content[at]
            source.write(at, None)
            source.write(b"n%d" % (next(names) + 1), data)

        source.before_copy = rename
        cut = await cutter.cut(nowhere)
        assert not cut.consistent and b"n0" in cut.fuzzy and len(cut.fuzzy) > 1

    play(story)


def test_a_large_file_written_through_shared_memory_is_named_and_read_when_somebody_waits() -> None:
    """No hint tells of such writes; a barrier that neither covered nor named them would lie."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage, Pace(frozen_bytes_max=40, rounds_max=3))
        source.write(b"model", bytes(30))
        assert (await cutter.cut(nowhere)).consistent
        source.mapped_paths.add(b"model")
        source._files.content[b"model"] = b"x" * 30
        before = cutter.tree.get(b"model")
        assert await cutter.cut(nowhere) == Cut(False, (b"model",), pytest.approx(0.001, abs=0.1))
        assert cutter.tree.get(b"model") == before
        cut = await cutter.cut(nowhere, thorough=True)
        assert cut.fuzzy == (b"model",) and cutter.tree.get(b"model") != before

    play(story)


def test_a_mapped_file_of_a_workload_that_can_t_be_frozen_is_named() -> None:
    """Nothing else tells of it: without a name the commit would claim to be one point in time."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage)
        source.write(b"shared", b"1")
        assert (await cutter.cut(nowhere)).consistent
        source.mapped_paths.add(b"shared")
        source.stubborn = 1.0
        cut = await cutter.cut(nowhere)
        assert not cut.consistent and cut.fuzzy == (b"shared",)

    play(story)


def test_a_freeze_that_takes_too_long_is_given_up_and_forgets_nothing() -> None:
    """A hanging file system must not hold the workload still, nor make a commit that misses a file."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage)
        source.write(b"a", b"1")
        source.slow_s = 60.0
        began = stage.clock.monotonic()
        cut = await cutter.cut(nowhere)
        assert not cut.consistent and cut.fuzzy == (b"a",)
        assert cut.frozen_s == pytest.approx(3 * cutter.pace.frozen_s_max, rel=0.1)
        assert stage.clock.monotonic() - began < 2.0
        assert cutter.tree.get(b"a") is not None and not source.frozen

    play(story)


def test_a_walk_that_is_given_up_is_begun_again() -> None:
    """A directory that moved here during the freeze may hold a hundred thousand files."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage, Pace(rounds_max=2))
        source._files.content[b"dir/a"] = b"1"
        source.write(b"b", b"1")

        def move() -> None:
            source.before_grab = lambda: None
            source.slow_walk_s = 60.0
            source._hints.append(Hint(b"dir", Happening.SUBTREE))

        freeze = source.freeze

        async def freeze_then(timeout_s: float) -> bool:
            if not source.slow_walk_s and not source.still:
                move()
            else:
                source.slow_walk_s = 0.0
            return await freeze(timeout_s)

        source.freeze = freeze_then  # type: ignore[method-assign]
        assert (await cutter.cut(nowhere)).consistent
        assert cutter.tree.get(b"dir/a") is not None

    play(story)


def test_the_workload_is_thawed_whatever_goes_wrong() -> None:
    """A stopped training run that nobody continues is a dead one."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage)
        source.write(b"a", b"1")

        def fail() -> None:
            raise OSError(5, "input/output error")

        source.before_grab = fail
        with pytest.raises(OSError, match="input/output"):
            await cutter.cut(nowhere)
        assert not source.frozen and source.thaws == 1

    play(story)


def test_a_cut_that_is_cancelled_thaws_too() -> None:
    """The engine may be ended at any await."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage)
        source.write(b"a", b"1")
        source.slow_s = 0.2
        cutting = asyncio.ensure_future(cutter.cut(nowhere))
        await stage.until(lambda: source.frozen)
        cutting.cancel()
        await asyncio.wait([cutting])
        assert cutting.cancelled() and not source.frozen

    play(story)


def test_a_directory_that_became_a_file_takes_its_names_along() -> None:
    """A tree with names below a file is none that a disk could hold."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage)
        source.write(b"x/y/z", b"1")
        await cutter.cut(nowhere)
        cutter.take_changes()
        source._files.content.clear()
        source.write(b"x", b"now a file")
        assert (await cutter.cut(nowhere)).consistent
        entry = cutter.tree.get(b"x")
        assert entry is not None and entry.kind is Kind.FILE
        changed = {change.path: change.entry for change in cutter.take_changes()}
        assert changed.keys() == {b"x", b"x/y", b"x/y/z"} and changed[b"x/y/z"] is None

    play(story)


def test_changes_are_counted_from_the_last_that_were_taken() -> None:
    """What changed and changed back is no change; what an uncommitted cut found is still one."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage)
        source.write(b"a", b"1")
        await cutter.cut(nowhere)
        assert {change.path for change in cutter.take_changes()} == {TOP, b"a"}
        source.write(b"a", b"2")
        await cutter.cut(nowhere)
        assert cutter.pending == {b"a"} and not cutter.quiet()
        source.write(b"a", b"1")
        await cutter.cut(nowhere)
        assert cutter.pending == set() and cutter.take_changes() == ()

    play(story)


def test_a_declared_path_is_read_whatever_its_hints_say() -> None:
    """A file changed in place with its time put back gives a hint at most; a declared one needs none."""

    async def story(stage: Stage) -> None:
        source, cutter = cutter_of(stage)
        source.write(b"a", b"1")
        await cutter.cut(nowhere)
        source._files.content[b"a"] = b"2"
        before = cutter.tree.root()
        await cutter.cut(nowhere)
        assert cutter.tree.root() == before
        await cutter.cut(nowhere, [b"a"])
        assert cutter.tree.root() != before

    play(story)
