"""Aside: a directory beside a target where files are built until they are whole, and nobody else looks.

Whoever uses one holds a lock on it, which the kernel lets go of when the process ends, however that happens: what has
no lock was left by a run that was killed, and is removed.
"""

import fcntl
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from dumont.errors import BadInput, Refused
from dumont.snapshot.place import DIRECTORY, Place
from dumont.snapshot.tree import name_of, parent_of

_NAME_BYTES_MAX = 200
_TRIES = 100


class Aside:
    """A new directory under `parent` for the target of that name; removed by `remove`. Raises BadInput."""

    def __init__(self, parent: Path, target: str, new_name: Callable[[], str]) -> None:
        for _ in range(_TRIES):
            self.path = parent / f"{_prefix(target)}{new_name()}"
            try:
                os.mkdir(self.path, 0o700)
            except OSError as error:
                raise BadInput(f"{parent} can't be written, and files are built there: {error.strerror}") from error
            self.fd = os.open(self.path, DIRECTORY)
            if _lock(self.fd, fcntl.LOCK_SH) and _is_still(self.path, self.fd):
                os.fchmod(self.fd, 0o700)  # without what a set-group-id directory above hands down
                return
            os.close(self.fd)  # somebody cleaned up between the two calls
        raise Refused(f"{parent} could not be used to build files: others remove them there")

    def hold(self, place: Place, path: bytes, number: int) -> bool:
        """Give the file at `path` of `place` another name in here, so that it outlasts that one. False: it can't be.

        That is so for what lies on another file system, and for some of what belongs to others.
        """
        try:
            above = place.directory(parent_of(path))
            os.link(name_of(path), held_name(number), src_dir_fd=above, dst_dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def remove(self) -> None:
        """Remove it with whatever is left in it."""
        if self.fd >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self.fd)
            self.fd = -1


def held_name(number: int) -> bytes:
    """How what is held under that number is called."""
    return b"held-%d" % number


def join_aside(path: bytes) -> int:
    """Open the aside directory of another process of ours, and hold it too."""
    fd = os.open(path, DIRECTORY)
    _lock(fd, fcntl.LOCK_SH)
    return fd


def sweep_asides(parent: Path, target: str) -> None:
    """Remove what killed runs for the target of that name left under `parent`; not what a living one uses."""
    name = re.compile(re.escape(_prefix(target)) + "[0-9a-f]{32}")
    with os.scandir(parent) as names:
        found = [entry.path for entry in names if name.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
    for path in found:
        try:
            fd = os.open(path, DIRECTORY)
        except OSError:
            continue  # another run removed it, or it is not ours
        try:
            if os.fstat(fd).st_uid == os.geteuid() and _lock(fd, fcntl.LOCK_EX):
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(fd)


def aside_prefix(target: str) -> bytes:
    """How the names of aside directories for the target of that name begin."""
    return os.fsencode(_prefix(target))


def aside_parent(target: Path, top: int) -> Path:
    """Where files for the open directory `top` at `target` can be built: beside it, or in it where it is a mount.

    In it too where the directory above is not ours to write.
    """
    above = os.stat(target.parent)
    same = above.st_dev == os.fstat(top).st_dev and stat.S_ISDIR(above.st_mode) and target.parent != target
    return (
        target.parent if same and os.access(target.parent, os.R_OK | os.W_OK | os.X_OK, effective_ids=True) else target
    )


def _prefix(target: str) -> str:
    return "." + os.fsdecode(os.fsencode(target)[:_NAME_BYTES_MAX]) + ".restoring-"


def _lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_still(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False
