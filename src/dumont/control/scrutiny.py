"""Scrutiny: what an instance adds to the store is looked through before it is kept, for hosts are strangers (I7).

Only the primary names a commit, only at an epoch that has been, a fenced one only in its own branch. What others will
rely on must be what it says: each chunk of a pack is decoded and hashed, an index object says of packs what they say of
themselves, a commit's tree is stored. Nothing else may be added at all.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

import zstandard

from dumont.control.vault import Vault
from dumont.errors import Corrupt, NotStored, WrongKey
from dumont.model.commit import CommitId
from dumont.repository.codec import Coder
from dumont.repository.keys import Keys
from dumont.repository.pack import (
    PACK_PLAIN_BYTES_MAX,
    TAIL,
    PackReader,
    check_frame,
    footer_length,
    frame_ids,
    read_footer,
)
from dumont.repository.record import (
    DATA,
    PACKS,
    STATE,
    TREE,
    CommitRecord,
    IndexObject,
    Pack,
    Pending,
    Record,
    branch_prefix,
    commit_key,
    commit_of,
    index_key,
    pack_key,
    unpack,
)
from dumont.repository.repository import Repository
from dumont.repository.seal import FOOTER, open_object, read_head, seal_of

AT_ONCE_MAX = 2
"""Packs that are verified at the same time, for all instances together: each takes a thread and its decoded frames."""
FRAME_PLAIN_BYTES_MAX = 32 * 2**20
RECORD_PLAIN_BYTES_MAX = 32 * 2**20
_CODEC_MAX = 255
_NAME = re.compile(r"[0-9a-f]{32}")
_PENDING = re.compile(r"(\d{1,10})-(\d{1,15})-[0-9a-f]{32}")


@dataclass(frozen=True)
class Standing:
    """What the database last said of an instance: its workspace and epoch, whether it leads, its branch if fenced."""

    workspace: str
    epoch: int
    leads: bool
    branch: str = ""


def prohibition(standing: Standing, key: str) -> str:
    """Why an instance of that standing may add nothing under `key`, whatever it is; "" when it may."""
    name = key.rpartition("/")[2]
    if key.startswith((PACKS, f"{STATE}index/")):
        place = pack_key(name) if key.startswith(PACKS) else index_key(name)
        return "" if _NAME.fullmatch(name) and key == place else f"{key} is no place of a pack or an index object"
    if key.startswith(f"{STATE}commits/"):
        return "" if standing.leads and _is_place(standing, key, "") else f"only the primary may store {key}"
    if key.startswith(f"{STATE}branches/"):
        own = bool(standing.branch) and _is_place(standing, key, branch_prefix(standing.branch))
        return "" if own else f"{key} lies in nobody's branch, or in another's"
    if key.startswith(f"{STATE}pending/"):
        found = _PENDING.fullmatch(name)
        may = standing.leads or bool(standing.branch)
        is_place = found and key == f"{STATE}pending/{name}" and int(found[1]) <= standing.epoch
        return "" if may and is_place else f"only who may name a commit may store {key}"
    return f"an instance never adds {key}"


class Scrutiny:
    """The rules, over the repositories of a vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._free = asyncio.Semaphore(AT_ONCE_MAX)

    async def refusal(self, standing: Callable[[], Standing], key: str, data: bytes) -> str:
        """Why this object may not be added; "" when it may. Raises StoreError, and BadInput from `standing`.

        The standing is asked again at the end: verifying takes time, in which a primary may have been fenced.
        """
        before = standing()
        if why := prohibition(before, key):
            return why
        try:
            await self._examine(before, key, data)
        except (Corrupt, WrongKey, NotStored) as error:
            return str(error)
        return prohibition(standing(), key)

    async def _examine(self, standing: Standing, key: str, data: bytes) -> None:
        repo = await self._vault.open(standing.workspace)
        if key.startswith(PACKS):
            async with self._free:
                await asyncio.to_thread(check_pack, repo.keys, key.rpartition("/")[2], data)
        elif key.startswith(f"{STATE}index/"):
            await check_index(repo, await _record(repo.keys, key, data, IndexObject))
        elif key.startswith(f"{STATE}pending/"):
            check_pending(standing, key, await _record(repo.keys, key, data, Pending))
        else:
            record = await _record(repo.keys, key, data, CommitRecord)
            check_commit(key, record)
            catalogue = (await self._vault.learned(standing.workspace)).catalogue
            if catalogue.relies_on(record.commit.root) is None:
                raise NotStored(f"the tree of commit {record.commit.id} is not in the store")


