"""Real trees for tests: one that holds everything, and operations that change a tree at random, for Hypothesis."""

import contextlib
import os
import random
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from hypothesis import strategies as st

_NAMES = [b"a", b"b", b"c", b"d", b"\xff\xfe", b"e e"]
_SIZES = [0, 1, 5, 4096, 5000, 65536, 65537, 200_000, 1_200_000]
Operation = tuple[str, int, int, int]

VERBS = [
    *("write", "append", "patch", "truncate", "rename", "remove", "directory", "symlink", "link", "mode", "time"),
    *("attribute", "hole", "fifo", "copy", "swap", "whole_hole"),
]
operations = st.lists(
    st.tuples(st.sampled_from(VERBS), st.integers(0, 47), st.integers(0, 47), st.integers(0, 1000)), max_size=25
)


def path_of(number: int) -> bytes:
    """One of 48 paths, up to three deep."""
    first, rest = number % 6, number // 6
    if rest == 0:
        return _NAMES[first]
    if rest < 4:
        return b"/".join([_NAMES[rest % 3], _NAMES[first]])
    return b"/".join([_NAMES[rest % 3], _NAMES[(rest + 1) % 3], _NAMES[first]])


def change(root: Path, todo: list[Operation]) -> None:
    """Do each operation as far as it makes sense."""
    for verb, first, second, number in todo:
        a = os.path.join(os.fsencode(root), path_of(first))
        b = os.path.join(os.fsencode(root), path_of(second))
        with contextlib.suppress(OSError):
            _OPERATIONS[verb](a, b, number)


def _content(number: int, size: int) -> bytes:
    return random.Random(number % 7).randbytes(size)


def _room_for_a_file(a: bytes) -> None:
    """Opening a fifo would wait for ever, and a symlink leads who knows where."""
    os.makedirs(os.path.dirname(a), exist_ok=True)
    if os.path.lexists(a):
        _regular(a)


def _write(a: bytes, _: bytes, number: int) -> None:
    _room_for_a_file(a)
    with open(a, "wb") as file:
        file.write(_content(number, _SIZES[number % len(_SIZES)]))


def _regular(a: bytes) -> None:
    if os.path.islink(a) or not os.path.isfile(a):
        raise FileNotFoundError(a)


def _append(a: bytes, _: bytes, number: int) -> None:
    _regular(a)
    with open(a, "ab") as file:
        file.write(_content(number, number * 100))


