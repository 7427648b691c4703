"""A repository: packs, what they hold, and the commits that need them, in a store, sealed.

`open_repository` and `create_repository` give one; `look` lists what is there, `learn` reads the index.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from dumont.errors import AlreadyStored, BadInput, Corrupt, NotStored, StoreError, WrongKey
from dumont.model.commit import CommitId
from dumont.repository.batch import batches
from dumont.repository.cache import Cache
from dumont.repository.catalogue import Catalogue
from dumont.repository.keys import REPOSITORY_BYTES, SALT_BYTES, SECRET_BYTES, Keys, Slot, keys_of, unwrap
from dumont.repository.pack import TAIL, footer_length, read_footer
from dumont.repository.record import (
    CONFIG,
    PACKS,
    SECOND_CONFIG,
    STATE,
    VERSION,
    CommitRecord,
    Config,
    Doomed,
    IndexObject,
    Pack,
    Record,
    commit_key,
    commit_of,
    index_key,
    pack_key,
    pack_up,
    unpack,
)
from dumont.repository.seal import close_object, open_object
from dumont.store.base import Store

Entropy = Callable[[int], bytes]
"""Gives that many random bytes nobody can guess, as os.urandom does."""
Wrap = Callable[[bytes, bytes], Slot]
"""Wraps a secret; its second argument is a salt."""
AT_ONCE = 8
INDEX_CHUNKS_MAX = 100_000
_HEAD_BYTES = 128
_LOOKS_MAX = 20
_T = TypeVar("_T")


@dataclass(frozen=True)
class Listing:
    """What lies under `state/`, by kind: the last parts of keys, but for `commits` and `branches`, which are keys."""

    commits: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    indexes: frozenset[str] = frozenset()
    doomed: frozenset[str] = frozenset()
    pending: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()

    def last_seq(self) -> int:
        """The highest number of a commit of the main line; 0 when there is none."""
        return max((commit_of(key).seq for key in self.commits), default=0)


@dataclass
class Repository:
    """An open repository. `keys` tell what may be done. `entropy` names objects. `seen`: the listing at opening."""

    store: Store
    keys: Keys
    entropy: Entropy
    cache: Cache | None = None
    catalogue: Catalogue = field(default_factory=Catalogue)
    learned: frozenset[str] = frozenset()
    seen: Listing | None = None

    async def look(self) -> Listing:
        """List everything but packs: one request for each thousand keys."""
        return await look(self.store)

    async def learn(self, listing: Listing) -> None:
        """Make the catalogue that of `listing`: what is indexed there. Raises Corrupt, StoreError.

        Raises NotStored, and has learned nothing, when a prune has replaced an index object since.
        """
        if self.learned - listing.indexes:
            self.catalogue, self.learned = Catalogue(), frozenset()
        if not self.keys.can_read:
            return  # what it stored itself is all that it knows
        for index, writer in await gather(self.read_index(name) for name in sorted(listing.indexes - self.learned)):
            self.catalogue.add(index.packs, trusted=not writer or writer == self.keys.writer)
        self.learned = listing.indexes

    async def catch_up(self, listing: Listing | None = None) -> Listing:
        """Learn what is indexed now, or in `listing`, so as to read; what was learned. Raises Corrupt, StoreError.

        Prunes replace index objects: when one goes before it is read, all is listed anew.
        """
        for _ in range(_LOOKS_MAX):
            listing = listing or await self.look()
            try:
                await self.learn(listing)
                return listing
            except NotStored:
                listing = None
        raise StoreError("prunes kept on replacing the index; run it again when they are done")

    async def doomed_packs(self, listing: Listing) -> set[str]:
        """Packs that a prune wants to delete. A record that went meanwhile counts for nothing: its prune is over."""
        doomed: set[str] = set()
        for name in sorted(listing.doomed):
            try:
                doomed.update((await self.get_record(f"{STATE}doomed/{name}", Doomed)).packs)
            except NotStored:
                continue
        return doomed

    async def add_to_index(self, packs: list[Pack]) -> list[str]:
        """Store index objects for `packs`; their names. The catalogue learns them."""
        names = []
        for part in parts(packs):
            names.append(self.new_name())
            await self.put_record(index_key(names[-1]), IndexObject(VERSION, part))
            self.catalogue.add(part, trusted=True)
            self.learned = self.learned | {names[-1]}
        return names

    async def orphans(self) -> list[Pack]:
        """Whole packs of ours that no index names: a writer was ended before it came so far. `learn` first."""
        found: list[Pack] = []
        async for key in self.store.keys(PACKS):
            name = key.rpartition("/")[2]
            if name in self.catalogue.packs:
                continue
            try:
                pack = await self.read_pack_record(name)
            except (Corrupt, NotStored, WrongKey):
                continue  # half written where stores are no good, or another's; `check` tells
            if pack.writer == self.keys.writer:
                found.append(pack)
        return found

    async def read_pack_record(self, name: str) -> Pack:
        """What a pack says of itself. Raises Corrupt, NotStored, WrongKey."""
        key = pack_key(name)
        size = await self.store.size(key)
        tail = await self.store.get_range(key, max(0, size - TAIL.size), TAIL.size)
        length = footer_length(tail, name)
        start = size - TAIL.size - length
        if start < 0:
            raise Corrupt(f"pack {name} was cut off")
        head = await self.store.get_range(key, 0, min(_HEAD_BYTES, size))
        return read_footer(self.keys, name, head, await self.store.get_range(key, start, length), size)

    async def put_record(self, key: str, record: msgspec.Struct) -> None:
        """Seal and store a record. Raises AlreadyStored."""
        await self.store.put(key, close_object(self.keys, key, pack_up(record)))

    async def get_record(self, key: str, type: type[Record]) -> Record:
        """Raises NotStored, Corrupt, WrongKey."""
        body, _ = open_object(self.keys, key, await self.store.get(key))
        return unpack(body, type, key)

    async def commit(self, id: CommitId, prefix: str = "") -> CommitRecord:
        """The stored commit `id`. Raises NotStored, and Corrupt when it can't be read or is another's."""
        record = await self.get_record(commit_key(id, prefix), CommitRecord)
        if record.void:
            raise NotStored(f"there is no commit {id}: its writer was not heard of for long, and lost the number")
        if record.commit.id != id:
            raise Corrupt(f"the record of commit {id} is that of {record.commit.id}")
        return record

    async def commits(self, listing: Listing) -> list[CommitRecord]:
        """The commits of the main line, oldest first; void ones and those forgotten meanwhile left out."""
        found = await gather(self._commit_at(key) for key in listing.commits)
        return [record for record in found if record is not None]

    def new_name(self) -> str:
        """32 hexadecimal digits that name nothing yet."""
        return self.entropy(16).hex()

    async def _commit_at(self, key: str) -> CommitRecord | None:
        try:
            return await self.commit(commit_of(key))
        except NotStored:
            return None

    async def read_index(self, name: str) -> tuple[IndexObject, str]:
        """An index object, and who wrote it. Raises NotStored, Corrupt, WrongKey."""
        key = index_key(name)
        body = self.cache.read(f"index-{name}") if self.cache else None
        if body is None:
            body = await self.store.get(key)
            if self.cache:
                self.cache.write(f"index-{name}", body)
        plain, writer = open_object(self.keys, key, body)
        return unpack(plain, IndexObject, key), writer


async def look(store: Store) -> Listing:
    """What lies under `state/` in `store`; no key is needed for that."""
    kinds: dict[str, list[str]] = {"commits": [], "branches": [], "index": [], "doomed": [], "pending": []}
    others = []
    async for key in store.keys(STATE):
        kind, _, rest = key.removeprefix(STATE).partition("/")
        if kind in ("commits", "branches"):
            kinds[kind].append(key)
        elif kind in kinds:
            kinds[kind].append(rest)
        else:
            others.append(key)
    return Listing(
        tuple(sorted(kinds["commits"])),
        tuple(sorted(kinds["branches"])),
        frozenset(kinds["index"]),
        frozenset(kinds["doomed"]),
        frozenset(kinds["pending"]),
        frozenset(others),
    )


async def create_repository(store: Store, wrap: Wrap, entropy: Entropy) -> Repository:
    """A new repository in an empty store, opened. Raises AlreadyStored when there is one."""
    secret, repository = entropy(SECRET_BYTES), entropy(REPOSITORY_BYTES)
    keys = keys_of(secret, repository)
    config = Config(VERSION, repository, keys.public, wrap(secret, entropy(SALT_BYTES)))
    await store.put(CONFIG, msgspec.msgpack.encode(config))
    await mark(store, config)
    return Repository(store, keys, entropy)


async def read_config(store: Store) -> Config:
    """The plain record that says how to open the repository. Raises NotStored, Corrupt, BadInput (version)."""
    try:
        body = await store.get(CONFIG)
    except NotStored:
        body = await store.get(SECOND_CONFIG)  # it is being replaced, or was when somebody was ended (`keyring.py`)
    try:
        config = msgspec.msgpack.decode(body, type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"the repository's config can't be read: {error}") from error
    if config.version != VERSION:
        raise BadInput(f"the repository is of version {config.version}, this program reads {VERSION}")
    return config


def open_repository(store: Store, config: Config, secret: bytes, entropy: Entropy) -> Repository:
    """The repository of that config; `secret` is what `unlock` found. Raises WrongKey when it is another's."""
    keys = keys_of(secret, config.repository)
    if keys.public != config.public:
        raise WrongKey("the key opens another repository than this one: its config was changed")
    return Repository(store, keys, entropy)


