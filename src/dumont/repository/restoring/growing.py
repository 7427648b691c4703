"""A growing tree: onto an empty target, directories and small files are built aside at their places in one tree.

When they are whole and durable, what stands at its top is renamed into the target: so no file in it needs a rename of
its own, and none stands half-written under its final name.
"""

import errno
import os
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dumont.errors import BadInput, Corrupt
from dumont.snapshot.place import DIRECTORY, Place

_TREE = b"tree"
_PROBE = b"probe"
_TAKEN = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)


@dataclass(frozen=True)
class Growth:
    """What a growing tree takes besides files, each of which may wait: `begin` makes its directories, `move_in` is due
    when its files are durable, `finish` when they are in place, while large files are made.
    """

    begin: Callable[[], None]
    move_in: Callable[[], None]
    finish: Callable[[], None]


def begin_tree(aside: int) -> Place:
    """Make the tree in the open directory `aside`, which is nobody else's, and open it."""
    os.mkdir(_TREE, 0o700, dir_fd=aside)
    return open_tree(aside)


def open_tree(aside: int) -> Place:
    """Open the tree that was begun in `aside`."""
    fd = os.open(_TREE, DIRECTORY, dir_fd=aside)
    try:
        return Place(Path(f"/proc/self/fd/{fd}"))
    finally:
        os.close(fd)


def umask_in(tree: Place) -> int:
    """The umask, by making a directory: there is no call that tells without risk."""
    os.mkdir(_PROBE, 0o777, dir_fd=tree.top)
    mode = os.stat(_PROBE, dir_fd=tree.top, follow_symlinks=False).st_mode
    os.rmdir(_PROBE, dir_fd=tree.top)
    return 0o777 & ~mode


def move_in(tree: Place, target: Place, wanted: Container[bytes]) -> None:
    """Rename what stands at the top of `tree`, as far as it is `wanted`, into `target`.

    Raises Corrupt when something else took such a name meanwhile, BadInput when the target is in several file systems.
    """
    for name in sorted(os.fsencode(name) for name in os.listdir(tree.top)):
        if name in wanted:
            with placing(name):
                os.rename(name, name, src_dir_fd=tree.top, dst_dir_fd=target.top)
    tree.forget()


@contextmanager
def placing(path: bytes) -> Iterator[None]:
    """Say of an error, while what is built gets its name `path`, what it means. Raises Corrupt, BadInput."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise BadInput(
                f"{os.fsdecode(path)!r} lies on another file system than the target: unmount it, or leave it out"
            ) from error
        if error.errno in _TAKEN:
            raise Corrupt(
                f"{os.fsdecode(path)!r} can't be put in place ({error.strerror}): somebody else works in the target"
            ) from error
        raise