def _patch(a: bytes, _: bytes, number: int) -> None:
    _regular(a)
    size = os.path.getsize(a)
    with open(a, "r+b") as file:
        file.seek(size * (number % 10) // 10)
        file.write(_content(number, min(100, size)))


def _truncate(a: bytes, _: bytes, number: int) -> None:
    _regular(a)
    os.truncate(a, _SIZES[number % len(_SIZES)])


def _hole(a: bytes, _: bytes, number: int) -> None:
    _room_for_a_file(a)
    with open(a, "wb") as file:
        file.write(b"begin")
        file.seek(number * 4096)
        file.write(b"end")


def _whole_hole(a: bytes, _: bytes, number: int) -> None:
    _room_for_a_file(a)
    with open(a, "wb") as file:
        file.truncate(1 + number * 3000)


def _remove(a: bytes, _: bytes, number: int) -> None:
    if os.path.isdir(a) and not os.path.islink(a):
        shutil.rmtree(a)
    else:
        os.unlink(a)


def _symlink(a: bytes, b: bytes, number: int) -> None:
    """It leads nowhere: what is written to a name must not change another."""
    os.symlink(b"nowhere/" + os.path.basename(b) if number % 2 else b"../" * (number % 5) + b"nowhere", a)


def _copy(a: bytes, b: bytes, _: int) -> None:
    _regular(a)
    if os.path.islink(b):
        raise FileExistsError(b)
    shutil.copyfile(a, b)


def _swap(a: bytes, b: bytes, _: int) -> None:
    if a.startswith(b + b"/") or b.startswith(a + b"/"):
        raise OSError("one holds the other")
    os.lstat(a), os.lstat(b)
    os.rename(a, a + b".swap")
    os.rename(b, a)
    os.rename(a + b".swap", b)


def _mode(a: bytes, _: bytes, number: int) -> None:
    if os.path.islink(a):
        raise FileNotFoundError(a)
    os.chmod(a, [0o644, 0o600, 0o4755, 0o777, 0o444, 0o1777][number % 6] | (0o700 if os.path.isdir(a) else 0))


def _time(a: bytes, _: bytes, number: int) -> None:
    os.utime(a, ns=(5, (number - 500) * 1_000_000_007), follow_symlinks=False)


def _attribute(a: bytes, _: bytes, number: int) -> None:
    _regular(a)
    if number % 3:
        os.setxattr(a, b"user.k%d" % (number % 4), b"%d" % number)
    else:
        os.removexattr(a, b"user.k%d" % (number % 4))


_OPERATIONS = {
    "write": _write,
    "append": _append,
    "patch": _patch,
    "truncate": _truncate,
    "rename": lambda a, b, _: os.rename(a, b),
    "remove": _remove,
    "directory": lambda a, _, __: os.makedirs(a),
    "symlink": _symlink,
    "link": lambda a, b, _: os.link(a, b, follow_symlinks=False),
    "mode": _mode,
    "time": _time,
    "attribute": _attribute,
    "hole": _hole,
    "fifo": lambda a, _, __: os.mkfifo(a),
    "copy": _copy,
    "swap": _swap,
    "whole_hole": _whole_hole,
}


def torture(root: Path) -> None:
    """Make a tree of everything that a Linux tree can hold. As root, also with owners that are nobody here."""
    chance = random.Random(1)
    root.mkdir()
    (root / "empty directory").mkdir()
    (root / "deep" / "er" / "est").mkdir(parents=True)
    (root / "deep" / "er" / "est" / "file").write_bytes(b"down here")
    (root / "nothing").touch()
    (root / "one").write_bytes(b"1")
    (root / "block").write_bytes(chance.randbytes(65536))
    (root / "more").write_bytes(chance.randbytes(65537))
    (root / "zeros").write_bytes(bytes(300_000))
    (root / "large").write_bytes(chance.randbytes(17 * 2**20 + 3))
    _sparse(root, chance)
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\x80 not text\n")).write_bytes(b"bytes")
    (root / ("long" * 63)).write_bytes(b"a name of 252 bytes")
    (root / "dangling").symlink_to("nowhere/at all")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "into").symlink_to("deep")
    (root / "twin 1").write_bytes(b"one inode")
    os.link(root / "twin 1", root / "deep" / "twin 2")
    os.link(root / "twin 1", root / "a twin")
    os.symlink("x", root / "linked symlink")
    os.link(root / "linked symlink", root / "linked symlink too", follow_symlinks=False)
    os.mkfifo(root / "fifo", 0o640)
    os.setxattr(root / "one", "user.comment", b"binary \0 value")
    os.setxattr(root / "deep", "user.of a directory", b"")
    (root / "setuid").write_bytes(b"#!")
    (root / "read only").mkdir()
    (root / "read only" / "file").write_bytes(b"x")
    (root / "read only" / "file").chmod(0o444)
    for name, mode in (("setuid", 0o6755), ("deep", 0o1777), ("one", 0o000), ("read only", 0o555)):
        (root / name).chmod(mode)
    if os.geteuid() == 0:
        os.chown(root / "block", 12345, 54321)
        os.chown(root / "dangling", 12345, 54321, follow_symlinks=False)
    os.utime(root / "nothing", ns=(1, -86_400 * 365 * 10**9 - 1))
    os.utime(root / "dangling", ns=(1, 1_234_567_890_123_456_789), follow_symlinks=False)
    os.utime(root / "deep" / "er", ns=(1, 1))
    os.utime(root, ns=(1, 99))


def _sparse(root: Path, chance: random.Random) -> None:
    """Holes at the begin, in the middle and at the end; and a file that is longer than 32 bits can say."""
    with (root / "holes").open("wb") as file:
        file.seek(300_000)
        file.write(chance.randbytes(5000))
        file.seek(2_000_000)
        file.write(b"after")
        file.truncate(3_000_000)
    with (root / "a hole").open("wb") as file:
        file.truncate(1_000_001)
    with (root / "beyond 4 GiB").open("wb") as file:
        file.write(b"begin")
        file.seek(2**32 + 12345)
        file.write(b"end")


def add_a_socket(path: Path) -> None:
    """What no commit can hold."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """As an ordinary user, whoever runs the tests."""
    was = os.geteuid()
    if was == 0:
        os.setegid(65534)
        os.seteuid(65534)
    try:
        yield
    finally:
        if was == 0:
            os.seteuid(0)
            os.setegid(0)
