"""The memory of a save: what this machine knows of a directory since it saved it last, so as to read only changes."""

import hashlib

import msgspec
from msgspec.structs import replace

from dumont.model.commit import HOLE, Entry
from dumont.repository.catalogue import Catalogue
from dumont.repository.naming import Needs
from dumont.repository.repository import Repository
from dumont.repository.saving.shape import Shape
from dumont.repository.saving.survey import Page, RawPage, Survey

_VERSION = 1
_decode_entries = msgspec.msgpack.Decoder(list[Entry | None]).decode


class Memory(msgspec.Struct, frozen=True):
    """`root` is the tree that was saved; `indexes` and `packs` are what that commit relied on."""

    version: int
    root: bytes
    indexes: frozenset[str]
    packs: frozenset[str]
    pages: list[Page]


class _Remembered(msgspec.Struct, frozen=True):
    """A Memory to be encoded; some of its pages are already."""

    version: int
    root: bytes
    indexes: frozenset[str]
    packs: frozenset[str]
    pages: list[Page | RawPage]


def recall(repo: Repository, path: bytes) -> Memory | None:
    """What is remembered of the directory `path`; None for nothing, or nothing that can be used."""
    body = repo.cache.get(_name(path)) if repo.cache else None
    if body is None:
        return None
    try:
        memory = msgspec.msgpack.decode(body, type=Memory)
    except msgspec.DecodeError:
        return None
    return memory if memory.version == _VERSION else None


def remember(repo: Repository, path: bytes, found: Survey, made: Shape, needs: Needs) -> None:
    """Remember a save whose commit is stored."""
    if repo.cache is None:
        return
    pages = [folder.remembered(made.ids[folder.path], found.racy_from_ns) for folder in found.folders.values()]
    memory = _Remembered(_VERSION, made.root, needs.indexes, needs.packs, pages)
    repo.cache.put(_name(path), msgspec.msgpack.encode(memory))


def distrust(memory: Memory, catalogue: Catalogue) -> Memory:
    """What of it holds still after a prune: files whose chunks can be relied on no more are to be read again."""
    pages = []
    packs: set[str] = set()
    for page in memory.pages:
        marks = list(page.marks)
        for number, entry in enumerate(_decode_entries(page.entries)):
            spots = [catalogue.relies_on(chunk) for chunk in (entry.chunks if entry else ()) if chunk != HOLE]
            packs.update(pack.name for pack in spots if pack)
            if None in spots:
                marks[number] = None
        pages.append(replace(page, marks=marks))
    return replace(memory, pages=pages, packs=frozenset(packs), root=b"")


def _name(path: bytes) -> str:
    return f"save-{hashlib.sha256(path).hexdigest()[:32]}"
