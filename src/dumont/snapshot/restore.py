"""Restoring: a stored commit becomes a tree on this machine, verified block by block, and nothing outside of it.

Onto an existing tree only differences are fetched. Files are built aside and put in place whole.
"""

import asyncio
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import blake3
import msgspec

from dumont.errors import BadInput, Corrupt, NotStored, StoreError
from dumont.model.commit import Commit, CommitId, Entry, Kind
from dumont.snapshot.apply import Application, Workshop
from dumont.snapshot.check import check_entry
from dumont.snapshot.durable import flush_file_system
from dumont.snapshot.index import Index
from dumont.snapshot.links import Groups
from dumont.snapshot.mend import remaining
from dumont.snapshot.pack import Packs
from dumont.snapshot.place import Place
from dumont.snapshot.save import read_commit, tree_key
from dumont.snapshot.scan import scan
from dumont.snapshot.tree import TOP, Tree, join
from dumont.store.base import Store

Listing = list[tuple[bytes, Entry | None, bytes]]
_FETCH_S_MAX = 600
_EMPTY = blake3.blake3(msgspec.msgpack.encode([])).digest()


@dataclass(frozen=True)
class Restored:
    """`tree` is what the target holds now, durably: exactly `commit`. `fetched_bytes` came from the store for it."""

    commit: Commit
    tree: Tree
    fetched_bytes: int


async def restore(store: Store, id: CommitId, target: Path, prefix: str = "", aside: Path | None = None) -> Restored:
    """Make the directory `target` equal to commit `id`. It and what is in it may exist; its parent must.

    Files are built under the directory `aside`, which must be on the same file system: the parent unless given.
    Raises NotStored, Corrupt when anything does not match its hash or would lead out of `target`, DiskFull, NotDurable.
    """
    commit = await read_commit(store, id, prefix)
    tree = await read_tree(store, commit.root)
    packs = Packs(store)
    await packs.open()
    blobs = _Stored(packs, asyncio.get_running_loop())
    await asyncio.to_thread(_materialise, target, tree, blobs, aside or target.parent)
    return Restored(commit, tree, packs.fetched_bytes)


async def read_tree(store: Store, root: bytes) -> Tree:
    """The stored tree `root`. Raises Corrupt when an object lacks, lies about itself, or holds what no tree can."""
    top = await _listing(store, root)
    tree = Tree()
    waiting = []
    for name, entry, below in top:
        if name != TOP:
            raise Corrupt(f"{root.hex()} is not the root of a tree")
        _put(tree, TOP, entry)
        waiting.append((TOP, below))
    while waiting:
        path, directory = waiting.pop()
        for name, entry, below in await _listing(store, directory):
            if b"/" in name or not name:
                raise Corrupt(f"directory {directory.hex()} holds the impossible name {name!r}")
            _put(tree, join(path, name), entry)
            if entry is not None and entry.kind is Kind.DIRECTORY:
                waiting.append((join(path, name), below))
    if tree.root() != root:
        raise Corrupt(f"what is stored of tree {root.hex()} makes another one")
    return tree


def _put(tree: Tree, path: bytes, entry: Entry | None) -> None:
    try:
        if entry is None:
            raise BadInput(f"{path!r} has no entry")
        check_entry(path, entry)
    except BadInput as error:
        raise Corrupt(f"the stored tree can't be restored: {error}") from error
    tree.put(path, entry)


async def _listing(store: Store, id: bytes) -> Listing:
    if id == _EMPTY:
        return []
    try:
        body = await store.get(tree_key(id))
    except NotStored as error:
        raise Corrupt(f"directory {id.hex()} is named and not stored") from error
    if blake3.blake3(body).digest() != id:
        raise Corrupt(f"what is stored as directory {id.hex()} does not match it")
    try:
        return msgspec.msgpack.decode(body, type=Listing)
    except msgspec.DecodeError as error:
        raise Corrupt(f"directory {id.hex()} can't be read: {error}") from error


class _Stored:
    """The chunks of a store, for the thread that applies."""

    def __init__(self, packs: Packs, loop: asyncio.AbstractEventLoop) -> None:
        self._packs = packs
        self._loop = loop

    def has(self, chunk: bytes) -> bool:
        return self._packs.has(chunk)

    def read(self, chunk: bytes) -> bytes | None:
        try:
            return asyncio.run_coroutine_threadsafe(self._packs.read(chunk), self._loop).result(_FETCH_S_MAX)
        except TimeoutError as error:
            raise StoreError(f"the store did not hand out chunk {chunk.hex()} within {_FETCH_S_MAX} s") from error


def _materialise(target: Path, tree: Tree, blobs: _Stored, parent: Path) -> None:
    target.mkdir(exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.restoring-", dir=parent))
    try:
        with Place(target) as place:
            found = scan(place, Index(), time.time_ns()).tree
            changes = remaining(found, tree)
            shop = Workshop(place, aside, blobs, in_place=False, far=True)
            Application(shop, found, Groups(found.entries()), changes).run()
            flush_file_system(place.top, str(target))
        with Place(target) as place:
            if remaining(scan(place, Index(), time.time_ns()).tree, tree):
                raise Corrupt(f"{target} does not hold what was restored: does somebody else write there?")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
