"""Landing: what a hand does for a restore. It reads frames, and builds files of them aside until they may land.

Bytes are read, decrypted and decoded in buffers that are used again, hashed, and written from there: new memory costs
more than the work. A file gets its final name whole and durable, by a rename.
"""

import contextlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec
from blake3 import blake3

from dumont.errors import BadInput, Corrupt, NotStored
from dumont.model.commit import Entry, Kind
from dumont.repository.codec import decode_between
from dumont.repository.hands import Blocking
from dumont.repository.pack import frame_about
from dumont.repository.record import pack_key
from dumont.repository.restoring.aside import held_name, join_aside
from dumont.repository.restoring.donor import search
from dumont.repository.restoring.growing import open_tree, placing
from dumont.repository.restoring.standing import examine
from dumont.repository.restoring.unit import (
    FRAME_BYTES_MAX,
    NOT_HELD,
    RUN_BYTES,
    SMALL_BYTES_MAX,
    Answer,
    Examine,
    Finish,
    Item,
    Job,
    Message,
    Part,
    Piece,
    Search,
    Settle,
    Source,
    Unit,
)
from dumont.repository.seal import Seal, seal_of
from dumont.snapshot.chunk import stretches
from dumont.snapshot.dress import dress, dress_new
from dumont.snapshot.durable import flush_data, write_whole, writing
from dumont.snapshot.place import DIRECTORY, Place
from dumont.snapshot.tree import name_of, parent_of

SHARED = b"shared"
"""The directory aside of what several hands put together."""
_NEW = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_HELD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_SEALS_MAX = 16
_NEAR_BYTES = 2**20
_decode = msgspec.msgpack.Decoder(Message).decode
_encode = msgspec.msgpack.encode


def start_restoring(message: bytes, store: Blocking) -> "Landing":
    """The worker of a hand that restores; `message` is a Job."""
    job = msgspec.msgpack.decode(message, type=Job)
    try:
        return Landing(job, store)
    except OSError as error:
        raise BadInput(f"{os.fsdecode(job.target)} can't be written: {error}") from error