def check_pack(keys: Keys, name: str, data: bytes) -> None:
    """Raises Corrupt unless each chunk that the pack's footer names is in it, whole. Takes about as long as a restore.

    Without this, a host could have a chunk's name taken by junk: later saves would rely on it, and lose the content.
    """
    pack = _footer(keys, name, data)
    if sum(frame.plain_bytes for frame in pack.frames) > PACK_PLAIN_BYTES_MAX:
        raise Corrupt(f"pack {name} decodes to more than {PACK_PLAIN_BYTES_MAX} bytes")
    reader = PackReader(keys, pack, Coder())
    whole = memoryview(data)
    for number, frame in enumerate(pack.frames):
        check_frame(pack, frame)
        if frame.plain_bytes > FRAME_PLAIN_BYTES_MAX or frame.kind not in (DATA, TREE) or frame.length < 0:
            raise Corrupt(f"frame {number} of pack {name} makes no sense")
        if not 0 <= frame.codec <= _CODEC_MAX:
            raise Corrupt(f"codec {frame.codec} of pack {name} is none")
        plain = reader.frame(number, whole[frame.offset : frame.offset + frame.length])
        start = 0
        for id, length in zip(frame_ids(frame), frame.lengths, strict=True):
            reader.chunk(number, plain, start, length, id)
            start += length


async def check_index(repo: Repository, index: IndexObject) -> None:
    """Raises Corrupt unless it says of each pack just what the stored pack says of itself, and NotStored."""
    if len({pack.name for pack in index.packs}) != len(index.packs):
        raise Corrupt("an index object names a pack twice")
    for pack in index.packs:
        if not _NAME.fullmatch(pack.name):
            raise Corrupt(f"{pack.name[:80]!r} is no name of a pack")
        if await repo.read_pack_record(pack.name) != pack:
            raise Corrupt(f"an index object says of pack {pack.name} what it does not say of itself")


def check_commit(key: str, record: CommitRecord) -> None:
    """Raises Corrupt unless the record is that of the commit whose place this is."""
    if record.void:
        raise Corrupt(f"only a prune takes the number of {key}")
    if record.commit.id != commit_of(key):
        raise Corrupt(f"{key} is the place of another commit than {record.commit.id}")


def check_pending(standing: Standing, key: str, record: Pending) -> None:
    """Raises Corrupt unless it announces the commit of its name, on the line where this instance may store it."""
    epoch, seq, _ = key.rpartition("/")[2].split("-")
    if record.commit != CommitId(int(epoch), int(seq)):
        raise Corrupt(f"{key} announces another commit than {record.commit}")
    if why := prohibition(standing, commit_key(record.commit, record.prefix)):
        raise Corrupt(why)


def _is_place(standing: Standing, key: str, prefix: str) -> bool:
    """Whether `key` is where a commit lies, of an epoch that has been."""
    try:
        id = commit_of(key)
    except Corrupt:
        return False
    return key == commit_key(id, prefix) and id.epoch <= standing.epoch


async def _record(keys: Keys, key: str, data: bytes, type: type[Record]) -> Record:
    return await asyncio.to_thread(_opened, keys, key, data, type)


def _opened(keys: Keys, key: str, data: bytes, type: type[Record]) -> Record:
    plain, _ = open_object(keys, key, data)
    return unpack(_bounded(plain, key), type, key)


def _footer(keys: Keys, name: str, data: bytes) -> Pack:
    """The pack's record by its footer, which is measured before it is unpacked."""
    length = footer_length(data[-TAIL.size :], name)
    start = len(data) - TAIL.size - length
    if start < 0:
        raise Corrupt(f"pack {name} was cut off")
    footer = data[start : start + length]
    writer, ephemeral, _ = read_head(pack_key(name), data)
    _bounded(seal_of(keys, pack_key(name), writer, ephemeral).open(FOOTER, b"footer", footer), name)
    return read_footer(keys, name, data, footer, len(data))


def _bounded(body: bytes, name: str) -> bytes:
    """`body` if it does not unpack to more than a record should take of a server's memory. Raises Corrupt."""
    try:
        size = zstandard.frame_content_size(body)
    except zstandard.ZstdError as error:
        raise Corrupt(f"{name} can't be read: {error}") from error
    if not 0 <= size <= RECORD_PLAIN_BYTES_MAX:
        raise Corrupt(f"{name} claims to hold {size} bytes, a record has {RECORD_PLAIN_BYTES_MAX} at most")
    return body
