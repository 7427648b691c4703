"""A workspace's disk keeps its promises: whole commits only, nothing acknowledged is lost, nothing else is claimed."""

import asyncio
import os
import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dumont.errors import BadInput, Corrupt, NotDurable
from dumont.model.commit import Change, CommitId, Entry, Kind
from dumont.snapshot.kept import Kept, Promise
from dumont.wire.stream import Blob, CommitMessage
from tests.integration.author import follow, journal
from tests.integration.standby_world import World, blob_of, loaded
from tests.trees import Operation, change, nobody, operations, torture

SLOW_FIXTURE = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.root.mkdir()
    return world


async def test_a_disk_that_was_never_used_holds_nothing(world: World) -> None:
    """Otherwise a new standby would have to explain files that nobody sent."""
    kept = await world.disk().load()
    assert kept == Kept(tree=kept.tree)
    assert len(kept.tree) == 0


async def test_everything_survives_the_journal(tmp_path: Path) -> None:
    """The other sink of the one engine must hold all that the store does."""
    world = World(tmp_path)
    torture(world.root)
    disk = await loaded(world)
    await follow(disk, world.author)
    assert world.different() == []
    kept = await world.disk().load()
    assert kept.head == world.author.head
    assert kept.tree.root() == world.author.tree.root()


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW_FIXTURE)
@given(rounds=st.lists(operations, min_size=1, max_size=4))
async def test_a_standby_equals_each_commit(
    rounds: list[list[Operation]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever happened between two commits, applying the second onto the first makes it, links and holes included."""
    world = World(tmp_path_factory.mktemp("disk"))
    world.root.mkdir()
    disk = await loaded(world)
    for todo in rounds:
        change(world.root, todo)
        await follow(disk, world.author)
        assert world.different() == []
    await disk.close()
    kept = await world.disk().load()
    assert kept.head == world.author.head
    assert kept.tree.root() == world.author.tree.root()


class Crash(Exception):
    """The process dies here."""


def crash_at(step: int, steps: list[str]) -> object:
    """A step that crashes when it is called for the `step`-th time, and notes the names of all."""

    def count(name: str) -> None:
        if len(steps) == step:
            raise Crash
        steps.append(name)

    return count


BEFORE: list[Operation] = [
    *(("write", number, 0, number) for number in (0, 1, 2, 6, 7, 8, 13)),
    *(("write", 4, 0, 8), ("link", 0, 3, 0), ("write", 24, 0, 8), ("hole", 9, 0, 300), ("symlink", 10, 1, 1)),
]
AFTER: list[Operation] = [
    *(("patch", 4, 0, 5), ("rename", 24, 5, 0), ("remove", 8, 0, 0), ("rename", 6, 12, 0), ("append", 0, 0, 3)),
    *(("swap", 1, 2, 0), ("mode", 13, 0, 1), ("time", 13, 0, 7), ("remove", 9, 0, 0), ("directory", 9, 0, 0)),
    *(("fifo", 11, 0, 0), ("link", 13, 14, 0), ("remove", 10, 0, 0), ("write", 10, 0, 4), ("copy", 4, 15, 0)),
]


async def crashed(world: World, step: int) -> list[str]:
    """Follow to BEFORE, journal AFTER, and crash in the given step of applying it; the steps that were done."""
    change(world.root, BEFORE)
    disk = await loaded(world)
    await follow(disk, world.author)
    change(world.root, AFTER)
    steps: list[str] = []
    disk = await loaded(world, crash_at(step, steps))
    blobs, message = world.author.commit()
    await journal(disk, blobs, message)
    try:
        await disk.apply(message)
    except Crash:
        return steps
    finally:
        await disk.close()  # a dead process does nothing behind the scenes
    return [*steps, "done"]


async def test_a_crash_at_any_step_is_repaired(tmp_path: Path) -> None:
    """A promoted tree equals exactly one commit; never half of one (I3)."""
    half_applied = 0
    names: set[str] = set()
    for step in range(200):
        world = World(tmp_path / f"{step}")
        world.root.mkdir(parents=True)
        steps = await crashed(world, step)
        names.update(steps)
        half_applied += bool(world.different())
        kept = await world.disk().load()
        assert world.different() == [], f"crashed after {steps}"
        assert kept.head == world.author.head
        if "done" in steps:
            break
    assert half_applied > 10, "without the repair the tree would have been whole anyway: the test shows nothing"
    assert {"change a block", "link aside", "build aside", "link a name", "put a name"} <= names


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW_FIXTURE)
@given(first=operations, second=operations, steps=st.lists(st.integers(0, 40), min_size=1, max_size=3))
async def test_crashes_while_repairing_are_repaired_too(
    first: list[Operation], second: list[Operation], steps: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A machine that crashed once is likely to crash again."""
    world = World(tmp_path_factory.mktemp("crash"))
    world.root.mkdir()
    change(world.root, first)
    disk = await loaded(world)
    await follow(disk, world.author)
    change(world.root, second)
    blobs, message = world.author.commit()
    disk = await loaded(world, crash_at(steps[0], []))
    await journal(disk, blobs, message)
    with suppress(Crash):
        await disk.apply(message)
    await disk.close()
    for step in steps[1:]:
        with suppress(Crash):
            await world.disk(crash_at(step, [])).load()
    kept = await world.disk().load()
    assert world.different() == []
    assert kept.head == world.author.head


async def test_an_application_that_failed_can_be_tried_again(world: World) -> None:
    """A disk that was full for a moment must not cost the standby."""
    fatal = ""

    def crash_once(name: str) -> None:
        if name == fatal:
            raise Crash

    change(world.root, BEFORE)
    disk = await loaded(world, crash_once)
    await follow(disk, world.author)
    change(world.root, AFTER)
    blobs, message = world.author.commit()
    await journal(disk, blobs, message)
    for fatal in ("link aside", "put a name", "dress a directory"):  # noqa: B007 - it is, by crash_once
        with pytest.raises(Crash):
            await disk.apply(message)
    fatal = ""
    await disk.apply(message)
    assert world.different() == []
    (world.root / "more").touch()
    await follow(disk, world.author)
    assert world.different() == []


async def test_a_torn_journal_loses_only_what_was_not_whole(world: World) -> None:
    """Each cut of the journal must give a whole commit: the last whole one before the cut."""
    disk = await loaded(world)
    ends = [0]
    described = []
    for number in range(4):
        (world.root / "file").write_bytes(random.Random(number).randbytes(3000))
        (world.root / f"new {number}").write_bytes(b"%d" % number)
        blobs, message = world.author.commit()
        await journal(disk, blobs, message)
        ends.append(segment(world).stat().st_size)
        described.append(message.commit)
    whole = segment(world).read_bytes()
    for end in sorted({*ends, *(random.Random(5).randrange(len(whole)) for _ in range(25))}):
        for tail in (b"", b"\0" * 100, b"B" + os.urandom(60)):
            segment(world).write_bytes(whole[:end] + tail)
            kept = await world.disk().load()
            expected = sum(1 for at in ends[1:] if at <= end)
            assert kept.head == (described[expected - 1] if expected else None)
            assert expected == 0 or (world.workspace / "file").read_bytes() == random.Random(expected - 1).randbytes(
                3000
            )


def segment(world: World) -> Path:
    return max((world.top / "data" / "journal").iterdir())


async def test_a_flipped_bit_in_the_journal_is_never_applied(world: World) -> None:
    """Everything from there on is torn; what came before counts."""
    disk = await loaded(world)
    (world.root / "a").write_bytes(b"a" * 5000)
    await journal(disk, *(first := world.author.commit()))
    end = segment(world).stat().st_size
    (world.root / "b").write_bytes(b"b" * 5000)
    await journal(disk, *world.author.commit())
    body = bytearray(segment(world).read_bytes())
    body[end + 200] ^= 1
    segment(world).write_bytes(bytes(body))
    assert (await world.disk().load()).head == first[1].commit
    assert not (world.workspace / "b").exists()


async def test_blobs_without_a_record_are_forgotten(world: World) -> None:
    """The stream broke in the middle of a commit: nothing of it counts, and its space is free again."""
    disk = await loaded(world)
    (world.root / "a").write_bytes(b"a")
    await follow(disk, world.author)
    size = segment(world).stat().st_size
    for number in range(40):
        await disk.blob(blob_of(os.urandom(100_000) + b"%d" % number))
    assert disk.pending_bytes > 4_000_000
    await disk.drop_partial()
    assert disk.pending_bytes == 0
    assert [path.stat().st_size for path in (world.top / "data" / "journal").iterdir()] == [size]
    (world.root / "b").write_bytes(b"b" * 100)
    blobs, message = world.author.commit()
    with pytest.raises(Corrupt, match="not sent"):
        await disk.record(message)
    await journal(disk, blobs, message)
    await disk.apply(message)
    assert world.different() == []


async def test_full_segments_go_when_their_files_are_durable(world: World) -> None:
    """A journal that only grows fills the standby."""
    disk = await loaded(world)
    for number in range(6):
        (world.root / "file").write_bytes(random.Random(number).randbytes(900_000))
        await follow(disk, world.author)
    await disk.close()
    assert len(list((world.top / "data" / "journal").iterdir())) <= 3
    kept = await world.disk().load()
    assert kept.head == world.author.head
    assert world.different() == []
    assert list((world.top / "data" / "aside").iterdir()) == []


async def test_applying_goes_on_behind_journaling(world: World) -> None:
    """An ack must not wait for the copy; neither may take from the other what it still needs."""
    disk = await loaded(world)
    waiting: asyncio.Queue[CommitMessage] = asyncio.Queue()

    async def apply_forever() -> None:
        while True:
            await disk.apply(await waiting.get())
            waiting.task_done()

    applying = asyncio.create_task(apply_forever())
    chance = random.Random(11)
    for number in range(60):
        name = f"file {chance.randrange(5)}"
        (world.root / name).write_bytes(chance.choice([b"again", chance.randbytes(400_000)]))
        if number % 5 == 0:
            (world.root / name).rename(world.root / f"renamed {number}")
        blobs, message = world.author.commit()
        await journal(disk, blobs, message)
        waiting.put_nowait(message)
    await waiting.join()
    applying.cancel()
    assert disk.pending_bytes == 0
    assert world.different() == []
    await disk.close()
    assert (await world.disk().load()).head == world.author.head


async def test_a_commit_must_make_the_tree_that_it_claims(world: World) -> None:
    """An ack says that this very tree is safe; checked before, not found out at the failover."""
    disk = await loaded(world)
    (world.root / "a").write_bytes(b"a")
    await follow(disk, world.author)
    (world.root / "b").write_bytes(b"b")
    blobs, message = world.author.commit()
    for blob in blobs:
        await disk.blob(blob)
    wrong = [
        replace(message, commit=replace(message.commit, root=bytes(32))),
        replace(message, parent_root=bytes(32)),
        replace(message, changes=message.changes[:-1]),
        replace(message, changes=(*message.changes, message.changes[0])),
    ]
    for bad in wrong:
        with pytest.raises(Corrupt):
            await disk.record(bad)
    await disk.record(message)
    await disk.sync()
    await disk.apply(message)
    assert world.different() == []


@pytest.mark.parametrize("path", [b"../x", b"/etc/x", b"a/../../x", b"./x", b"a//x", b"file/below", b"nowhere/x"])
async def test_a_commit_cannot_reach_out_of_the_workspace(world: World, path: bytes) -> None:
    """A standby follows a primary, which is a stranger's machine."""
    (world.root / "file").write_bytes(b"x")
    (world.root / "a").mkdir()
    disk = await loaded(world)
    await follow(disk, world.author)
    tree = world.author.tree.copy()
    evil = Change(path, Entry(Kind.FILE, 0o644, 0, 0, 0))
    tree.apply([evil])
    commit = replace(world.author.head, id=CommitId(1, 2), root=tree.root())  # type: ignore[type-var]
    with pytest.raises(Corrupt):
        await disk.record(CommitMessage(commit, world.author.tree.root(), (evil,)))  # type: ignore[arg-type]
    assert world.different() == []


async def test_nothing_is_written_through_a_symlink_that_somebody_planted(world: World) -> None:
    """What runs on a standby may change its tree behind our back; writing must stay inside all the same."""
    (world.root / "d").mkdir()
    (world.root / "d" / "file").write_bytes(b"x")
    disk = await loaded(world)
    await follow(disk, world.author)
    outside = world.top / "outside"
    outside.mkdir()
    (world.workspace / "d").rename(world.top / "moved")
    (world.workspace / "d").symlink_to(outside)
    (world.root / "d" / "file").write_bytes(b"changed")
    (world.root / "d" / "new").write_bytes(b"new")
    blobs, message = world.author.commit()
    await journal(disk, blobs, message)
    await disk.apply(message)
    assert list(outside.iterdir()) == []
    assert world.different() == []
    assert (await world.disk().load()).head == message.commit


async def test_a_chunk_must_be_what_its_id_says(world: World) -> None:
    """Verified before it is kept."""
    disk = await loaded(world)
    with pytest.raises(Corrupt):
        await disk.blob(Blob(bytes(32), b"data"))


async def test_commits_are_applied_in_order(world: World) -> None:
    """Out of order they would make another tree."""
    disk = await loaded(world)
    await journal(disk, *world.author.commit())
    (world.root / "a").touch()
    blobs, second = world.author.commit()
    await journal(disk, blobs, second)
    with pytest.raises(BadInput):
        await disk.apply(second)


async def test_a_promise_is_kept_by_the_next_process(world: World) -> None:
    """A replica that forgets its epoch could acknowledge in an old one."""
    disk = await loaded(world)
    promise = Promise(7, CommitId(7, 99))
    await disk.promise(promise)
    assert (await world.disk().load()).promise == promise


async def test_half_links_of_a_fuzzy_commit_are_held_as_well_as_can_be(world: World) -> None:
    """Names of one inode that were read at different times can't share one; refusing would halt the workspace."""
    (world.root / "a").write_bytes(b"first")
    (world.root / "b").write_bytes(b"other")
    _, plain = world.author.commit()
    entries = {change.path: change.entry for change in plain.changes}
    changes = tuple(
        Change(path, replace(entry, link=b"a") if path else entry) for path, entry in entries.items() if entry
    )
    tree = world.author.tree.copy()
    tree.apply(changes)
    message = CommitMessage(replace(plain.commit, root=tree.root(), consistent=False), plain.parent_root, changes)
    disk = await loaded(world)
    await journal(disk, [blob_of(b"first"), blob_of(b"other")], message)
    await disk.apply(message)
    assert world.different() == []
    assert (await world.disk().load()).head == message.commit


async def test_an_ordinary_user_can_be_a_standby(short_dir: Path) -> None:
    """Containers without root are common; read-only directories are no bar, and owners are left as they are."""
    short_dir.chmod(0o777)
    with nobody():
        world = World(short_dir)
        torture(world.root)
        (world.root / "one").chmod(0o400)
        disk = await loaded(world)
        await follow(disk, world.author)
        assert world.different() == []
        (world.root / "read only").chmod(0o755)
        (world.root / "read only" / "file").unlink()
        (world.root / "read only" / "other").write_bytes(b"y")
        (world.root / "read only").chmod(0o500)
        await follow(disk, world.author)
        assert world.different() == []
        assert (await world.disk().load()).head == world.author.head


async def test_after_a_failed_fsync_nothing_is_promised(world: World) -> None:
    """The kernel forgets what it could not write; a second fsync that succeeds proves nothing, nor does a restart."""
    disk = await loaded(world)
    await follow(disk, world.author)
    disk._fail(NotDurable("an fsync failed"))
    for call in (disk.sync(), disk.promise(Promise(1)), disk.drop_partial(), disk.set_head(None, world.author.tree)):
        with pytest.raises(NotDurable):
            await call
    with pytest.raises(NotDurable):
        await world.disk().load()
