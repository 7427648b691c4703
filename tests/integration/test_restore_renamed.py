"""Restoring onto a tree in which things were renamed, copied and swapped: what lies there already is not fetched."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from dumont.demo.walker import describe, differences
from dumont.errors import StoreError
from dumont.repository.hands import Blocking, ThreadHand
from dumont.repository.record import DATA, CommitRecord, pack_key
from dumont.repository.repository import Repository
from dumont.repository.restoring.landing import Landing, start_restoring
from dumont.repository.restoring.restore import Restored, restore
from dumont.repository.restoring.unit import Job, Message, Search, Unit
from tests.integration.archivist import Archivist, archive, new_repository
from tests.integration.returning import Spoilt, bring_back, left_over

MIB = 2**20


class Counting(Spoilt):
    """Counts what is read of packs."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = self.bytes = 0

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        body = await super().get_range(key, start, length)
        if key.startswith("packs/"):
            self.requests += 1
            self.bytes += len(body)
        return body


@dataclass
class Scene:
    """A tree that was stored, and a restored copy of it that a test may change."""

    top: Path
    store: Counting
    repository: Repository
    record: CommitRecord

    @property
    def copy(self) -> Path:
        return self.top / "copy"

    def change(self) -> None:
        """Count anew what is read of packs."""
        self.store.requests = self.store.bytes = 0

    def check(self) -> None:
        """The copy is what was stored, and nothing is left beside it."""
        assert differences(describe(self.top / "tree"), describe(self.copy)) == []
        assert left_over(self.top) == []


async def scene(top: Path, files: dict[str, bytes]) -> Scene:
    """A copy of these files, as it is after a restore."""
    for name, body in files.items():
        path = top / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        at_ns = 1_700_000_000_000_000_000 + len(body)
        os.utime(path, ns=(at_ns, at_ns))
    store = Counting()
    repository = await new_repository(store)
    record = await archive(Archivist(repository), top / "tree")
    await bring_back(repository, record, top / "copy")
    found = Scene(top, store, repository, record)
    found.change()
    return found


async def test_a_renamed_file_of_64_mib_is_not_fetched(tmp_path: Path) -> None:
    """Over a line of 1 Gbit/s this is half a second, and at a cloud's price for traffic it is money."""
    stage = await scene(tmp_path, {"large": os.urandom(64 * MIB)})
    (stage.copy / "large").rename(stage.copy / "another name")
    restored = await bring_back(stage.repository, stage.record, stage.copy)
    stage.check()
    assert restored.fetched_bytes == stage.store.bytes < 10_000  # the directory
    assert stage.store.requests <= 2


async def test_without_the_renamed_file_the_same_restore_fetches_all_of_it(tmp_path: Path) -> None:
    """The control of the test above: it is the file there that saves the traffic."""
    stage = await scene(tmp_path, {"large": os.urandom(8 * MIB)})
    (stage.copy / "large").unlink()
    restored = await bring_back(stage.repository, stage.record, stage.copy)
    stage.check()
    assert restored.fetched_bytes == stage.store.bytes > 8 * MIB


def swap(copy: Path) -> None:
    (copy / "a").rename(copy / "c")
    (copy / "b").rename(copy / "a")
    (copy / "c").rename(copy / "b")


def rotate(copy: Path) -> None:
    for number in (3, 2, 1, 0):
        (copy / f"log.{number}").rename(copy / f"log.{number + 1}")
    (copy / "log.0").write_bytes(b"new")


def move_a_directory(copy: Path) -> None:
    (copy / "small").rename(copy / "moved")


def copy_over(copy: Path) -> None:
    shutil.copyfile(copy / "a", copy / "saved")  # another time, another name
    (copy / "a").unlink()


def touch_and_move(copy: Path) -> None:
    (copy / "small").rename(copy / "moved")
    for path in (copy / "moved").iterdir():
        os.utime(path)


def lose_one_of_two(copy: Path) -> None:
    (copy / "twin").unlink()


def stand_in_the_way(copy: Path) -> None:
    (copy / "small").rename(copy / "elsewhere")
    (copy / "a").rename(copy / "kept")
    (copy / "a").mkdir()
    (copy / "kept").rename(copy / "a" / "kept")


def take_the_name_of_a_directory(copy: Path) -> None:
    shutil.move(copy / "small" / "0", copy / "zero")
    shutil.rmtree(copy / "small")
    (copy / "a").rename(copy / "small")


def give_its_name_to_something_small(copy: Path) -> None:
    (copy / "b").unlink()
    (copy / "small" / "1").unlink()
    (copy / "a").rename(copy / "small" / "1")


