"""Dressing: giving a file, a directory or another name the attributes of its entry."""

import errno
import os
import stat
from pathlib import Path

from dumont.errors import NotPossibleHere
from dumont.model.commit import Entry, Kind
from dumont.snapshot.place import chmod_unopened

_NOT_OURS_TO_GIVE = (errno.EPERM, errno.EINVAL)
_OWNER_RW = stat.S_IRUSR | stat.S_IWUSR


def dress(directory: int, name: bytes, entry: Entry) -> None:
    """Set owner, xattrs, mode and times of `name` in the open `directory`; never of what a symlink leads to."""
    if entry.kind is Kind.SYMLINK:
        _give(name, entry, dir_fd=directory)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=directory, follow_symlinks=False)
        return
    named = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        _give(name, entry, dir_fd=directory)
        if entry.kind is Kind.FILE:
            _dress_file(named, entry)
        chmod_unopened(named, entry.mode)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=directory, follow_symlinks=False)
    finally:
        os.close(named)


def dress_directory(fd: int, entry: Entry) -> None:
    """Set owner, xattrs, mode and times of the open directory `fd`."""
    _give(fd, entry)
    _set_xattrs(fd, entry)
    os.fchmod(fd, entry.mode)
    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


def dress_new(fd: int, entry: Entry, owner: tuple[int, int], mode: int) -> None:
    """Give the new open file `fd`, which has that owner and mode and no xattrs, what it lacks of its entry."""
    if foreign := (entry.uid, entry.gid) != owner:
        _give(fd, entry)
    if entry.xattrs:
        _set_xattrs(fd, entry)
    if foreign or entry.mode != mode:
        os.fchmod(fd, entry.mode)
    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


def _dress_file(named: int, entry: Entry) -> None:
    """xattrs of a file, which only a descriptor that may write can set, and which few files have."""
    path = f"/proc/self/fd/{named}"
    mode = stat.S_IMODE(os.fstat(named).st_mode)
    if os.geteuid() != 0 and mode & _OWNER_RW != _OWNER_RW:
        chmod_unopened(named, mode | _OWNER_RW)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _set_xattrs(fd, entry)
    finally:
        os.close(fd)


def _set_xattrs(fd: int, entry: Entry) -> None:
    wanted = dict(entry.xattrs)
    try:
        present = {os.fsencode(name): os.getxattr(fd, name) for name in os.listxattr(fd) if name.startswith("user.")}
        for name in present.keys() - wanted.keys():
            os.removexattr(fd, name)
        for name, value in wanted.items():
            if present.get(name) != value:
                os.setxattr(fd, name, value)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
        if wanted:
            raise NotPossibleHere("this file system holds no extended attributes: use ext4, xfs or btrfs") from error


def _give(name: bytes | int, entry: Entry, dir_fd: int | None = None) -> None:
    """Set the owner where we may."""
    try:
        if isinstance(name, int):
            os.fchown(name, entry.uid, entry.gid)
        else:
            os.chown(name, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NOT_OURS_TO_GIVE:
            raise


def gives_owners() -> bool:
    """Whether this process can give files to any owner: root, outside of a user namespace."""
    if os.geteuid() != 0:
        return False
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(first == "0" and int(count) >= 2**32 - 2 for first, _, count in ranges)
