"""Files of tensors on their way from a primary to a standby: cut at tensors, whatever happens to them meanwhile."""

import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dumont.demo.walker import describe, differences
from dumont.snapshot.chunk import block_ranges
from dumont.snapshot.disk import WorkspaceDisk
from dumont.snapshot.live import LiveTree
from dumont.snapshot.mend import Mender
from dumont.snapshot.place import Place
from dumont.snapshot.scan import OpenFile, open_path
from dumont.snapshot.tree import Tree
from dumont.wire.stream import Blob
from tests.integration.author import Author, follow
from tests.tensor_files import safetensors, torch_zip

Write = Callable[[Mapping[str, bytes]], bytes]
_chance = random.Random(3)
TENSORS = {f"layer.{number}": _chance.randbytes(700_000 + 8 * number) for number in range(4)}


class Pair:
    """A primary's directory and a standby's disk."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.author = Author(top / "primary")
        self.author.root.mkdir()
        self.file = self.author.root / "model"

    def disk(self) -> WorkspaceDisk:
        return WorkspaceDisk(self.top / "standby", self.top / "data")

    def different(self) -> list[str]:
        return differences(describe(self.author.root), describe(self.top / "standby"))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def new_bytes(blobs: list[Blob]) -> int:
    return sum(len(blob.data) for blob in blobs)


@pytest.mark.parametrize("write", [safetensors, torch_zip])
async def test_a_checkpoint_in_which_everything_moved_costs_what_is_new(pair: Pair, write: Write) -> None:
    """Fine-tuning changes a head and inserts adapters; the backbone only moves."""
    disk = pair.disk()
    await disk.load()
    pair.file.write_bytes(write(TENSORS))
    await follow(disk, pair.author)
    pair.file.write_bytes(write({"adapter": _chance.randbytes(100_003), **TENSORS}))
    tree = pair.author.tree
    blobs, message = pair.author.commit()
    assert 100_003 <= new_bytes(blobs) < 150_000
    for blob in blobs:
        await disk.blob(blob)
    await disk.record(message)
    await disk.sync()
    await disk.apply(message)
    assert pair.different() == []
    assert pair.author.tree.root() != tree.root()
    await disk.close()
    again = pair.disk()
    assert (await again.load()).head == message.commit
    await again.close()


async def test_a_file_that_is_changed_in_place_is_patched_in_place(pair: Pair) -> None:
    """Its tensors lie where they were, so its blocks do."""
    disk = pair.disk()
    await disk.load()
    pair.file.write_bytes(safetensors(TENSORS))
    await follow(disk, pair.author)
    inode = (pair.top / "standby" / "model").stat().st_ino
    with pair.file.open("r+b") as file:
        file.seek(1_500_000)
        file.write(b"new")
    blobs, message = pair.author.commit()
    assert len(blobs) == 1
    for blob in blobs:
        await disk.blob(blob)
    await disk.record(message)
    await disk.sync()
    await disk.apply(message)
    assert pair.different() == []
    assert (pair.top / "standby" / "model").stat().st_ino == inode
    await disk.close()


@pytest.mark.parametrize("bounds", [(), (5,), (70_000, 70_001, 1_000_000)])
async def test_a_standby_keeps_its_head_however_files_were_cut(pair: Pair, bounds: tuple[int, ...]) -> None:
    """A file that changed while it was read, or was stored by an older version, is not cut as its content suggests."""
    pair.author.cut = lambda path, size: bounds
    disk = pair.disk()
    await disk.load()
    pair.file.write_bytes(safetensors(TENSORS))
    message = await follow(disk, pair.author)
    assert pair.different() == []
    await disk.close()
    os.utime(pair.top / "standby" / "model", ns=(1, pair.file.stat().st_mtime_ns))  # ctime differs: it is read again
    again = pair.disk()
    assert (await again.load()).head == message.commit
    pair.author.cut = lambda path, size: None
    last = await follow(again, pair.author)
    assert pair.different() == []
    entry = {change.path: change.entry for change in last.changes}[b"model"]
    assert entry is not None
    assert len(entry.bounds) == len(TENSORS)
    await again.close()


async def test_a_standby_that_cut_by_content_would_lose_its_head(pair: Pair) -> None:
    """The negative control: a mender that does not look at how the wanted tree is cut finds that blocks are missing."""

    class Forgetful(Mender):
        def look(self, wanted: Tree) -> Tree:
            return super().look(Tree())

    class ForgetfulDisk(WorkspaceDisk):
        def _mender(self) -> Mender:
            mender = super()._mender()
            return Forgetful(mender.directory, mender.aside, mender.blobs, mender.index, mender.now_ns)

    pair.author.cut = lambda path, size: (70_000, 1_000_000)
    disk = pair.disk()
    await disk.load()
    pair.file.write_bytes(safetensors(TENSORS))
    await follow(disk, pair.author)
    await disk.close()
    os.utime(pair.top / "standby" / "model", ns=(1, pair.file.stat().st_mtime_ns))
    again = ForgetfulDisk(pair.top / "standby", pair.top / "data")
    assert (await again.load()).head is None
    await again.close()


def test_chunks_tile_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """Where it is cut was decided when it was opened; what is read is what is there."""
    (tmp_path / "model").write_bytes(safetensors(TENSORS))
    with Place(tmp_path) as place:
        opened = open_path(place, b"model")
    file = opened.file
    assert file is not None and opened.entry is not None
    assert opened.entry.bounds == file.bounds != ()
    other = torch_zip({"other": _chance.randbytes(file.size - 600)})[: file.size]
    with (tmp_path / "model").open("r+b") as changing:
        changing.write(other)
    assert b"".join(file.block(number) for number in range(file.count)) == (tmp_path / "model").read_bytes()
    os.truncate(tmp_path / "model", 1_000_000)
    blocks = [file.block(number) for number in range(file.count)]
    assert [len(block) for block in blocks] == [length for _, length in block_ranges(file.size, file.bounds)]
    assert file.short
    file.close()


def test_a_sparse_file_has_no_bounds(tmp_path: Path) -> None:
    """Whether a block is a hole follows from whole pages."""
    body = safetensors({**TENSORS, "zeros": bytes(2**20)})
    with (tmp_path / "model").open("wb") as file:
        file.write(body[: -(2**20)])
        file.truncate(len(body))
    opened = OpenFile(os.open(tmp_path / "model", os.O_RDONLY))
    assert opened.sparse
    assert opened.bounds == ()
    opened.close()


@pytest.mark.parametrize("write", [safetensors, torch_zip])
async def test_whoever_reads_a_live_file_cuts_it_alike(tmp_path: Path, write: Write) -> None:
    """What was copied while the workload ran and what was grabbed while it stood still must be one file."""
    (tmp_path / "model").write_bytes(write(TENSORS))
    seen: dict[bytes, bytes] = {}

    async def sink(chunk: bytes, data: bytes) -> None:
        seen[chunk] = data

    live = LiveTree(tmp_path)
    copied = (await live.copy(b"model", sink)).entry
    grabbed = (await live.digest(await live.grab([b"model"], 2**24), sink))[0].entry
    assert copied == grabbed
    assert copied is not None
    assert len(copied.bounds) == len(TENSORS)
    assert b"".join(seen[chunk] for chunk in copied.chunks) == (tmp_path / "model").read_bytes()
    assert await live.size([b"model"]) == copied.size
    live.close()