CHANGES: dict[Callable[[Path], None], int] = {
    swap: 0,
    rotate: 0,
    move_a_directory: 0,
    touch_and_move: 0,
    copy_over: 0,
    lose_one_of_two: 0,
    stand_in_the_way: 0,
    take_the_name_of_a_directory: 2 * MIB,  # what was small and went
    give_its_name_to_something_small: 6 * MIB,  # so did b, whose frames hold others too
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_whatever_was_moved_where_it_is_taken_from_there(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Rotated logs and checkpoints, and directories that were moved, are how files are renamed mostly."""
    body = os.urandom(2 * MIB)
    files = {"a": os.urandom(8 * MIB), "b": os.urandom(3 * MIB + 100), "one": body, "twin": body}
    files |= {f"log.{number}": os.urandom(2 * MIB) for number in range(4)}
    files |= {f"small/{number}": os.urandom(20_000) for number in range(40)}
    stage = await scene(tmp_path, files)
    change(stage.copy)
    restored = await bring_back(stage.repository, stage.record, stage.copy)
    stage.check()
    assert restored.fetched_bytes == stage.store.bytes <= CHANGES[change] + 20_000


async def test_where_nothing_may_be_held_a_swap_is_made_right_all_the_same(tmp_path: Path) -> None:
    """Hard links are not to be had everywhere; then one of the two is fetched."""
    stage = await scene(tmp_path, {"a": os.urandom(3 * MIB), "b": os.urandom(3 * MIB + 100)})
    swap(stage.copy)
    hands = Hands(lambda message: forget_what_is_held(tmp_path))
    await hands.restore(stage)
    stage.check()


def forget_what_is_held(top: Path) -> None:
    for path in top.glob(".*.restoring-*/held-*"):
        path.unlink(missing_ok=True)


@dataclass
class Hands:
    """Threads that restore, each message of which a test sees first."""

    on: Callable[[Message], None]
    seen: list[Message] = field(default_factory=list)
    start: Callable[[bytes, Blocking], Landing] = start_restoring

    async def restore(self, stage: Scene) -> Restored:
        hands = [ThreadHand(self._start, stage.repository.store) for _ in range(2)]
        return await restore(stage.repository, stage.record, stage.copy, hands)

    def _start(self, message: bytes, store: Blocking) -> "Watched":
        return Watched(self.start(message, store), self)


@dataclass
class Watched:
    """A worker whose messages are seen."""

    landing: Landing
    hands: Hands

    def handle(self, message: bytes) -> bytes:
        seen = msgspec.msgpack.decode(message, type=Message)
        self.hands.seen.append(seen)
        self.hands.on(seen)
        return self.landing.handle(message)

    def end(self) -> None:
        self.landing.end()


async def test_a_file_that_changes_after_it_was_found_is_refused_and_fetched(tmp_path: Path) -> None:
    """A program that goes on writing must not have its bytes taken for those of the commit."""
    stage = await scene(tmp_path, {"large": os.urandom(8 * MIB), "small": os.urandom(300_000)})
    for name in ("large", "small"):
        (stage.copy / name).rename(stage.copy / f"{name} now")

    def garble(message: Message) -> None:
        if isinstance(message, Unit) and message.sources:
            for source in message.sources:
                with (stage.copy / os.fsdecode(source.path)).open("r+b") as file:
                    file.seek(100_000)
                    file.write(b"garbled")

    hands = Hands(garble)
    restored = await hands.restore(stage)
    assert any(isinstance(message, Unit) and message.sources for message in hands.seen)
    stage.check()
    assert 300_000 < restored.fetched_bytes < 10 * MIB
    assert stage.store.requests < 20  # neighbours are fetched together


class Trusting(Landing):
    """A worker that takes anything for the chunk that it should be."""

    def whole(self, data: memoryview, id: bytes) -> bool:
        return True


async def test_without_the_hash_of_what_is_taken_it_would_land(tmp_path: Path) -> None:
    """The control of the test above."""
    stage = await scene(tmp_path, {"large": os.urandom(2 * MIB)})
    (stage.copy / "large").rename(stage.copy / "now")

    def garble(message: Message) -> None:
        if isinstance(message, Unit) and message.sources:
            with (stage.copy / "now").open("r+b") as file:
                file.write(b"garbled")

    hands = Hands(garble)
    hands.start = lambda message, store: Trusting(msgspec.msgpack.decode(message, type=Job), store)
    await hands.restore(stage)
    assert (stage.copy / "large").read_bytes()[:7] == b"garbled"


async def test_a_file_that_is_cut_short_or_gone_after_it_was_found_is_fetched(tmp_path: Path) -> None:
    """Whoever works in the tree meanwhile costs traffic, and nothing else."""
    stage = await scene(
        tmp_path, {"cut": os.urandom(8 * MIB), "gone": os.urandom(5 * MIB), "fifo": os.urandom(3 * MIB)}
    )
    for name in ("cut", "gone", "fifo"):
        (stage.copy / name).rename(stage.copy / f"{name} now")

    def spoil(message: Message) -> None:
        if isinstance(message, Unit) and message.sources and (stage.copy / "gone now").exists():
            os.truncate(stage.copy / "cut now", MIB + 5)
            (stage.copy / "gone now").unlink()
            (stage.copy / "fifo now").unlink()
            os.mkfifo(stage.copy / "fifo now")

    await Hands(spoil).restore(stage)
    stage.check()


async def test_a_file_that_only_looks_like_it_is_not_taken(tmp_path: Path) -> None:
    """Size, time and name are hints, which anybody can set; what counts are the bytes."""
    body = os.urandom(8 * MIB)
    stage = await scene(tmp_path, {"deep/large": body, "deep/small": body[:50_000]})
    for name in ("large", "small"):
        path = stage.copy / "deep" / name
        about = path.stat()
        path.unlink()
        fake = stage.copy / name
        fake.write_bytes(body[: MIB // 100] + os.urandom(about.st_size - MIB // 100))
        os.utime(fake, ns=(about.st_mtime_ns, about.st_mtime_ns))
    restored = await bring_back(stage.repository, stage.record, stage.copy)
    stage.check()
    assert restored.fetched_bytes > 8 * MIB


@pytest.mark.parametrize("reads", [1, 2, 3])
async def test_a_restore_that_breaks_off_leaves_what_it_would_have_taken(tmp_path: Path, reads: int) -> None:
    """Whatever stands is whole, nothing has a second name any more, and the next run finds all of it again."""
    bodies = {name: os.urandom(size * MIB + size) for name, size in {"a": 2, "b": 3, "c": 9, "d": 10}.items()}
    stage = await scene(tmp_path, bodies)
    swap(stage.copy)
    (stage.copy / "c").write_bytes(b"something else")
    (stage.copy / "d").unlink()
    stage.store.reads_left = reads
    with pytest.raises(StoreError):
        await bring_back(stage.repository, stage.record, stage.copy)
    assert left_over(tmp_path) == []
    there = [path.read_bytes() for path in stage.copy.iterdir() if path.stat().st_size > MIB]
    assert all(body in bodies.values() for body in there)
    assert all(path.stat().st_nlink == 1 for path in stage.copy.iterdir())
    stage.store.reads_left = None
    await bring_back(stage.repository, stage.record, stage.copy)
    stage.check()


async def test_of_a_file_that_was_moved_and_changed_the_rest_is_taken(tmp_path: Path) -> None:
    """A block is a block, wherever it lies."""
    stage = await scene(tmp_path, {"large": os.urandom(32 * MIB)})
    (stage.copy / "large").rename(stage.copy / "now")
    with (stage.copy / "now").open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"changed")
    restored = await bring_back(stage.repository, stage.record, stage.copy)
    stage.check()
    assert restored.fetched_bytes < 3 * MIB


@pytest.mark.parametrize("when", [None, Search, Unit])
async def test_nothing_outside_is_read_for_it(tmp_path: Path, when: type[Message] | None) -> None:
    """A symlink that stands where the file may lie leads nowhere, whether it is there before or comes meanwhile."""
    stage = await scene(tmp_path, {"deep/a": os.urandom(4 * MIB)})
    outside = tmp_path / "outside"
    (stage.copy / "deep").rename(stage.copy / "now")

    def swap_in(message: Message | None) -> None:
        if outside.exists() or (message is not None and type(message) is not when):
            return
        if isinstance(message, Unit):
            outside.mkdir()
            (stage.copy / "now" / "a").rename(outside / "a")
            (stage.copy / "now" / "a").symlink_to(outside / "a")
        else:
            (stage.copy / "now").rename(outside)
            (stage.copy / "now").symlink_to(outside)

    if when is None:
        swap_in(None)
    hands = Hands(swap_in)
    restored = await hands.restore(stage)
    stage.check()
    assert restored.fetched_bytes > 4 * MIB
    assert [path.name for path in outside.iterdir()] == ["a"]


async def test_where_nothing_is_lacking_nothing_is_searched(tmp_path: Path) -> None:
    """What was changed where it is, or is new, costs no reading of other files."""
    files = {f"{number}": os.urandom(100_000 + number) for number in range(20)} | {"large": os.urandom(3 * MIB)}
    stage = await scene(tmp_path, files)
    for number in range(5):
        (stage.copy / f"{number}").write_bytes(os.urandom(1000 + number))
    (stage.copy / "6").unlink()
    (stage.copy / "mine").write_bytes(os.urandom(77_777))
    hands = Hands(lambda message: None)
    await hands.restore(stage)
    stage.check()
    assert not [message for message in hands.seen if isinstance(message, Search)]


async def test_what_the_store_lost_is_taken_from_the_tree(tmp_path: Path) -> None:
    """The last whole copy of a file may be the one under another name."""
    stage = await scene(tmp_path, {"large": os.urandom(8 * MIB)})
    (stage.copy / "large").rename(stage.copy / "now")
    for pack in stage.repository.catalogue.packs.values():
        for frame in pack.frames:
            if frame.kind == DATA:
                stage.store.flip(pack_key(pack.name), frame.offset)
    await bring_back(stage.repository, stage.record, stage.copy)
    stage.check()