class _Buffer:
    """Memory that is used again, and grows to what was ever needed."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(2**20 + 2**16))

    def room(self, length: int) -> memoryview:
        if len(self._view) < length:
            self._view = memoryview(bytearray(length))
        return self._view[:length]


class Landing:
    """A worker that restores, over one target."""

    def __init__(self, job: Job, store: Blocking) -> None:
        self._store = store
        self._keys = job.keys
        self._key = job.keys.chunk_key
        self._read, self._one, self._other = _Buffer(), _Buffer(), _Buffer()
        self._seals: dict[str, Seal] = {}
        self._place = Place(Path(os.fsdecode(job.target)))
        about = os.fstat(self._place.top)
        if (about.st_dev, about.st_ino) != job.inode:
            raise Corrupt(f"{job.target!r} became another directory meanwhile: somebody else works there")
        self._aside = join_aside(job.aside)
        self._shared = os.open(SHARED, DIRECTORY, dir_fd=self._aside)
        self._tree = open_tree(self._aside) if job.grows else None
        own = f"{os.getpid()}-{id(self)}"
        os.mkdir(own, 0o700, dir_fd=self._aside)
        self._own = os.open(own, DIRECTORY, dir_fd=self._aside)
        self._umask, self._owner = self._try_out()
        self._near = b"", -1
        self._ready: defaultdict[int, list[Item]] = defaultdict(list)
        self._sized: set[int] = set()

    def handle(self, message: bytes) -> bytes:
        """Do what a Message says. Raises DumontError."""
        todo = _decode(message)
        try:
            with writing(f"the files of {os.fsdecode(os.readlink(f'/proc/self/fd/{self._place.top}'))}"):
                match todo:
                    case Unit():
                        return _encode(_UnitWork(self, todo).run())
                    case Finish():
                        return _encode(self._finish(todo))
                    case Settle():
                        return _encode(self._settle(todo.batch))
                    case Examine():
                        wrong = tuple(examine(self._place, path, entry, self._key) for path, entry in todo.files)
                        return _encode(Answer(wrong=wrong))
                    case Search():
                        found = tuple(search(self._place, path, entry, self._key) for path, entry in todo.files)
                        return _encode(Answer(found=found))
        except (OSError, OverflowError) as error:
            raise BadInput(f"the target can't be written: {error}") from error
        raise AssertionError(f"no such message: {todo}")

    def end(self) -> None:
        for place in filter(None, (self._place, self._tree)):
            place.close()
        for fd in (self._own, self._shared, self._aside):
            os.close(fd)

    def plain(self, unit: Unit, part: Part, sealed: memoryview) -> memoryview:
        """The decoded bytes of a frame, valid until the next call. Raises Corrupt."""
        if len(sealed) != part.length:
            raise Corrupt(f"pack {unit.pack} was cut off in frame {part.number}")
        room = max(part.length, part.plain_bytes)
        one, other = self._one.room(room), self._other.room(room)
        about = frame_about(part.number, part.codec, part.kind, part.plain_bytes)
        encoded = self._seal(unit).open_into(part.number, about, sealed, one)
        return decode_between(part.codec, encoded, (one, other), part.plain_bytes)

    def windows(self, unit: Unit) -> Iterator[tuple[list[Part], int, int]]:
        """The frames of a unit as they are read together, with the begin and the length of what is read.

        A store that is far is asked once; of one that is near no more is read than the processor's cache holds.
        """
        length_max = _NEAR_BYTES if self._store.is_near else RUN_BYTES
        some: list[Part] = []
        begin = end = 0
        for part in unit.parts:
            after = part.offset + part.length
            if some and (part.offset < end or after - begin > length_max):
                yield some, begin, end - begin
                some = []
            if not some:
                begin = part.offset
            some.append(part)
            end = after
        if some:
            yield some, begin, end - begin

    def fetch(self, unit: Unit, begin: int, length: int) -> memoryview:
        """So many bytes of the unit's pack, or fewer where it ends. Raises NotStored, Corrupt."""
        if length > 2 * FRAME_BYTES_MAX:
            raise Corrupt(f"pack {unit.pack} has a frame of {length} bytes, more than any program writes")
        return self._store.get_into(pack_key(unit.pack), begin, self._read.room(length))

    def block(self, source: int, start: int, length: int) -> memoryview:
        """A block of an open file of the target; shorter where that ends, or can't be read."""
        room = self._one.room(length)
        filled = 0
        with contextlib.suppress(OSError):
            while filled < length and (count := os.preadv(source, [room[filled:]], start + filled)):
                filled += count
        return room[:filled]

    def open_source(self, source: Source) -> int:
        """Open a file of the target to read blocks from. Raises NotStored when it is none any more."""
        try:
            if source.held == NOT_HELD:
                fd = self._place.force(source.path, os.O_RDONLY)
            else:
                fd = os.open(held_name(source.held), _HELD, dir_fd=self._aside)
        except OSError as error:
            raise NotStored(f"{source.path!r} went away meanwhile") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotStored(f"{source.path!r} became something else meanwhile")
        return fd

    def whole(self, data: memoryview, id: bytes) -> bool:
        """Whether `data` is the chunk `id`."""
        return blake3(data, key=self._key).digest() == id

    def make_file(self, item: Item, data: memoryview, batch: int) -> None:
        """Make an ordinary file whose whole content is `data`: most are small, and this is done for each of them."""
        entry = item.entry
        mode = self._first_mode(entry)
        directory, name = self._site(item, batch)
        fd = os.open(name, _NEW | os.O_EXCL, mode, dir_fd=directory)
        try:
            if os.write(fd, data) != len(data):
                write_whole(fd, data, 0)
            dress_new(fd, entry, self._owner, mode)
        finally:
            os.close(fd)
        self._is_made(item, batch, directory)

    def create(self, item: Item, batch: int) -> int:
        """Open a new file for `item`."""
        directory, name = self._site(item, batch)
        return os.open(name, _NEW | os.O_EXCL, self._first_mode(item.entry), dir_fd=directory)

    def open_shared(self, item: Item) -> int:
        """Open the file that several units make."""
        fd = os.open(b"%d" % item.number, _NEW, 0o600, dir_fd=self._shared)
        if item.number not in self._sized:
            os.ftruncate(fd, item.entry.size)
            self._sized.add(item.number)
        return fd

    def close(self, item: Item, fd: int, batch: int) -> None:
        """The file of `item` is complete: dress it, and let it wait for its batch."""
        try:
            if item.entry.sparse:
                os.ftruncate(fd, item.entry.size)
            dress_new(fd, item.entry, self._owner, self._first_mode(item.entry))
        finally:
            os.close(fd)
        self._is_made(item, batch, self._site(item, batch)[0])

    def make_bare(self, item: Item, batch: int) -> None:
        """Make an item that has no content: an empty file, one that is a hole, a symlink or a fifo."""
        if item.entry.kind is Kind.FILE:
            self.close(item, self.create(item, batch), batch)
            return
        directory, name = self._site(item, batch)
        if item.entry.kind is Kind.SYMLINK:
            os.symlink(item.entry.target, name, dir_fd=directory)
        else:
            os.mkfifo(name, 0o600, dir_fd=directory)
        dress(directory, name, item.entry)
        self._is_made(item, batch, directory)

    def drop(self, item: Item, batch: int, fd: int) -> None:
        """Take back what was begun of `item`."""
        os.close(fd)
        directory, name = self._site(item, batch)
        os.unlink(name, dir_fd=directory)

    def _site(self, item: Item, batch: int) -> tuple[int, bytes]:
        """Where `item` is built: the open directory and the name, which is its own in the tree that grows."""
        if self._tree and not batch and not item.names and item.entry.size <= SMALL_BYTES_MAX:
            above, _, name = item.path.rpartition(b"/")
            if self._near[0] != above or not above:
                self._near = above, self._tree.directory(above)
            return self._near[1], name
        return self._own, b"%d" % item.number

    def _is_made(self, item: Item, batch: int, directory: int) -> None:
        """`item` is whole in `directory`. What is not in the tree gets its name when its batch is settled."""
        if directory == self._own:
            self._ready[batch].append(item)

    def _finish(self, todo: Finish) -> Answer:
        for item in todo.items:
            name = b"%d" % item.number
            self._sized.discard(item.number)
            fd = os.open(name, _NEW, 0o600, dir_fd=self._shared)
            try:
                os.ftruncate(fd, item.entry.size)
                dress_new(fd, item.entry, self._owner, 0o600 & ~self._umask)
                if todo.large:
                    flush_data(fd, os.fsdecode(item.path))
            finally:
                os.close(fd)
            if todo.large:
                self._land(item, self._shared)
            else:
                os.rename(name, name, src_dir_fd=self._shared, dst_dir_fd=self._own)
                self._ready[todo.batch].append(item)
        return Answer()

    def _settle(self, batch: int) -> Answer:
        for item in self._ready.pop(batch, []):
            self._land(item, self._own)
        return Answer()

    def _land(self, item: Item, source: int) -> None:
        """Give what is built its names, whatever has them now but a directory."""
        path, name = item.path, b"%d" % item.number
        with placing(path):
            directory = self._place.directory(parent_of(path))
            os.rename(name, name_of(path), src_dir_fd=source, dst_dir_fd=directory)
            for other in item.names:
                directory = self._place.directory(parent_of(path))
                os.link(name_of(path), name, src_dir_fd=directory, dst_dir_fd=source, follow_symlinks=False)
                directory = self._place.directory(parent_of(other))
                os.rename(name, name_of(other), src_dir_fd=source, dst_dir_fd=directory)

    def _first_mode(self, entry: Entry) -> int:
        """The mode to create a file with, so that it need not be set: its own, or one that lets us go on."""
        plain = not entry.mode & (self._umask | ~0o777) and not entry.xattrs
        return entry.mode if plain else 0o600 & ~self._umask

    def _try_out(self) -> tuple[int, tuple[int, int]]:
        """The umask, and the owner of new files aside, by making one: there is no call that tells without risk."""
        fd = os.open(b"new", _NEW | os.O_EXCL, 0o777, dir_fd=self._own)
        about = os.fstat(fd)
        os.close(fd)
        os.unlink(b"new", dir_fd=self._own)
        return 0o777 & ~stat.S_IMODE(about.st_mode), (about.st_uid, about.st_gid)

    def _seal(self, unit: Unit) -> Seal:
        seal = self._seals.get(unit.pack)
        if seal is None:
            if len(self._seals) >= _SEALS_MAX:
                self._seals.pop(next(iter(self._seals)))
            seal = self._seals[unit.pack] = seal_of(self._keys, pack_key(unit.pack), unit.writer, unit.ephemeral)
        return seal


