"""An instance's storage in memory: files that a workload changes, a journal a power cut can tear, failing fsyncs."""

import asyncio
import random
from dataclasses import dataclass, field, replace

import blake3

from dumont.errors import BadInput, Corrupt, DiskFull, NotDurable
from dumont.model.commit import Change, Commit, Entry, Kind
from dumont.replication.ports import BlobSink, Grabbed, Happening, Hint, Kept, Promise, Reading
from dumont.snapshot.tree import TOP, Tree, parent_of
from dumont.wire.stream import Blob, CommitMessage

_DIRECTORY = Entry(Kind.DIRECTORY, 0o755, 0, 0, 0)


@dataclass
class Files:
    """A live tree: path → content. Directories come and go with what is in them."""

    content: dict[bytes, bytes] = field(default_factory=dict)
    chunks: dict[bytes, bytes] = field(default_factory=dict)

    def entry(self, path: bytes) -> Entry | None:
        if path in self.content:
            data = self.content[path]
            chunk = blake3.blake3(data).digest()
            self.chunks[chunk] = data
            return Entry(Kind.FILE, 0o644, 0, 0, len(data), size=len(data), chunks=(chunk,) if data else ())
        is_directory = path == TOP or any(other.startswith(path + b"/") for other in self.content)
        return _DIRECTORY if is_directory else None

    def paths(self) -> set[bytes]:
        found = {TOP}
        for path in self.content:
            while path != TOP:
                found.add(path)
                path = parent_of(path)
        return found

    def tree(self) -> Tree:
        return Tree({path: entry for path in sorted(self.paths()) if (entry := self.entry(path))})


@dataclass(frozen=True)
class _Durable:
    """What survives a power cut."""

    promise: Promise = Promise()
    journal: tuple[CommitMessage, ...] = ()
    blobs: dict[bytes, bytes] = field(default_factory=dict)
    content: dict[bytes, bytes] = field(default_factory=dict)
    head: Commit | None = None


class SimDisk:
    """Port `Disk`. `durable` survives `power_cut`; `full`, `failing` and `slow_s`, the longest fsync, are faults."""

    checks_itself = True

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.files = Files()
        self.durable = _Durable()
        self.full = False
        self.failing = False
        self.slow_s = 0.0
        self._broken = False
        self._rebooted = False
        self._blobs: dict[bytes, bytes] = {}
        self._volatile: list[CommitMessage] = []
        self._tree = Tree()
        self.pending_bytes = 0

    def power_cut(self) -> None:
        """Everything that was not fsynced is lost."""
        self.files.content = dict(self.durable.content)
        self._volatile, self._blobs, self._broken = [], {}, False
        self._rebooted = True

    async def load(self) -> Kept:
        await self._pause()
        kept = self.durable
        for message in kept.journal:
            self._write(message.changes, kept.blobs)
        self._volatile, self._blobs = [], {}
        head = kept.journal[-1].commit if kept.journal else kept.head
        self._tree = self.files.tree() if self.files.content or head else Tree()
        if head is not None and self._tree.root() != head.root:
            head = None
        if head is not None:
            self.durable = replace(kept, journal=(), content=dict(self.files.content), head=head)
        return Kept(kept.promise, head, self._tree.copy(), self._rebooted)

    async def promise(self, promise: Promise) -> None:
        await self._fsync()
        self.durable = replace(self.durable, promise=promise)
        self._rebooted = False

    async def blob(self, blob: Blob) -> None:
        await self._pause()
        self._room()
        assert blake3.blake3(blob.data).digest() == blob.id
        self._blobs[blob.id] = blob.data

    async def record(self, message: CommitMessage) -> None:
        await self._pause()
        self._room()
        if message.parent_root != self._tree.root():
            raise Corrupt("parent root differs")
        for change in message.changes:
            for chunk in change.entry.chunks if change.entry else ():
                if chunk not in self._blobs and not self._tree.has_chunk(chunk):
                    raise Corrupt(f"a chunk of {change.path!r} was never sent")
        target = self._tree.copy()
        target.apply(message.changes)
        if target.root() != message.commit.root:
            raise Corrupt("root differs")
        self._tree = target
        self._volatile.append(message)

    async def sync(self) -> None:
        await self._fsync()
        kept = self.durable
        journal = kept.journal + tuple(self._volatile)
        self.durable = replace(kept, journal=journal, blobs={**kept.blobs, **self._blobs})
        self._volatile = []

    async def drop_partial(self) -> None:
        await self._pause()

    async def apply(self, message: CommitMessage) -> None:
        blobs = {**self.durable.blobs, **self._blobs}
        for change in message.changes:
            self._write((change,), blobs)
            await self._pause()
        assert not self.checks_itself or self.files.tree().root() == message.commit.root, (
            "applied tree is not the commit"
        )
        journal = tuple(other for other in self.durable.journal if other.commit.id > message.commit.id)
        if len(journal) < len(self.durable.journal):  # it was fsynced, as it has to be
            self.durable = replace(self.durable, journal=journal, content=dict(self.files.content), head=message.commit)

    async def set_head(self, commit: Commit | None, tree: Tree) -> None:
        await self._fsync()
        content = self.durable.content if commit is None else dict(self.files.content)
        self.durable = replace(self.durable, head=commit, journal=(), content=content)
        self._tree = tree.copy()

    def _write(self, changes: tuple[Change, ...], blobs: dict[bytes, bytes]) -> None:
        for path, entry in ((change.path, change.entry) for change in changes):
            if entry is None or entry.kind is not Kind.FILE:
                self.files.content.pop(path, None)
            else:
                data = [blobs[chunk] if chunk in blobs else self.files.chunks[chunk] for chunk in entry.chunks]
                self.files.content[path] = b"".join(data)
            self.files.entry(path)

    def _room(self) -> None:
        if self.full:
            raise DiskFull("no space left on the standby: free some or rent a larger one")
        if self._broken:
            raise NotDurable("an earlier fsync failed")

    async def _fsync(self) -> None:
        await self._pause()
        if self.slow_s:
            await asyncio.sleep(self._rng.uniform(0, self.slow_s))
        if self.failing or self._broken:
            self._broken = True
            raise NotDurable("fsync: input/output error")

    async def _pause(self) -> None:
        await asyncio.sleep(self._rng.uniform(0, 0.002))


