"""Inotify over a whole tree: what the kernel tells of changes, as hints.

A watch tells of one directory. A new directory gets its watch first and is listed afterwards, so that what appeared in
between is told at least once. Each watch knows its place through its parent's, so that a directory that moves takes
everything below along. When the kernel drops events, or has no watch left, the answer is to walk the whole workspace.
"""

import asyncio
import ctypes
import errno
import fcntl
import os
import struct
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dumont.replication.ports import Happening, Hint
from dumont.snapshot.tree import TOP, join, parent_of

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000
IN_DONT_FOLLOW = 0x2000000
IN_ISDIR = 0x40000000

_NAME_CHANGED = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO
_SELF_GONE = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT
_MASK = IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | _NAME_CHANGED | IN_DELETE_SELF | IN_MOVE_SELF
_MASK |= IN_ONLYDIR | IN_DONT_FOLLOW

RETRY_S = 30.0
"""How often an incomplete watch is tried to be made complete."""
SCAN_S = 0.5
"""How often `wait` returns by itself while the watch is incomplete."""

_EVENT = struct.Struct("iIII")
_READ_BYTES = 256 * 1024
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class Node:
    """A watched directory: its name and where it hangs. `parent` None: the top, or cut off from it."""

    __slots__ = ("children", "name", "parent", "watch")

    def __init__(self, watch: int) -> None:
        self.watch = watch
        self.name = b""
        self.parent: Node | None = None
        self.children: dict[bytes, Node] = {}

    def hang(self, parent: "Node", name: bytes) -> None:
        """Move this node, with all below it, under `parent`."""
        self.unhang()
        self.parent, self.name = parent, name
        parent.children[name] = self

    def unhang(self) -> None:
        """Cut this node, with all below it, off."""
        if self.parent is not None and self.parent.children.get(self.name) is self:
            del self.parent.children[self.name]
        self.parent = None

    def below(self) -> Iterator["Node"]:
        """This node and all below it."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children.values())


class Inotify:
    """Hints for the tree at `directory`. `incomplete` says why not everything is told; "" when it is.

    While it is incomplete every `drain` answers with an overflow, so that the caller walks the whole workspace.
    Raises OSError when `directory` can't be watched for a reason other than a limit of the kernel.
    """

    def __init__(self, directory: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._directory = os.fsencode(directory)
        self._now = now
        self.incomplete = ""
        self._retry_at = 0.0
        self._nodes: dict[int, Node] = {}
        self._moving: dict[int, Node] = {}
        self._moved_before: set[int] = set()
        self._touched: dict[bytes, None] = {}
        self._subtrees: dict[bytes, None] = {}
        self._overflowed = False
        self._ring = False
        self._top: Node | None = None
        self._file = self._open()
        if self._file < 0:
            number = -self._file
            if number not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise OSError(number, os.strerror(number))
            self.incomplete = f"no inotify instance is left ({os.strerror(number)}; fs.inotify.max_user_instances)"
            return
        os.stat(self._directory)
        self._watch_all()

    def drain(self) -> list[Hint]:
        """Everything that the kernel has queued until now, without waiting; each hint once."""
        if self._file >= 0:
            self._read_queue()
            self._forget_strays()
            if self._ring or (self.incomplete and self._now() >= self._retry_at):
                self._overflowed = True
                self._watch_all()
        hints = [Hint(path) for path in self._touched]
        if self._overflowed or self.incomplete:
            hints.append(Hint(TOP, Happening.OVERFLOW))
        else:
            hints += [Hint(path, Happening.SUBTREE) for path in self._subtrees if not self._is_covered(path)]
        self._touched, self._subtrees, self._overflowed = {}, {}, False
        return hints

    async def wait(self) -> None:
        """Return when something can be drained; with an incomplete watch after `SCAN_S` at the latest."""
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        if self._file >= 0:
            loop.add_reader(self._file, _settle, readable)
        if self.incomplete:
            loop.call_later(SCAN_S, _settle, readable)
        try:
            await readable
        finally:
            if self._file >= 0:
                loop.remove_reader(self._file)

    def watches(self) -> int:
        """How many directories are watched."""
        return len(self._nodes)

    def close(self) -> None:
        """Give the watches back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # --- events

    def _read_queue(self) -> None:
        """Read what is queued now. What comes while we read belongs to a later drain: a busy tree must not keep us."""
        left = struct.unpack("i", fcntl.ioctl(self._file, termios.FIONREAD, bytes(4)))[0]
        while left > 0:
            try:
                data = os.read(self._file, _READ_BYTES)
            except BlockingIOError:
                return
            left -= len(data)
            at = 0
            while at < len(data):
                watch, mask, cookie, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                self._take(watch, mask, cookie, data[at : at + length].rstrip(b"\0"))
                at += length

    def _take(self, watch: int, mask: int, cookie: int, name: bytes) -> None:
        if mask & IN_Q_OVERFLOW:
            self._overflowed = True
            self._watch_all()
            return
        node = self._nodes.get(watch)
        if node is None:
            return
        if mask & IN_IGNORED:
            self._forget(node)
        elif not name:
            self._take_own(node, mask)
        elif mask & IN_ISDIR:
            self._take_directory(node, mask, cookie, name)
        elif (at := self._path(node)) is not None:
            self._touched[join(at, name)] = None
            if mask & _NAME_CHANGED:
                self._touched[at] = None

    def _take_own(self, node: Node, mask: int) -> None:
        """What happened to a watched directory itself; its parent's watch tells the same, save for the top."""
        at = self._path(node)
        if at is None:
            return
        if at == TOP and mask & _SELF_GONE:
            self._overflowed = True
        self._touched[at] = None

    def _take_directory(self, node: Node, mask: int, cookie: int, name: bytes) -> None:
        at = self._path(node)
        child = node.children.get(name)
        if mask & IN_MOVED_FROM and child:
            child.unhang()
            self._moving[cookie] = child
        elif mask & IN_DELETE and child:
            self._drop(child)
        elif mask & IN_MOVED_TO and (moved := self._moving.pop(cookie, None)):
            if child:
                self._drop(child)
            if moved.parent is None and not self._is_above(moved, node):
                moved.hang(node, name)
        if at is None:
            return
        path = join(at, name)
        self._touched[path] = None
        if mask & _NAME_CHANGED:
            self._touched[at] = None
        if mask & (IN_CREATE | IN_MOVED_TO) or (mask & IN_ATTRIB and name not in node.children):
            self._subtrees[path] = None  # with IN_ATTRIB it may have become readable just now
            self._watch_below(path, node)
        elif mask & IN_MOVED_FROM:  # names in a deleted directory were deleted one by one; these left all at once
            self._subtrees[path] = None

    def _is_covered(self, path: bytes) -> bool:
        """Whether a directory above `path` is walked anyway."""
        while path != TOP:
            path = parent_of(path)
            if path in self._subtrees:
                return True
        return False

    # --- watches

    def _path(self, node: Node) -> bytes | None:
        """Where `node` is; None when it is cut off from the top."""
        names = []
        at = node
        while at.parent is not None:
            names.append(at.name)
            at = at.parent
        return b"/".join(reversed(names)) if at is self._top else None

    def _watch_all(self) -> None:
        """Watch every directory of the tree, whatever was watched before, and forget watches that hang nowhere."""
        self.incomplete = ""
        self._ring = False
        self._retry_at = self._now() + RETRY_S
        self._moving.clear()
        seen = self._watch_below(TOP, None)
        for node in list(self._nodes.values()):
            if node not in seen and not self.incomplete:
                self._drop(node)

    def _watch_below(self, path: bytes, parent: Node | None) -> set[Node]:
        """Watch the directory at `path` and all below: first the watch, then the list, so that nothing is missed."""
        seen: set[Node] = set()
        waiting = [(path, parent)]
        while waiting and not self.incomplete:
            path, parent = waiting.pop()
            node = self._watch(path, parent)
            if node is None or node in seen:
                continue
            seen.add(node)
            waiting += [(join(path, name), node) for name in self._directories(path)]
        return seen

    def _watch(self, path: bytes, parent: Node | None) -> Node | None:
        """The node of the directory that is at `path` now; None when there is none, or no watch can be had."""
        watch = self._add(path)
        if watch < 0:
            self._unwatched(path, -watch)
            return None
        node = self._nodes.get(watch)
        if node is None:
            node = self._nodes[watch] = Node(watch)
        if parent is None:
            node.unhang()
            self._top = node
        elif node is not self._top and not self._is_above(node, parent):
            other = parent.children.get(path.rpartition(b"/")[2])
            if other is not None and other is not node:
                other.unhang()
            node.hang(parent, path.rpartition(b"/")[2])
        return node

    def _open(self) -> int:
        """A descriptor; the number of an error, below zero, when there is none."""
        file: int = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        return file if file >= 0 else -ctypes.get_errno()

    def _add(self, path: bytes) -> int:
        """The number of the watch; that of an error, below zero, when there is none."""
        watch: int = _LIBC.inotify_add_watch(self._file, self._absolute(path), _MASK)
        return watch if watch >= 0 else -ctypes.get_errno()

    def _is_above(self, node: Node, other: Node) -> bool:
        """Whether `other` hangs below `node`: directories that move while we look may seem to form a ring.

        Then this drain ends by watching all anew.
        """
        at: Node | None = other
        while at is not None and at is not node:
            at = at.parent
        self._ring |= at is node
        return at is node

    def _unwatched(self, path: bytes, number: int) -> None:
        if number in (errno.ENOSPC, errno.ENOMEM, errno.ENAMETOOLONG) or (number in _GONE and path == TOP):
            why = "no inotify watch is left (fs.inotify.max_user_watches)" if number == errno.ENOSPC else ""
            self.incomplete = f"{os.fsdecode(path) or 'the workspace'} is not watched: {why or os.strerror(number)}"
        elif number in _GONE:
            return  # it moved or ended since the kernel told of it, which it will tell too
        elif number != errno.EACCES:  # what we may not read can't be in a commit either, which says so
            raise OSError(number, os.strerror(number), os.fsdecode(self._absolute(path)))

    def _directories(self, path: bytes) -> list[bytes]:
        try:
            with os.scandir(self._absolute(path)) as entries:
                return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            if error.errno in _GONE or error.errno in (errno.EACCES, errno.ENAMETOOLONG):
                return []
            raise

    def _absolute(self, path: bytes) -> bytes:
        return self._directory + b"/" + path if path else self._directory

    def _drop(self, node: Node) -> None:
        """Forget a directory that left the tree, with all below."""
        node.unhang()
        for gone in list(node.below()):
            _LIBC.inotify_rm_watch(self._file, gone.watch)
            self._nodes.pop(gone.watch, None)

    def _forget(self, node: Node) -> None:
        """The kernel has taken this watch back."""
        node.unhang()
        del self._nodes[node.watch]

    def _forget_strays(self) -> None:
        """A directory that moved away and arrived nowhere, by the second drain, left the tree."""
        for cookie in self._moved_before & self._moving.keys():
            if (stray := self._moving.pop(cookie)).parent is None:
                self._drop(stray)
        self._moved_before = set(self._moving)


def _settle(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)
