"""Two programs that share no code must find the same root of the same tree: the engine's scan and the demo's walker."""

import os
import random
import time
from pathlib import Path

import pytest

from dumont.demo.merkle import root
from dumont.snapshot.index import Index
from dumont.snapshot.place import Place
from dumont.snapshot.scan import scan
from tests.tensor_files import safetensors, torch_zip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Everything that a Linux tree can hold, as far as any user may make it."""
    top = tmp_path / "tree"
    chance = random.Random(7)
    (top / "deep" / "er" / "empty").mkdir(parents=True)
    (top / "small").write_bytes(b"content")
    (top / "nothing").touch()
    (top / "zeros").write_bytes(bytes(200_000))
    (top / "large").write_bytes(chance.randbytes(300_001))
    (top / "larger").write_bytes(chance.randbytes(17 * 2**20))
    tensors = {
        f"t{number}": chance.randbytes(size) for number, size in enumerate((300_001, 7, 900_000, 70_000, 60_000))
    }
    tensors |= {f"bias{number}": chance.randbytes(9_000) for number in range(20)}
    (top / "tensors").write_bytes(safetensors(tensors))
    (top / "torch").write_bytes(torch_zip(tensors))
    (top / "other zip").write_bytes(b"PK\x03\x04" + bytes(2**20))
    (top / "other header").write_bytes((50).to_bytes(8, "little") + b"{" + bytes(2**20))
    with (top / "holes").open("wb") as holes:
        holes.write(b"begin")
        holes.seek(2**20 + 5)
        holes.write(b"end")
    with (top / "only a hole").open("wb") as holes:
        holes.truncate(150_000)
    (top / "deep" / "link").symlink_to("../small")
    os.link(top / "small", top / "deep" / "another name")
    os.mkfifo(top / "fifo")
    Path(os.fsdecode(os.fsencode(top) + b"/\xff not text")).write_bytes(b"x")
    (top / "small").chmod(0o4751)
    (top / "deep").chmod(0o1777)
    try:
        os.setxattr(top / "large", "user.second", b"2")
        os.setxattr(top / "large", "user.first", b"1")
    except OSError:
        pass  # this file system has none; the rest is compared all the same
    os.utime(top / "deep" / "er", ns=(5, -1_000_000_001))
    return top


def engine_root(tree: Path) -> str:
    """What a primary would write into its commit."""
    with Place(tree) as place:
        return scan(place, Index(), time.time_ns()).tree.root().hex()


def test_the_walker_and_the_engine_find_the_same_root(tree: Path) -> None:
    """Only then does an equal root, found by the walker, say anything about the engine's commit."""
    assert root(tree) == engine_root(tree)


@pytest.mark.parametrize("change", ["byte", "mode", "mtime", "target", "name", "gone", "new", "twin"])
def test_the_walker_sees_every_small_difference(tree: Path, change: str) -> None:
    """A negative control for `tree_equal`: a promoted tree that differs in one thing is not equal."""
    before = root(tree)
    small = tree / "small"
    times = (small.stat().st_atime_ns, small.stat().st_mtime_ns)
    if change == "byte":
        small.write_bytes(b"cOntent")
        os.utime(small, ns=times)  # the same size and time stamps
    elif change == "mode":
        small.chmod(0o640)
    elif change == "mtime":
        os.utime(small, ns=(times[0], times[1] + 1))
    elif change == "target":
        (tree / "deep" / "link").unlink()
        (tree / "deep" / "link").symlink_to("../large")
    elif change == "name":
        small.rename(tree / "smaller")
    elif change == "gone":
        (tree / "deep" / "er" / "empty").rmdir()
    elif change == "new":
        (tree / "new").touch()
    else:
        (tree / "deep" / "another name").unlink()
        (tree / "deep" / "another name").write_bytes(b"content")
    assert root(tree) != before
