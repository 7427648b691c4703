"""Saving: a tree becomes a commit in the store. Whatever fails on the way leaves nothing that could be taken for one.

Chunks come first, in packs; then one object a directory (`trees/<id>`); last the commit's record, by a conditional put
at `commits/<epoch>-<seq>`, under a prefix for a branch.
"""

from dataclasses import dataclass, field

import blake3
import msgspec
from msgspec.structs import replace

from dumont.errors import AlreadyStored, Corrupt
from dumont.model.commit import HOLE, Commit, CommitId, Entry, Kind
from dumont.snapshot.links import Groups
from dumont.snapshot.live import LiveTree
from dumont.snapshot.pack import Packs, put_once
from dumont.snapshot.reading import Reading
from dumont.snapshot.tree import TOP, Tree, parent_of
from dumont.store.base import Store

_VERSION = 1
_READ_AGAIN = 2


class CommitRecord(msgspec.Struct, frozen=True):
    """What lies at a commit's key."""

    version: int
    commit: Commit


@dataclass(frozen=True)
class Saved:
    """`commit` as it was stored; `tree` is its tree. `stored_bytes` of new chunks went to the store for it."""

    commit: Commit
    tree: Tree
    stored_bytes: int


@dataclass
class _Take:
    """What is being saved: the tree as far as it was found so."""

    tree: Tree
    fuzzy: set[bytes] = field(default_factory=set)
    uncovered: set[bytes] = field(default_factory=set)


async def save(store: Store, live: LiveTree, tree: Tree | None, draft: Commit, prefix: str = "") -> Saved:
    """Store `live` as the commit `draft`, whose root and lists of files are replaced by what was found.

    `tree` is what is known of it: only files with chunks that are not stored are read again, and those that differ from
    it by then are named as fuzzy. None: everything is read. Saving the same twice is harmless. Raises AlreadyStored
    when another commit of that id is stored.
    """
    packs = Packs(store)
    await packs.open()
    take = await _take(packs, live, tree)
    await packs.finish()
    await _save_directories(store, take.tree)
    commit = replace(
        draft,
        root=take.tree.root(),
        consistent=draft.consistent and not take.fuzzy,
        fuzzy=tuple(sorted(take.fuzzy.union(draft.fuzzy))),
        uncovered=tuple(sorted(take.uncovered.union(draft.uncovered))),
    )
    await _save_record(store, commit, prefix)
    return Saved(commit, take.tree, packs.stored_bytes)


async def list_commits(store: Store, prefix: str = "") -> list[Commit]:
    """The stored commits, oldest first."""
    keys = [key async for key in store.keys(f"{prefix}commits/")]
    return sorted([await _record(store, key) for key in keys], key=lambda commit: commit.id)


async def read_commit(store: Store, id: CommitId, prefix: str = "") -> Commit:
    """The stored commit `id`. Raises NotStored, and Corrupt when it can't be read or is another's."""
    commit = await _record(store, commit_key(id, prefix))
    if commit.id != id:
        raise Corrupt(f"the record of commit {id} is that of {commit.id}")
    return commit


def commit_key(id: CommitId, prefix: str = "") -> str:
    """Where the record of commit `id` lies. `prefix` is empty or ends with a slash."""
    return f"{prefix}commits/{id.epoch}-{id.seq}"


def branch_prefix(name: str) -> str:
    """The prefix of the commits of branch `name`."""
    return f"branches/{name}/"


def root_object(tree: Tree) -> bytes:
    """The object whose BLAKE3 is `tree.root()`: a listing of nothing but the top directory."""
    below = blake3.blake3(tree.directory_object(TOP)).digest()
    return msgspec.msgpack.encode([(TOP, tree.get(TOP), below)])


async def _take(packs: Packs, live: LiveTree, known: Tree | None) -> _Take:
    if known is None:
        known = Tree()
        take = _Take(Tree())
        paths = sorted(await live.walk(TOP, known))
    else:
        await live.learn(known)
        take = _Take(known.copy())
        paths = [path for path, entry in known.entries() if not _is_stored(packs, entry)]
    for path in paths:
        reading = await _read(packs, live, path)
        before = known.get(path)
        _note(take, reading)
        if reading.moved or (before is not None and _alone(reading.entry) != _alone(before)):
            take.fuzzy.add(path)
    for path in sorted(live.relinked()):
        reading = await _read(packs, live, path)
        if reading.entry and path in take.tree:
            _note(take, reading)
    _settle(take)
    return take


def _settle(take: _Take) -> None:
    """What was read at different times must still make a tree: no name without its directory, no half links."""
    for path, _ in list(take.tree.entries()):
        above = take.tree.get(parent_of(path))
        if path != TOP and (above is None or above.kind is not Kind.DIRECTORY):
            take.tree.remove(path)
            take.fuzzy.add(path)
    groups = Groups(take.tree.entries())
    linked = [(path, entry) for path, entry in take.tree.entries() if entry.link]
    settled = [(path, replace(entry, link=groups.settled(path, entry, take.tree.get))) for path, entry in linked]
    for path, entry in settled:
        take.tree.put(path, entry)


def _alone(entry: Entry | None) -> Entry | None:
    """Without its other names, which may lie outside of what is saved."""
    return replace(entry, link=b"") if entry else None


async def _read(packs: Packs, live: LiveTree, path: bytes) -> Reading:
    """Read until it holds still, or often enough."""
    reading = await live.copy(path, packs.add)
    for _ in range(_READ_AGAIN):
        if not reading.moved:
            break
        reading = await live.copy(path, packs.add)
    return reading


def _note(take: _Take, reading: Reading) -> None:
    if reading.uncovered:
        take.uncovered.add(reading.path)
    if reading.entry is None or reading.entry.kind is not Kind.DIRECTORY:
        for below in take.tree.below(reading.path):
            take.tree.remove(below)
    if reading.entry is None:
        take.tree.remove(reading.path)
    else:
        take.tree.put(reading.path, reading.entry)


def _is_stored(packs: Packs, entry: Entry) -> bool:
    return all(chunk == HOLE or packs.has(chunk) for chunk in entry.chunks)


async def _save_directories(store: Store, tree: Tree) -> None:
    """Store every directory that is not, and the object that names the top."""
    stored = {key async for key in store.keys("trees/")}
    directories = [path for path, entry in tree.entries() if entry.kind is Kind.DIRECTORY]
    for path in reversed(directories):
        body = tree.directory_object(path)
        key = tree_key(blake3.blake3(body).digest())
        if key not in stored:
            await put_once(store, key, body)
            stored.add(key)
    await put_once(store, tree_key(tree.root()), root_object(tree))


def tree_key(id: bytes) -> str:
    """Where the directory object `id` lies."""
    return f"trees/{id.hex()}"


async def _save_record(store: Store, commit: Commit, prefix: str) -> None:
    key = commit_key(commit.id, prefix)
    try:
        await store.put(key, msgspec.msgpack.encode(CommitRecord(_VERSION, commit)))
    except AlreadyStored:
        if (await _record(store, key)).root != commit.root:
            raise


async def _record(store: Store, key: str) -> Commit:
    try:
        record = msgspec.msgpack.decode(await store.get(key), type=CommitRecord)
    except msgspec.DecodeError as error:
        raise Corrupt(f"{key} can't be read: {error}") from error
    if record.version != _VERSION:
        raise Corrupt(f"{key} is of version {record.version}, this program reads {_VERSION}")
    return record.commit