def unlock(slots: Iterable[Slot], passphrase_or_key: bytes) -> bytes:
    """The secret, by the first slot that opens. Raises WrongKey when none does."""
    for slot in slots:
        try:
            return unwrap(slot, passphrase_or_key)
        except WrongKey:
            continue
    raise WrongKey("the passphrase or key does not open this repository")


def marker_key(repository: bytes) -> str:
    """An empty object that tells, in the one listing, that this is still the repository of that id."""
    return f"{STATE}id/{repository.hex()}"


async def mark(store: Store, config: Config) -> None:
    """Put the marker there if it is missing: whoever made the repository was ended before."""
    try:
        await store.put(marker_key(config.repository), b"")
    except AlreadyStored:
        return


async def gather(tasks: Iterable[Awaitable[_T]]) -> list[_T]:
    """All results in order, AT_ONCE at a time."""
    free = asyncio.Semaphore(AT_ONCE)

    async def run(task: Awaitable[_T]) -> _T:
        try:
            async with free:
                return await task
        finally:
            if asyncio.iscoroutine(task):
                task.close()  # another one failed before this one's turn

    return list(await asyncio.gather(*(run(task) for task in tasks)))


def parts(packs: list[Pack]) -> Iterable[list[Pack]]:
    """Packs as index objects hold them: INDEX_CHUNKS_MAX chunks at most."""
    return batches(packs, lambda pack: sum(len(frame.lengths) for frame in pack.frames), INDEX_CHUNKS_MAX)