class _UnitWork:
    """One unit being carried out."""

    def __init__(self, landing: Landing, unit: Unit) -> None:
        self._landing = landing
        self._unit = unit
        self._left = [item.pieces for item in unit.items]
        self._open: dict[int, int] = {}
        self._shared = (-1, -1)
        self._bad: list[bytes] = []
        self._why = ""
        self._read_from = f"pack {unit.pack}"

    def run(self) -> Answer:
        """Every frame in turn; what could not be had is in the answer."""
        unit, landing = self._unit, self._landing
        fetched = 0
        try:
            for item in unit.items:
                if not item.pieces:
                    landing.make_bare(item, unit.batch)
            if unit.sources:
                for source, part in zip(unit.sources, unit.parts, strict=True):
                    self._copy(source, part)
                return self._answer(0)
            for parts, begin, length in landing.windows(unit):
                fetched += self._window(parts, begin, length)
            return self._answer(fetched)
        finally:
            for index, fd in self._open.items():
                landing.drop(unit.items[index], unit.batch, fd)
            if self._shared[1] >= 0:
                os.close(self._shared[1])

    def _copy(self, source: Source, part: Part) -> None:
        """What is wanted of a file of the target. It may change all the while: what is hashed is what is written."""
        self._read_from = repr(source.path)
        try:
            fd = self._landing.open_source(source)
        except NotStored as error:
            self._all_bad([part], error)
            return
        try:
            for piece in part.pieces:
                block = self._landing.block(fd, piece.start, piece.length)
                self._pieces([msgspec.structs.replace(piece, start=0)], block)
        finally:
            os.close(fd)

    def _window(self, parts: list[Part], begin: int, length: int) -> int:
        """What was read at once; how many bytes that was."""
        try:
            window = self._landing.fetch(self._unit, begin, length)
        except (Corrupt, NotStored) as error:
            self._all_bad(parts, error)
            return 0
        for part in parts:
            sealed = window[part.offset - begin : part.offset - begin + part.length]
            try:
                plain = self._landing.plain(self._unit, part, sealed)
            except Corrupt as error:
                self._all_bad([part], error)
                continue
            self._pieces(part.pieces, plain)
        return len(window)

    def _pieces(self, pieces: list[Piece], plain: memoryview) -> None:
        """What is wanted of a frame. Neighbours that go to neighbouring places are hashed each, and written at once."""
        first = count = end = 0
        for number, piece in enumerate(pieces):
            data = plain[piece.start : piece.start + piece.length]
            if not self._is_whole(piece, data):
                continue
            item = self._unit.items[piece.item]
            if item.pieces == 1 and not item.entry.sparse and not piece.more:
                self._landing.make_file(item, data, self._unit.batch)
                self._left[piece.item] = 0
                continue
            begin = pieces[first]
            offset = piece.start - begin.start
            if count and piece.item == begin.item and piece.start == end and piece.at == begin.at + offset:
                count, end = count + 1, end + piece.length
            else:
                if count:
                    self._write(begin.item, plain[begin.start : end], begin.at, count)
                first, count, end = number, 1, piece.start + piece.length
            for at in range(0, len(piece.more), 2):
                self._write(piece.more[at], data, piece.more[at + 1])
        if count:
            self._write(pieces[first].item, plain[pieces[first].start : end], pieces[first].at, count)

    def _is_whole(self, piece: Piece, data: memoryview) -> bool:
        if len(data) == piece.length and self._landing.whole(data, piece.id):
            return True
        self._bad.append(piece.id)
        self._why = f"{self._read_from} does not hold chunk {piece.id.hex()} whole"
        return False

    def _write(self, index: int, data: memoryview, at: int, pieces: int = 1) -> None:
        """Write so many pieces to an item, which is finished when they were the last ones."""
        item = self._unit.items[index]
        if item.pieces < 0:
            if self._shared[0] != index:
                if self._shared[1] >= 0:
                    os.close(self._shared[1])
                self._shared = (-1, -1)
                self._shared = index, self._landing.open_shared(item)
            fd = self._shared[1]
        else:
            fd = self._open.pop(index, -1)
            if fd < 0:
                fd = self._landing.create(item, self._unit.batch)
            self._open[index] = fd
        if item.entry.sparse:
            for start, stretch in stretches(bytes(data)):
                write_whole(fd, stretch, at + start)
        elif os.pwrite(fd, data, at) != len(data):
            write_whole(fd, data, at)
        if item.pieces > 0:
            self._left[index] -= pieces
            if not self._left[index]:
                del self._open[index]
                self._landing.close(item, fd, self._unit.batch)

    def _all_bad(self, parts: list[Part], error: Exception) -> None:
        self._bad += [piece.id for part in parts for piece in part.pieces]
        self._why = str(error)

    def _answer(self, fetched: int) -> Answer:
        dropped = tuple(item.number for item, left in zip(self._unit.items, self._left, strict=True) if left > 0)
        return Answer(fetched, tuple(self._bad), self._why, dropped)
