"""Records: what lies in a repository besides packs, and under which keys.

Everything that is listed at each run lies under `state/`, so that one listing shows it all; packs lie under `packs/`.
All but the two plain ones (config, slots) are sealed. docs/snapshots.md describes the whole format.
"""

from typing import TypeVar

import msgspec
import zstandard

from dumont.errors import BadInput, Corrupt
from dumont.model.commit import Commit, CommitId
from dumont.repository.keys import Slot

VERSION = 2
_RECORD_BYTES_MAX = 2**30
Record = TypeVar("Record")
CONFIG = "config"
STATE = "state/"
PACKS = "packs/"
SLOTS = f"{STATE}keys/"
SECOND_CONFIG = f"{STATE}second-config"
"""The config once its slot was taken off. Its name sorts after `state/going/`, which `keyring.py` needs."""
DATA, TREE = 0, 1
"""Kinds of frames: chunks of files, whose ids are keyed; directory objects, whose ids are plain BLAKE3."""


class Config(msgspec.Struct, frozen=True):
    """Plain: `repository` is its id (16 bytes), `public` its X25519 key (32 bytes), `slot` the first way to open it."""

    version: int
    repository: bytes
    public: bytes
    slot: Slot


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """`length` sealed bytes at `offset` of a pack, which decode to `plain_bytes`: chunks one after the other.

    `ids` is the chunks' ids, 32 bytes each, `lengths` theirs in bytes.
    """

    offset: int
    length: int
    codec: int
    kind: int
    plain_bytes: int
    ids: bytes
    lengths: list[int]


class Pack(msgspec.Struct, frozen=True, array_like=True):
    """What a reader needs of the pack `name` (32 hexadecimal digits): who sealed it, and its frames."""

    name: str
    writer: str
    ephemeral: bytes
    size: int
    created_s: int
    frames: list[Frame]


class IndexObject(msgspec.Struct, frozen=True):
    """Packs and what they hold. Written by whoever holds the secret, it says that the chunks may be relied on."""

    version: int
    packs: list[Pack]


class Exclusion(msgspec.Struct, frozen=True):
    """What a save left out on purpose: paths that a pattern matches (`repository/pattern.py`) and all below them; other
    file systems than that of the top; what directories hold that are tagged as `caches`."""

    patterns: tuple[bytes, ...] = ()
    one_file_system: bool = False
    caches: bool = False


NOTHING_EXCLUDED = Exclusion()


class CommitRecord(msgspec.Struct, frozen=True):
    """A commit with what people want to know of it. `pending`: the last part of its pending record's key.

    `void`: no commit at all. A prune took the number, for ever, from a writer that was not heard of for long.
    """

    version: int
    commit: Commit
    name: str = ""
    tags: tuple[str, ...] = ()
    host: str = ""
    path: bytes = b""
    files: int = 0
    plain_bytes: int = 0
    stored_bytes: int = 0
    took_ms: int = 0
    pending: str = ""
    void: bool = False
    excluded: Exclusion = NOTHING_EXCLUDED


class Labels(msgspec.Struct, frozen=True):
    """A later word on a commit's name and tags: the one with the highest number counts."""

    version: int
    name: str
    tags: tuple[str, ...]


class Pending(msgspec.Struct, frozen=True):
    """A commit about to be named: `packs` hold what it needs. It keeps them from being pruned.

    `prefix` is a branch's; `created_s` the writer's clock, Unix time: a matter of patience, not of safety.
    """

    version: int
    commit: CommitId
    packs: list[str]
    prefix: str = ""
    created_s: int = 0


class Doomed(msgspec.Struct, frozen=True):
    """Packs that a prune wants to delete. Whoever reads this relies on none of them any more."""

    version: int
    packs: list[str]


def pack_key(name: str) -> str:
    """Where the pack of that name lies."""
    return f"{PACKS}{name[:2]}/{name}"


def index_key(name: str) -> str:
    """Where an index object lies."""
    return f"{STATE}index/{name}"


def commit_key(id: CommitId, prefix: str = "") -> str:
    """Where a commit lies. `prefix` is empty, or a branch's; keys sort as commits do."""
    return f"{STATE}{prefix}commits/{id.epoch:08d}-{id.seq:012d}"


def commit_of(key: str) -> CommitId:
    """The commit that lies at `key`. Raises Corrupt."""
    epoch, _, seq = key.rpartition("/")[2].partition("-")
    if not (epoch.isdigit() and seq.isdigit()):
        raise Corrupt(f"{key} is no commit's place")
    return CommitId(int(epoch), int(seq))


def branch_prefix(name: str) -> str:
    """The prefix of the commits of branch `name`."""
    return f"branches/{name}/"


def parse_commit(text: str) -> CommitId:
    """`epoch.seq`, or `seq` alone for epoch 0. Raises BadInput."""
    epoch, _, seq = text.rpartition(".")
    if not seq.isdigit() or (epoch and not epoch.isdigit()):
        raise BadInput(f"{text!r} is no commit: it looks like 3.41 or 41 (`dumont snapshot ls` shows them)")
    return CommitId(int(epoch or "0"), int(seq))


def pack_up(record: msgspec.Struct) -> bytes:
    """A record as it is sealed: zstd over msgpack."""
    return zstandard.ZstdCompressor(level=1).compress(msgspec.msgpack.encode(record))


def unpack(body: bytes, type: type[Record], name: str) -> Record:
    """The opposite. Raises Corrupt for what makes no sense, or is of another version."""
    try:
        if zstandard.frame_content_size(body) > _RECORD_BYTES_MAX:
            raise Corrupt(f"{name} claims to be larger than any record")
        record = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(body), type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, zstandard.ZstdError) as error:
        raise Corrupt(f"{name} can't be read: {error}") from error
    version = getattr(record, "version", VERSION)
    if version != VERSION:
        raise Corrupt(f"{name} is of version {version}, this program reads {VERSION}")
    return record
