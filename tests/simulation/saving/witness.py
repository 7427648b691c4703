"""A witness: it hears of every change of the store, and knows by itself what each commit was to hold.

It reads sealed objects with the repository's own functions, for there is one format, but keeps its own accounts: which
chunks lie in packs that are there and indexed, which of them commits need, and what bytes each file of a tree had.
"""

from collections import Counter
from dataclasses import dataclass, field

from dumont.errors import Corrupt
from dumont.model.commit import Kind
from dumont.repository.codec import Coder
from dumont.repository.keys import Keys
from dumont.repository.pack import TAIL, PackReader, footer_length, frame_ids, read_footer
from dumont.repository.record import PACKS, STATE, CommitRecord, IndexObject, unpack
from dumont.repository.seal import open_object
from dumont.repository.upkeep.reach import decoded
from dumont.snapshot.tree import EMPTY_DIRECTORY, TOP, join
from tests.simulation.saving.trees import Content


@dataclass
class Witness:
    """`trees`: what each save was to hold, by its commit's name. `acked`: those that were said to be stored.

    `forgotten`: those that somebody was told to forget. `ever`: names of all packs that ever were there. Whatever is
    lost is an AssertionError.
    """

    keys: Keys
    trees: dict[str, Content] = field(default_factory=dict)
    acked: dict[str, str] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    commits: dict[str, CommitRecord] = field(default_factory=dict)
    packs: dict[str, frozenset[bytes]] = field(default_factory=dict)
    ever: set[str] = field(default_factory=set)
    indexes: dict[str, frozenset[str]] = field(default_factory=dict)
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    _named: Counter[str] = field(default_factory=Counter)
    _held: Counter[bytes] = field(default_factory=Counter)
    _needed: dict[bytes, tuple[Content, frozenset[bytes]]] = field(default_factory=dict)

    def stored(self, key: str, body: bytes) -> None:
        """An object came."""
        name = key.rpartition("/")[2]
        if key.startswith(PACKS):
            self.packs[name] = self._chunks_of(name, body)
            self.ever.add(name)
            if self._named[name]:
                self._count(name, 1)
        elif key.startswith(f"{STATE}index/"):
            index = unpack(open_object(self.keys, key, body)[0], IndexObject, key)
            self.indexes[name] = frozenset(pack.name for pack in index.packs)
            for pack in self.indexes[name]:
                self._name(pack, 1)
        elif is_commit(key):
            record = unpack(open_object(self.keys, key, body)[0], CommitRecord, key)
            if not record.void:
                self.commits[key] = record
                self._check_content(key, record)
                self._check(f"{key} was named")

    def deleted(self, key: str) -> None:
        """An object went, if it was there."""
        name = key.rpartition("/")[2]
        if key.startswith(PACKS) and name in self.packs:
            if self._named[name]:
                self._count(name, -1)
            del self.packs[name]
            self._check(f"pack {name} was deleted")
        elif key.startswith(f"{STATE}index/") and name in self.indexes:
            for pack in self.indexes.pop(name):
                self._name(pack, -1)
            self._check(f"index object {name} was deleted")
        elif key in self.commits:
            record = self.commits.pop(key)
            assert record.name in self.forgotten, f"{key}, the save {record.name}, went, and nobody was to forget it"

    def acknowledge(self, name: str, record: CommitRecord, key: str) -> None:
        """A saver was told that it is stored."""
        assert record.name == name, f"{name} was told of another's commit"
        if name not in self.forgotten:
            assert key in self.commits, f"{name} was said to be {key}, which is not there"
            assert self.commits[key].name == name, f"{key} is not {name}, though that was said"
        self.acked[name] = key

    def content(self, record: CommitRecord) -> Content:
        """What the stored commit holds, out of packs that are there."""
        return self._tree(record.commit.root)[0]

    def needed(self) -> set[bytes]:
        """Every chunk that a commit needs."""
        return set().union(*(self._tree(record.commit.root)[1] for record in self.commits.values()))

    def unneeded_packs(self) -> set[str]:
        """Packs with nothing that a commit needs."""
        needed = self.needed()
        return {name for name, chunks in self.packs.items() if chunks.isdisjoint(needed)}

    def _check_content(self, key: str, record: CommitRecord) -> None:
        assert record.name in self.trees, f"{key} is nobody's"
        was = self.trees[record.name]
        found = self.content(record)
        assert found == was, f"{key} holds {sorted(found)} and not {sorted(was)}, or other bytes"

    def _check(self, what: str) -> None:
        """Every commit can be restored, now."""
        for key, record in self.commits.items():
            lost = [chunk for chunk in self._tree(record.commit.root)[1] if self._held[chunk] <= 0]
            assert not lost, f"{what}, and {key} lacks {len(lost)} chunks, as {lost[0].hex()[:16]}"

    def _name(self, pack: str, times: int) -> None:
        was = bool(self._named[pack])
        self._named[pack] += times
        if pack in self.packs and was != bool(self._named[pack]):
            self._count(pack, times)

    def _count(self, pack: str, times: int) -> None:
        for chunk in self.packs[pack]:
            self._held[chunk] += times

    def _chunks_of(self, name: str, body: bytes) -> frozenset[bytes]:
        """What a pack holds in truth: every chunk is read."""
        length = footer_length(body[-TAIL.size :], name)
        start = len(body) - TAIL.size - length
        pack = read_footer(self.keys, name, body[:128], body[start : start + length], len(body))
        reader = PackReader(self.keys, pack, Coder())
        chunks = set()
        for number, frame in enumerate(pack.frames):
            plain = reader.frame(number, body[frame.offset : frame.offset + frame.length])
            at = 0
            for id, size in zip(frame_ids(frame), frame.lengths, strict=True):
                self.bodies.setdefault(id, bytes(reader.chunk(number, plain, at, size, id)))
                at += size
                chunks.add(id)
        return frozenset(chunks)

    def _tree(self, root: bytes) -> tuple[Content, frozenset[bytes]]:
        """What a tree holds, and the chunks that it needs. A chunk's id is its content, so that is true for ever."""
        if root not in self._needed:
            content: Content = {}
            needed: set[bytes] = set()
            unread = [(root, TOP)]
            while unread:
                id, path = unread.pop()
                if id == EMPTY_DIRECTORY:
                    continue
                needed.add(id)
                for name, entry, below in decoded(self._body(id), id):
                    assert entry is not None, "a stored directory holds a name without an entry"
                    here = join(path, name) if name else TOP
                    if entry.kind is Kind.DIRECTORY:
                        unread.append((below, here))
                        if here != TOP:
                            content[here] = None
                    elif entry.kind is Kind.SYMLINK:
                        content[here] = b"-> " + entry.target
                    else:
                        needed.update(entry.chunks)
                        content[here] = b"".join(map(self._body, entry.chunks))
            self._needed[root] = content, frozenset(needed)
        return self._needed[root]

    def _body(self, chunk: bytes) -> bytes:
        if chunk not in self.bodies:
            raise Corrupt(f"chunk {chunk.hex()} was never stored")
        return self.bodies[chunk]


def is_commit(key: str) -> bool:
    """Whether a commit lies there."""
    return key.startswith(f"{STATE}commits/") or (key.startswith(f"{STATE}branches/") and "/commits/" in key)