class SimSource:
    """Port `Source` over live files. Losing hints without an overflow (`deaf`) is a negative control."""

    def __init__(self, files: Files, rng: random.Random) -> None:
        self._files = files
        self._rng = rng
        self._hints: list[Hint] = []
        self.frozen = False
        self.stubborn = 0.0
        self.deaf = False
        self.digest_s = 0.0
        self.mapped_paths: set[bytes] = set()
        self.names_maps = True

    def touched(self, path: bytes) -> None:
        """The kernel queues a hint, or an overflow when nobody reads."""
        if self.deaf:
            return
        if len(self._hints) > 40:
            self._hints = [Hint(TOP, Happening.OVERFLOW)]
        elif self._rng.random() < 0.02:
            self._hints.append(Hint(parent_of(path), Happening.SUBTREE))
        self._hints.append(Hint(path))

    def hints(self) -> list[Hint]:
        hints, self._hints = self._hints, []
        return hints

    def mapped(self) -> set[bytes]:
        return set(self.mapped_paths) if self.names_maps else set()

    async def walk(self, below: bytes, known: Tree) -> set[bytes]:
        await self._pause()
        prefix = below + b"/" if below else b""
        paths = {path for path in self._files.paths() if path == below or path.startswith(prefix)}
        found = {path for path in sorted(paths) if self._files.entry(path) != known.get(path)}
        return found | {path for path in known.below(below) if path not in paths}

    async def size(self, paths: "list[bytes] | set[bytes]") -> int:
        return sum(len(self._files.content.get(path, b"")) for path in paths)

    async def copy(self, path: bytes, sink: BlobSink) -> Reading:
        entry = self._files.entry(path)
        await self._pause()
        for chunk in entry.chunks if entry else ():
            await sink(chunk, self._files.chunks[chunk])
        return Reading(path, entry, moved=self._files.entry(path) != entry)

    async def grab(self, paths: "list[bytes] | set[bytes]", bytes_max: int) -> list[Grabbed]:
        if await self.size(paths) > bytes_max:
            raise BadInput("too much for one freeze")
        grabbed = []
        for path in paths:
            await self._pause()  # if the workload is not frozen it writes in between: the cut must notice
            entry = self._files.entry(path)
            grabbed.append(
                Grabbed(path, entry, tuple(self._files.chunks[chunk] for chunk in entry.chunks) if entry else ())
            )
        return grabbed

    async def digest(self, grabbed: list[Grabbed], sink: BlobSink) -> list[Reading]:
        if self.digest_s:
            await asyncio.sleep(self.digest_s)
        for one in grabbed:
            await self._pause()
            for block in one.blocks:
                await sink(blake3.blake3(block).digest(), block)
        return [Reading(one.path, one.entry) for one in grabbed]

    async def freeze(self, timeout_s: float) -> bool:
        await self._pause()
        if self._rng.random() < self.stubborn:
            await asyncio.sleep(timeout_s)
            return False
        self.frozen = True
        return True

    async def thaw(self) -> None:
        self.frozen = False

    def close(self) -> None:
        self.frozen = False

    async def _pause(self) -> None:
        await asyncio.sleep(self._rng.uniform(0, 0.001))
