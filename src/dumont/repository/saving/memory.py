"""The memory of a save: what this machine knows of a directory since it saved it last, so as to read only changes."""

import hashlib

import msgspec
from msgspec.structs import replace

from dumont.model.commit import HOLE
from dumont.repository.catalogue import Catalogue
from dumont.repository.naming import Needs
from dumont.repository.repository import Repository
from dumont.repository.saving.shape import Shape
from dumont.repository.saving.survey import Page, Survey

_VERSION = 1


class Memory(msgspec.Struct, frozen=True):
    """`root` is the tree that was saved; `indexes` and `packs` are what that commit relied on."""

    version: int
    root: bytes
    indexes: frozenset[str]
    packs: frozenset[str]
    pages: list[Page]


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


def memory_of(found: Survey, made: Shape, needs: Needs) -> Memory:
    """What to remember of a save."""
    pages = [folder.remembered(made.ids[folder.path], found.racy_from_ns) for folder in found.folders.values()]
    return Memory(_VERSION, made.root, needs.indexes, needs.packs, pages)


def remember(repo: Repository, path: bytes, memory: Memory) -> None:
    """Remember a save of the directory `path` whose commit is stored."""
    if repo.cache is not None:
        repo.cache.put(_name(path), msgspec.msgpack.encode(memory))


def distrust(memory: Memory, catalogue: Catalogue) -> Memory:
    """What of it holds still after a prune: files whose chunks can be relied on no more are to be read again."""
    pages = []
    packs: set[str] = set()
    for page in memory.pages:
        marks = page.marks
        for number, entry in enumerate(page.entries):
            spots = [catalogue.relies_on(chunk) for chunk in (entry.chunks if entry else ()) if chunk != HOLE]
            packs.update(pack.name for pack in spots if pack)
            if None in spots:
                marks[number] = None
        pages.append(replace(page, encoded_marks=msgspec.Raw(msgspec.msgpack.encode(marks))))
    return replace(memory, pages=pages, packs=frozenset(packs), root=b"")


def _name(path: bytes) -> str:
    return f"save-{hashlib.sha256(path).hexdigest()[:32]}"
