"""A place: the top directory of a tree on this machine, below which no symlink is ever followed.

Every path is opened part by part with O_NOFOLLOW, so that nothing a tree holds, and nothing a program swaps in
meanwhile, leads out of it. A place keeps directories open while it is used: use one in one thread, and not for long.
"""

import errno
import os
import stat
from collections import OrderedDict
from pathlib import Path
from types import TracebackType

from dumont.snapshot.tree import TOP, checked, join, name_of, parent_of

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORIES_MAX = 64
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Place:
    """An open top directory. Operations raise OSError like the system calls they make; missing parts: ENOENT."""

    def __init__(self, directory: Path) -> None:
        self._directories: OrderedDict[bytes, int] = OrderedDict()
        self.top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> "Place":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every directory that is kept open."""
        self.forget()
        os.close(self.top)

    def forget(self) -> None:
        """Let go of kept directories: their names may have moved."""
        while self._directories:
            os.close(self._directories.popitem()[1])

    def directory(self, path: bytes) -> int:
        """The open directory at `path`; ours, so don't close it, and use it before asking for another."""
        if path == TOP:
            return self.top
        if path in self._directories:
            self._directories.move_to_end(path)
            return self._directories[path]
        fd, at, rest = self.top, TOP, checked(path)
        above = parent_of(path)
        while above != TOP:
            if above in self._directories:
                self._directories.move_to_end(above)
                fd, at, rest = self._directories[above], above, path[len(above) + 1 :]
                break
            above = parent_of(above)
        for name in rest.split(b"/"):
            at = join(at, name)
            fd = self._keep(at, os.open(name, DIRECTORY, dir_fd=fd))
        return fd

    def _keep(self, path: bytes, fd: int) -> int:
        """Keep `fd` open, and close what was not used for longest, which is another."""
        self._directories[path] = fd
        if len(self._directories) > _OPEN_DIRECTORIES_MAX:
            os.close(self._directories.popitem(last=False)[1])
        return fd

    def look(self, path: bytes) -> os.stat_result | None:
        """The attributes of `path` itself; None when there is no such name."""
        try:
            if path == TOP:
                return os.fstat(self.top)
            return os.stat(name_of(checked(path)), dir_fd=self.directory(parent_of(path)), follow_symlinks=False)
        except OSError as error:
            if is_absent(error):
                return None
            raise

    def open(self, path: bytes, flags: int) -> int:
        """A new descriptor for `path` itself, for the caller to close. Never waits for a fifo, never follows."""
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        if path == TOP:
            return os.open(b".", flags, dir_fd=self.top)
        return os.open(name_of(checked(path)), flags, dir_fd=self.directory(parent_of(path)))

    def force(self, path: bytes, flags: int) -> int:
        """`open`, also where its owner took his own rights away."""
        try:
            return self.open(path, flags)
        except PermissionError:
            named = self.open(path, os.O_PATH)
            mode = stat.S_IMODE(os.fstat(named).st_mode)
            try:
                chmod_unopened(named, mode | stat.S_IRUSR | stat.S_IWUSR)
                return self.open(path, flags)
            finally:
                chmod_unopened(named, mode)
                os.close(named)

    def unlock(self, path: bytes) -> list[bytes]:
        """Give ourselves all rights in the directory at `path` and those above it; the ones that lacked some."""
        unlocked = []
        fd = os.dup(self.top)
        try:
            at = TOP
            for name in [b"", *path.split(b"/")] if path else [b""]:
                if name:
                    at = join(at, name)
                    below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                    os.close(fd)
                    fd = below
                mode = stat.S_IMODE(os.fstat(fd).st_mode)
                if mode & stat.S_IRWXU != stat.S_IRWXU:
                    chmod_unopened(fd, mode | stat.S_IRWXU)
                    unlocked.append(at)
        finally:
            os.close(fd)
        return unlocked

    def link_text(self, path: bytes) -> bytes:
        """What the symlink at `path` says."""
        return os.readlink(name_of(checked(path)), dir_fd=self.directory(parent_of(path)))


def is_absent(error: OSError) -> bool:
    """Whether `error` means that there is no such name inside the place (something else may stand in its way)."""
    return error.errno in _ABSENT


def chmod_unopened(fd: int, mode: int) -> None:
    """Set the mode of what an O_PATH descriptor names, even when we may not open it."""
    os.chmod(f"/proc/self/fd/{fd}", mode)
