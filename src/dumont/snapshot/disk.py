"""A workspace's disk: its promise, the journal of commits, and the materialised tree, on a real machine.

`data_dir` holds `promise`, `checkpoint` (a durable tree), `journal/` (commits since), `aside/` (what applying builds),
`led` (present once a primary may have changed the tree) and `failed` (an fsync failed: nothing here is trusted again).
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dumont.errors import BadInput, Corrupt, DiskFull, NotDurable
from dumont.model.commit import Change, Commit
from dumont.snapshot.apply import Application, Workshop, go_on
from dumont.snapshot.check import admit
from dumont.snapshot.checkpoint import VERSION, Checkpoint, note_signatures, read_checkpoint, write_checkpoint
from dumont.snapshot.chunk import NO_KEY, chunk_id
from dumont.snapshot.durable import flush_directory, flush_file_system, read_checked, replace_file, writing
from dumont.snapshot.index import Index, Known, signature_of
from dumont.snapshot.journal import SEGMENT_BYTES, Journal, Logged
from dumont.snapshot.kept import Kept, Pledge, Promise
from dumont.snapshot.links import Groups
from dumont.snapshot.mend import Mender, fresh, sweep
from dumont.snapshot.place import Place
from dumont.snapshot.tree import Tree
from dumont.wire.stream import Blob, CommitMessage

RESERVE_BYTES = 16 * 2**20
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_HASHED_INLINE_BYTES = 256 * 2**10


@dataclass(frozen=True)
class Limits:
    """A segment of the journal is as long as `segment_bytes` at most.

    Commits are refused with DiskFull while less than `reserve_bytes` would be left after applying what is pending.
    """

    segment_bytes: int = SEGMENT_BYTES
    reserve_bytes: int = RESERVE_BYTES


class WorkspaceDisk:
    """The driver of the port `Disk` over two directories of one file system.

    `index` knows what is on disk; hand it to the `LiveTree` of the same directory. `key` is the workspace's: chunks are
    named and verified under it. `step` is called before each step of applying.
    """

    def __init__(
        self,
        workspace_dir: Path,
        data_dir: Path,
        limits: Limits = Limits(),
        step: Callable[[str], None] = go_on,
        key: bytes = NO_KEY,
    ) -> None:
        self.index = Index()
        self.boot_id = _BOOT_ID.read_text().strip()
        self.pending_bytes = 0
        self._workspace = workspace_dir
        self._data = data_dir
        self._reserve_bytes = limits.reserve_bytes
        self._key = key
        self._step = step
        self._journal = Journal(data_dir / "journal", limits.segment_bytes)
        self._writing = asyncio.Lock()  # of the journal
        self._applying = asyncio.Lock()  # to the tree
        self._checkpointing: asyncio.Task[None] | None = None
        self._failed = ""
        self._led = True  # until loaded
        self._based = False  # whether the checkpoint is the tree that the journal goes on from
        self._torn = False  # whether an application stopped half way
        self._journaled = Tree()
        self._applied = Tree()
        self._applied_commit: Commit | None = None
        self._groups = Groups()
        self._queue: deque[Logged] = deque()
        self._fresh: set[bytes] = set()
        self._first_segment = 1

    async def load(self) -> Kept:
        """Recover: finish whole journaled commits, drop torn ones. See the port.

        `head` is given only when the tree on disk was seen to be exactly that commit.
        """
        await self._finish_checkpoint()
        async with self._applying, self._writing:
            with self._counted(), self._promised():
                return await asyncio.to_thread(self._load)

    async def promise(self, promise: Promise) -> None:
        """Never forget `promise`."""
        async with self._writing:
            with self._promised():
                await asyncio.to_thread(self._journal.sync)
                pledge = msgspec.msgpack.encode(Pledge(promise, self.boot_id))
                await asyncio.to_thread(replace_file, self._data / "promise", pledge)

    async def blob(self, blob: Blob) -> None:
        """Append a chunk to the journal. Raises Corrupt when it is not what its id says."""
        inline = len(blob.data) <= _HASHED_INLINE_BYTES
        async with self._writing:
            with self._counted(), self._promised():
                await self._prepare()
                if inline and not self._journal.is_to_flush(len(blob.data)):
                    self._blob(blob)
                else:
                    await asyncio.to_thread(self._blob, blob)

    async def record(self, message: CommitMessage) -> None:
        """Append a commit to the journal. Raises Corrupt when it does not make the tree that it claims."""
        async with self._writing:
            with self._counted(), self._promised():
                await self._prepare()
                await asyncio.to_thread(self._record, message)

    async def sync(self) -> None:
        """Return when everything appended is durable: one fdatasync."""
        async with self._writing:
            with self._promised():
                await asyncio.to_thread(self._journal.sync)

    async def drop_partial(self) -> None:
        """Forget blobs that no record followed."""
        async with self._writing:
            with self._counted(), self._promised():
                self._fresh.clear()
                await asyncio.to_thread(self._journal.drop_partial)

    async def apply(self, message: CommitMessage) -> None:
        """Materialise the oldest journaled commit, which must be `message`."""
        async with self._applying:
            with self._counted(), self._promised():
                if not self._queue or self._queue[0].message.commit.id != message.commit.id:
                    raise BadInput(f"commit {message.commit.id} is not the next one to apply")
                await asyncio.to_thread(self._apply)
                await self._begin_checkpoint()

    async def set_head(self, commit: Commit | None, tree: Tree) -> None:
        """Durably note that the tree on disk is exactly `commit` with `tree`, which costs O(tree); None: it isn't."""
        await self._finish_checkpoint()
        async with self._applying, self._writing:
            with self._counted(), self._promised():
                if commit is None:
                    self._led = True
                    await asyncio.to_thread(self._mark, "led")
                else:
                    self._adopt(tree.copy(), commit)
                    await asyncio.to_thread(self._rebase)

    async def close(self) -> None:
        """Wait for work behind the scenes, and close all files."""
        await self._finish_checkpoint()
        async with self._applying, self._writing:
            self._journal.close()

    @contextmanager
    def _promised(self) -> Iterator[None]:
        """After a failed fsync nothing is promised any more, in this process or the next."""
        if self._failed:
            raise NotDurable(self._failed)
        try:
            yield
        except NotDurable as error:
            self._fail(error)
            raise

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Whatever happens, `pending_bytes` is right afterwards."""
        try:
            yield
        finally:
            self.pending_bytes = sum(logged.size for logged in self._queue) + self._journal.partial_bytes

    async def _prepare(self) -> None:
        """Before anything is journaled, the tree that it goes on from has to be durable."""
        if self._led:
            raise BadInput("a primary may have changed this tree: load it before following anybody")
        if not self._based:
            await asyncio.to_thread(self._rebase)

    def _fail(self, error: NotDurable) -> None:
        self._failed = str(error)
        with suppress(OSError):  # the disk is failing: it may refuse this too
            (self._data / "failed").write_text(self._failed)

    def _load(self) -> Kept:
        self._workspace.mkdir(parents=True, exist_ok=True)
        self._data.mkdir(parents=True, exist_ok=True)
        if (self._data / "failed").exists():
            raise NotDurable(f"this disk failed before: {(self._data / 'failed').read_text()}. Use another instance")
        body = read_checked(self._data / "promise")
        pledge = msgspec.msgpack.decode(body, type=Pledge) if body else Pledge(Promise(), self.boot_id)
        tree, head = self._recover()
        self._adopt(tree, head)
        sweep(self._data / "aside")
        return Kept(pledge.promise, head, tree.copy(), rebooted=pledge.boot_id != self.boot_id)

    def _recover(self) -> tuple[Tree, Commit | None]:
        """The tree on disk, finished as far as the journal goes, and the commit that it is."""
        checkpoint = read_checkpoint(self._data / "checkpoint")
        self._first_segment = checkpoint.segment if checkpoint else 1
        logged = self._journal.recover(self._first_segment)
        wanted, head = (checkpoint.tree(), checkpoint.commit) if checkpoint else (Tree(), None)
        later: set[bytes] = set()
        for one in logged:
            message = one.message
            later |= {change.path for change in message.changes}
            if head is None or message.commit.id > head.id:
                wanted.apply(message.changes)
                head = message.commit
        self.index.clear()
        if checkpoint:
            note_signatures(self.index, checkpoint, later)
        self._led = (self._data / "led").exists()
        mender = self._mender()
        if head is not None and not self._led:
            if mender.mend(wanted):
                self._based = True
                return wanted, head
        else:
            mender.look(Tree())
        self._based = self._led = False
        unused = checkpoint is None and not logged and len(mender.found) <= 1
        return Tree() if unused else mender.found, None

    def _adopt(self, tree: Tree, head: Commit | None) -> None:
        """Go on from `tree`, which is on disk."""
        self._applied, self._journaled = tree.copy(), tree.copy()
        self._applied_commit = head
        self._groups = Groups(tree.entries())
        self._queue.clear()
        self._fresh.clear()
        self._torn = False

    def _rebase(self) -> None:
        """Make the tree on disk durable, as the one that the journal goes on from."""
        self._make_durable()
        self._first_segment = self._journal.restart()
        write_checkpoint(self._data / "checkpoint", self._checkpoint(self._first_segment))
        self._journal.delete_before(self._first_segment)
        (self._data / "led").unlink(missing_ok=True)
        flush_directory(self._data)
        self._based, self._led = True, False

    def _mark(self, name: str) -> None:
        path = self._data / name
        if not path.exists():
            with writing(str(path)):
                path.touch()
        flush_directory(self._data)

    def _blob(self, blob: Blob) -> None:
        if chunk_id(blob.data, self._key) != blob.id:
            raise Corrupt(f"what was sent as chunk {blob.id.hex()} does not match it")
        self._journal.blob(blob)
        self._fresh.add(blob.id)

    def _record(self, message: CommitMessage) -> None:
        undo = admit(self._journaled, message, self._fresh.__contains__)
        try:
            self._check_room()
            self._queue.append(self._journal.commit(message))
        except (DiskFull, NotDurable, OSError):
            self._journaled.apply(undo)
            raise
        self._fresh.clear()

    def _check_room(self) -> None:
        """What is acknowledged has to fit on the disk twice for a while: in the journal, and in the tree."""
        room = os.statvfs(self._data)
        free = room.f_bavail * room.f_frsize
        if free < self.pending_bytes + self._reserve_bytes:
            raise DiskFull(
                f"{free} bytes are free on the standby, {self.pending_bytes} wait to be applied, and "
                f"{self._reserve_bytes} are kept in reserve: free some, or rent a larger standby"
            )

    def _apply(self) -> None:
        changes = self._queue[0].message.changes
        touched: set[bytes] = set()
        if not self._torn:
            try:
                touched = self._change(changes)
            except (OSError, Corrupt):
                self._torn = True  # the tree is not what we left: somebody else worked in it
        if self._torn:
            self._mend_torn()
        self._applied.apply(changes)
        self._applied_commit = self._queue.popleft().message.commit
        if self._torn:
            self._groups, self._torn = Groups(self._applied.entries()), False
        else:
            self._note(touched)
        sweep(self._data / "aside")

    def _change(self, changes: tuple[Change, ...]) -> set[bytes]:
        done = False
        with Place(self._workspace) as place:
            shop = Workshop(place, fresh(self._data / "aside"), self._journal, step=self._step, key=self._key)
            application = Application(shop, self._applied, self._groups, changes)
            try:
                touched = application.run()
                done = True
            finally:
                if not done:
                    self._torn = self._torn or application.changing
                    self._groups = Groups(self._applied.entries())
        return touched

    def _mend_torn(self) -> None:
        """An application stopped half way, or met what we did not put there: compare what is with what should be."""
        wanted = self._applied.copy()
        wanted.apply(self._queue[0].message.changes)
        try:
            mended = self._mender().mend(wanted)
        except OSError as error:
            raise Corrupt(f"the tree can't be mended: {error}. Does somebody else write to it?") from error
        if not mended:
            raise Corrupt("the tree can't be mended: blocks are missing. Start again from another replica")

    def _mender(self) -> Mender:
        aside = self._data / "aside"
        return Mender(self._workspace, aside, self._journal, self.index, time.time_ns, self._step, self._key)

    def _note(self, touched: set[bytes]) -> None:
        """Nobody but us changes this tree: what we wrote need not be read again."""
        with Place(self._workspace) as place:
            for path in touched:
                entry, seen = self._applied.get(path), place.look(path)
                if entry is None or seen is None:
                    self.index.drop(path)
                else:
                    self.index.put(path, Known(signature_of(seen), entry))

    def _checkpoint(self, segment: int) -> Checkpoint:
        entries = list(self._applied.entries())
        return Checkpoint(VERSION, self._applied_commit, segment, entries, self.index.signatures(iter(entries)))

    async def _begin_checkpoint(self) -> None:
        """Free the journal of what is applied, behind the scenes, whenever a segment is full."""
        if self._checkpointing is not None and not self._checkpointing.done():
            return
        async with self._writing:
            needed = self._queue[0].segment if self._queue else self._journal.needed
        if needed > self._first_segment:
            checkpoint = self._checkpoint(needed)
            self._checkpointing = asyncio.get_running_loop().create_task(self._write_checkpoint(checkpoint))

    async def _write_checkpoint(self, checkpoint: Checkpoint) -> None:
        try:
            await asyncio.to_thread(self._make_durable)
            await asyncio.to_thread(write_checkpoint, self._data / "checkpoint", checkpoint)
            self._first_segment = checkpoint.segment
            async with self._applying, self._writing:  # applying may be reading from what is to be deleted
                await asyncio.to_thread(self._journal.delete_before, checkpoint.segment)
        except DiskFull:
            return  # the journal stays; the next application tries again
        except NotDurable as error:
            self._fail(error)

    async def _finish_checkpoint(self) -> None:
        if self._checkpointing is not None:
            await self._checkpointing

    def _make_durable(self) -> None:
        fd = os.open(self._workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flush_file_system(fd, "the workspace")
        finally:
            os.close(fd)
