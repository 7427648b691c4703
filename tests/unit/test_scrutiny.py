"""What a stranger may add to its workspace's part of the store, and what it may not, however it is dressed up."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import msgspec
import pytest
import zstandard
from msgspec.structs import replace

from dumont.control import scrutiny
from dumont.control.scrutiny import Scrutiny, Standing, check_pack, prohibition
from dumont.control.vault import Vault
from dumont.errors import Corrupt, NotStored, StoreError
from dumont.model.commit import Commit, CommitId
from dumont.repository.codec import LZ4, RAW, ZSTD, Coder
from dumont.repository.fetch import data_fetcher
from dumont.repository.keys import Keys, keys_of, writer_keys
from dumont.repository.pack import PACK_PLAIN_BYTES_MAX, TAIL, Chunks, PackBuilder, frame_about
from dumont.repository.record import (
    DATA,
    STATE,
    TREE,
    VERSION,
    CommitRecord,
    Doomed,
    Frame,
    IndexObject,
    Labels,
    Pack,
    Pending,
    branch_prefix,
    commit_key,
    index_key,
    pack_key,
    pack_up,
)
from dumont.repository.repository import Repository
from dumont.repository.seal import FOOTER, MAGIC, close_object, seal_for
from dumont.snapshot.chunk import chunk_id
from dumont.snapshot.tree import TOP, digest_listing, encode_listing
from dumont.store.memory import MemoryStore
from tests.unit.tiny_repository import TinyRepository

PRIMARY = Standing("train", 3, leads=True)
STANDBY = Standing("train", 3, leads=False)
FENCED = Standing("train", 3, leads=False, branch="gpu-1-e2")
NAME = "0123456789abcdef" * 2
BLOCK = b"what a person will save later" * 100


@dataclass
class Host:
    """A host that holds its workspace's keys and does with them what it likes. `repo` is its view, unguarded."""

    vault: Vault
    repo: Repository
    scrutiny: Scrutiny
    rng: Random

    async def refusal(self, key: str, data: bytes, standing: Standing = PRIMARY) -> str:
        return await self.scrutiny.refusal(lambda: standing, key, data)

    async def offer(self, key: str, record: msgspec.Struct, standing: Standing = PRIMARY) -> str:
        """The refusal of a record, sealed as it should be."""
        return await self.refusal(key, close_object(self.repo.keys, key, pack_up(record)), standing)

    def pack(self, frames: list[tuple[int, list[tuple[bytes, bytes]]]], codec: int = RAW) -> tuple[Pack, bytes]:
        """A pack of `(kind, [(id, body)])` frames, whatever the ids say."""
        builder = PackBuilder(self.repo.keys, lambda: self.rng.randbytes(16).hex(), lambda: 7)
        coder = Coder()
        for kind, content in frames:
            chunks = Chunks()
            for id, body in content:
                chunks.add(id, len(body))
            plain = memoryview(bytearray(b"".join(body for _, body in content)))
            builder.add(codec, kind, coder.encode(codec, plain), chunks)
        pack, body = builder.close()
        return pack, bytes(body)

    def named(self, body: bytes) -> tuple[bytes, bytes]:
        return chunk_id(body, self.repo.keys.chunk_key), body

    async def stored(self, *bodies: bytes) -> Pack:
        """An honest pack of data, in the store and indexed."""
        pack, body = self.pack([(DATA, [self.named(block) for block in bodies])])
        await self.repo.store.put(pack_key(pack.name), body)
        await self.repo.add_to_index([pack])
        return pack

    async def stored_tree(self) -> bytes:
        """The root of an empty tree, in the store and indexed."""
        below = encode_listing([])
        top = encode_listing([(TOP, None, digest_listing(below))])
        pack, body = self.pack([(TREE, [(digest_listing(top), top)])])
        await self.repo.store.put(pack_key(pack.name), body)
        await self.repo.add_to_index([pack])
        return digest_listing(top)

    def crafted(self, frames: list[Frame], sealed: bytes = b"", claims: Callable[[Pack], Pack] = lambda p: p) -> bytes:
        """A pack called NAME whose footer says whatever it is told to."""
        seal = seal_for(self.repo.keys, pack_key(NAME))
        pack = claims(Pack(NAME, seal.writer, seal.ephemeral, 0, 7, frames))
        footer = seal.close(FOOTER, b"footer", pack_up(pack))
        return seal.head() + sealed + footer + TAIL.pack(len(footer), MAGIC)


@pytest.fixture
async def host() -> Host:
    rng = Random(1)
    vault = Vault(MemoryStore(), bytes(32), rng.randbytes)
    return Host(vault, await vault.open("train"), Scrutiny(vault), rng)


# --- who may add what


@pytest.mark.parametrize(
    ("standing", "key", "allowed"),
    [
        (PRIMARY, commit_key(CommitId(3, 9)), True),
        (PRIMARY, commit_key(CommitId(4, 9)), False),
        (STANDBY, commit_key(CommitId(3, 9)), False),
        (FENCED, commit_key(CommitId(2, 9)), False),
        (FENCED, commit_key(CommitId(2, 9), branch_prefix("gpu-1-e2")), True),
        (FENCED, commit_key(CommitId(2, 9), branch_prefix("gpu-2-e1")), False),
        (FENCED, f"{STATE}branches/gpu-1-e2/other", False),
        (FENCED, f"{STATE}branches/gpu-1-e2/commits/a/b", False),
        (PRIMARY, commit_key(CommitId(2, 9), branch_prefix("gpu-1-e2")), False),
        (PRIMARY, commit_key(CommitId(2, 9), branch_prefix("")), False),
        (PRIMARY, f"{STATE}commits/3-9", False),
        (PRIMARY, f"{STATE}commits/00000003-000000000009/x", False),
        (PRIMARY, f"{STATE}pending/3-9-{NAME}", True),
        (PRIMARY, f"{STATE}pending/4-9-{NAME}", False),
        (PRIMARY, f"{STATE}pending/3-9", False),
        (STANDBY, f"{STATE}pending/3-9-{NAME}", False),
        (FENCED, f"{STATE}pending/2-9-{NAME}", True),
        (STANDBY, index_key(NAME), True),
        (FENCED, pack_key(NAME), True),
        (PRIMARY, index_key("abc"), False),
        (PRIMARY, f"packs/ff/{NAME}", False),
        (PRIMARY, f"packs/{NAME}", False),
        (PRIMARY, f"packs/01/{NAME.upper()}", False),
    ],
)
def test_only_who_leads_names_commits(standing: Standing, key: str, allowed: bool) -> None:
    """A fenced host could otherwise take the names of commits that its successor is to store."""
    assert (prohibition(standing, key) == "") is allowed


@pytest.mark.parametrize(
    "key",
    [
        "config",
        f"{STATE}id/{NAME}",
        f"{STATE}keys/{NAME}",
        f"{STATE}doomed/{NAME}",
        f"{STATE}prune-lock",
        f"{STATE}labels/{NAME}",
        f"{STATE}anything",
        "anything",
        "../other/config",
        "",
    ],
)
@pytest.mark.parametrize("standing", [PRIMARY, STANDBY, FENCED])
async def test_what_is_the_servers_is_never_a_hosts(host: Host, standing: Standing, key: str) -> None:
    """A host that dooms packs, adds a passphrase or locks prunes out would own the history for ever."""
    assert await host.refusal(key, b"", standing) != ""
    assert await host.offer(key or "x", Doomed(VERSION, []), standing) != ""


async def test_a_primary_that_was_fenced_meanwhile_names_nothing(host: Host) -> None:
    """Verifying takes time; what counts is the standing when it is over."""
    record = CommitRecord(VERSION, Commit(CommitId(3, 1), None, await host.stored_tree(), 0, consistent=True))
    key = commit_key(CommitId(3, 1))
    standings = iter([PRIMARY, replace_standing(PRIMARY, leads=False)])
    data = close_object(host.repo.keys, key, pack_up(record))
    assert "only the primary" in await host.scrutiny.refusal(lambda: next(standings), key, data)
    assert await host.refusal(key, data) == ""


def replace_standing(standing: Standing, leads: bool) -> Standing:
    return Standing(standing.workspace, standing.epoch, leads, standing.branch)


# --- packs


@pytest.mark.parametrize("codec", [RAW, LZ4, ZSTD])
async def test_an_honest_pack_passes(host: Host, codec: int) -> None:
    """A rule that refuses what is right keeps nobody's work."""
    listing = encode_listing([])
    pack, body = host.pack(
        [
            (DATA, [host.named(BLOCK), host.named(b""), host.named(BLOCK[1:])]),
            (TREE, [(digest_listing(listing), listing)]),
        ],
        codec,
    )
    assert await host.refusal(pack_key(pack.name), body) == ""


async def test_junk_under_a_chunks_name_is_refused_wherever_it_lies(host: Host) -> None:
    """One chunk among thousands is enough to take somebody's file away."""
    honest = [host.named(host.rng.randbytes(1000)) for _ in range(20)]
    claimed = host.named(BLOCK)[0]
    for at in (0, 7, 20):
        content = [*honest[:at], (claimed, b"junk" * 10), *honest[at:]]
        pack, body = host.pack([(DATA, honest[:3]), (DATA, content)])
        assert "does not hold chunk" in await host.refusal(pack_key(pack.name), body)


async def test_a_directory_object_is_verified_too(host: Host) -> None:
    """Who forges a directory forges all below it."""
    pack, body = host.pack([(TREE, [(digest_listing(b"another"), encode_listing([]))])])
    assert "does not hold chunk" in await host.refusal(pack_key(pack.name), body)
    id, block = host.named(BLOCK)
    pack, body = host.pack([(TREE, [(id, block)])])  # a keyed id under the kind whose ids are plain
    assert await host.refusal(pack_key(pack.name), body) != ""


async def test_a_pack_under_another_name_or_for_another_repository_is_refused(host: Host) -> None:
    """Sealing binds both."""
    pack, body = host.pack([(DATA, [host.named(BLOCK)])])
    assert await host.refusal(pack_key(NAME), body) != ""
    other = await host.vault.open("other")
    elsewhere = Host(host.vault, other, host.scrutiny, host.rng)
    pack, body = elsewhere.pack([(DATA, [elsewhere.named(BLOCK)])])
    assert await host.refusal(pack_key(pack.name), body) != ""


@pytest.mark.parametrize("length", [0, 3, 7, 50, 400])
async def test_half_a_pack_is_refused(host: Host, length: int) -> None:
    """In words, and without an error that nobody foresaw."""
    pack, body = host.pack([(DATA, [host.named(BLOCK)])])
    assert await host.refusal(pack_key(pack.name), body[:length]) != ""
    assert await host.refusal(pack_key(pack.name), body[length + 1 :]) != ""


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0, 10, RAW, DATA, 10, bytes(32), [11]),
        Frame(0, 10, RAW, DATA, 0, b"", []),
        Frame(0, -1, RAW, DATA, 10, bytes(32), [10]),
        Frame(-5, 10, RAW, DATA, 10, bytes(32), [10]),
        Frame(0, 10**12, RAW, DATA, 10, bytes(32), [10]),
        Frame(0, 10, 10**9, DATA, 10, bytes(32), [10]),
        Frame(0, 10, -1, DATA, 10, bytes(32), [10]),
        Frame(0, 10, 3, DATA, 10, bytes(32), [10]),
        Frame(0, 10, RAW, 2, 10, bytes(32), [10]),
        Frame(0, 10, RAW, -1, 10, bytes(32), [10]),
        Frame(0, 10, RAW, DATA, 10, bytes(31), [10]),
        Frame(0, 10, RAW, DATA, -10, bytes(32), [-10]),
        Frame(0, 10, RAW, DATA, 2**33, bytes(32), [2**33]),
    ],
)
async def test_a_footer_that_makes_no_sense_is_refused(host: Host, frame: Frame) -> None:
    """A stranger writes it: no number in it may be trusted, and none may end the server's thread."""
    with pytest.raises(Corrupt):
        check_pack(host.repo.keys, NAME, host.crafted([frame], bytes(100)))


async def test_what_unpacks_to_more_than_it_should_is_refused_before_it_is_unpacked(host: Host) -> None:
    """A few kilobytes must not cost the server its memory or an hour."""
    bomb = zstandard.ZstdCompressor().compress(bytes(scrutiny.RECORD_PLAIN_BYTES_MAX + 1))
    key = index_key(NAME)
    assert "claims to hold" in await host.refusal(key, close_object(host.repo.keys, key, bomb))
    seal = seal_for(host.repo.keys, pack_key(NAME))
    footer = seal.close(FOOTER, b"footer", bomb)
    body = seal.head() + footer + TAIL.pack(len(footer), MAGIC)
    assert "claims to hold" in await host.refusal(pack_key(NAME), body)
    each = scrutiny.FRAME_PLAIN_BYTES_MAX
    frames = [Frame(0, 10, ZSTD, DATA, each, bytes(32), [each])] * (PACK_PLAIN_BYTES_MAX // each + 1)
    assert "decodes to more" in await host.refusal(pack_key(NAME), host.crafted(frames, bytes(100)))


async def test_no_pack_of_ours_decodes_to_more_than_the_server_allows(host: Host) -> None:
    """Logs and zeros pack a hundred to one: the writer has to close a pack before the server would refuse it."""
    builder = PackBuilder(host.repo.keys, lambda: NAME, lambda: 7)
    chunk = 16 * 2**20
    added = 0
    while not builder.is_full_for(100, 1):
        chunks = Chunks()
        chunks.add(bytes(32), chunk)
        builder.add(ZSTD, DATA, b"tiny", chunks)
        added += chunk
    assert PACK_PLAIN_BYTES_MAX - 2**27 < added + chunk <= PACK_PLAIN_BYTES_MAX
    builder.close()
    assert not builder.is_full_for(100, 1)


async def test_an_open_frame_is_bound_to_its_place(host: Host) -> None:
    """Frames of one pack can't be exchanged for one another either."""
    seal = seal_for(host.repo.keys, pack_key(NAME))
    blocks = [b"one" * 10, b"two" * 10]
    sealed = [seal.close(n, frame_about(n, RAW, DATA, 30), block) for n, block in enumerate(blocks)]
    start = len(seal.head())
    ids = [host.named(block)[0] for block in blocks]
    for order, passes in (((0, 1), True), ((1, 0), False)):
        frames = [Frame(start + 46 * at, 46, RAW, DATA, 30, ids[n], [30]) for at, n in enumerate(order)]
        footer = seal.close(FOOTER, b"footer", pack_up(Pack(NAME, "", seal.ephemeral, 0, 7, frames)))
        body = seal.head() + b"".join(sealed[n] for n in order) + footer + TAIL.pack(len(footer), MAGIC)
        assert (await host.refusal(pack_key(NAME), body) == "") is passes


# --- index objects


async def test_an_index_that_tells_the_truth_passes(host: Host) -> None:
    """Also of packs that were indexed before: saves and prunes put packs together anew."""
    packs = [await host.stored(b"%d" % number * 50) for number in range(3)]
    assert await host.offer(index_key(NAME), IndexObject(VERSION, packs)) == ""


async def test_an_index_that_says_more_than_its_packs_is_refused(host: Host) -> None:
    """It is what others rely on without reading a pack."""
    pack = await host.stored(b"%d" * 50)
    frame = pack.frames[0]
    claimed = host.named(BLOCK)[0]
    lies = [
        replace(pack, frames=[replace(frame, ids=claimed)]),
        replace(pack, frames=[frame, frame]),
        replace(pack, frames=[]),
        replace(pack, size=pack.size + 1),
        replace(pack, created_s=2**40),
        replace(pack, writer="somebody"),
        replace(pack, ephemeral=bytes(32)),
        replace(pack, name=NAME),
        replace(pack, name="../../other/config"),
    ]
    for lie in lies:
        assert await host.offer(index_key(NAME), IndexObject(VERSION, [lie])) != ""
    assert "twice" in await host.offer(index_key(NAME), IndexObject(VERSION, [pack, pack]))


async def test_a_record_of_another_kind_is_refused(host: Host) -> None:
    """Decoding is where a parser would be asked for what it was not made for."""
    assert await host.offer(index_key(NAME), Labels(VERSION, "x", ())) != ""
    assert await host.offer(index_key(NAME), Doomed(VERSION, ["x"])) != ""
    assert await host.refusal(index_key(NAME), b"junk") != ""


# --- commits


async def test_a_commit_whose_tree_is_stored_passes(host: Host) -> None:
    """On the main line by the primary, on its own branch by the one that was fenced."""
    root = await host.stored_tree()
    record = CommitRecord(VERSION, Commit(CommitId(2, 9), None, root, 0, consistent=True))
    assert await host.offer(commit_key(CommitId(2, 9)), record) == ""
    assert await host.offer(commit_key(CommitId(2, 9), branch_prefix("gpu-1-e2")), record, FENCED) == ""


async def test_a_commit_that_is_not_what_its_place_says_is_refused(host: Host) -> None:
    """Whoever restores it would get another, or nothing."""
    root = await host.stored_tree()
    key = commit_key(CommitId(3, 9))
    good = Commit(CommitId(3, 9), None, root, 0, consistent=True)
    assert "another commit" in await host.offer(key, CommitRecord(VERSION, replace(good, id=CommitId(3, 8))))
    assert "prune" in await host.offer(key, CommitRecord(VERSION, good, void=True))
    missing = replace(good, root=bytes(32))
    assert "not in the store" in await host.offer(key, CommitRecord(VERSION, missing))
    assert await host.refusal(key, b"junk") != ""
    sealed_elsewhere = close_object(host.repo.keys, commit_key(CommitId(3, 8)), pack_up(CommitRecord(VERSION, good)))
    assert await host.refusal(key, sealed_elsewhere) != ""


async def test_a_commit_is_not_named_on_a_pack_that_is_being_deleted(host: Host) -> None:
    """A prune is at work; the writer's own protocol stores the tree anew, and a writer without one must not get by."""
    root = await host.stored_tree()
    doomed = [key.rpartition("/")[2] async for key in host.repo.store.keys("packs/")]
    await host.repo.put_record(f"{STATE}doomed/{NAME}", Doomed(VERSION, doomed))
    record = CommitRecord(VERSION, Commit(CommitId(3, 9), None, root, 0, consistent=True))
    assert "not in the store" in await host.offer(commit_key(CommitId(3, 9)), record)


async def test_a_pending_record_announces_what_its_place_says(host: Host) -> None:
    """It keeps packs from being pruned, so a host may do that for its own commits only."""
    key = f"{STATE}pending/3-9-{NAME}"
    good = Pending(VERSION, CommitId(3, 9), [NAME])
    assert await host.offer(key, good) == ""
    assert "another commit" in await host.offer(key, replace(good, commit=CommitId(3, 8)))
    assert await host.offer(key, replace(good, prefix=branch_prefix("gpu-1-e2"))) != ""
    assert await host.offer(key, good, FENCED) != ""
    assert await host.offer(key, replace(good, prefix=branch_prefix("gpu-1-e2")), FENCED) == ""
    assert await host.offer(key, replace(good, prefix="branches/gpu-2-e1/"), FENCED) != ""


# --- the attack, whole


async def test_a_hostile_host_cannot_have_later_saves_lose_what_they_save() -> None:
    """It knows a file that is to be saved one day, and stores junk under its chunk's name beforehand."""
    assert await _attacked(lambda s, k, d: Scrutiny(s).refusal(lambda: PRIMARY, k, d)) == BLOCK


async def test_control_without_the_scrutiny_the_later_save_loses_its_data() -> None:
    """If it lost nothing, the rule would guard nothing."""

    async def blind(vault: Vault, key: str, data: bytes) -> str:
        return ""

    with pytest.raises(Corrupt):
        await _attacked(blind)


async def test_control_an_index_alone_would_be_enough_of_a_lie() -> None:
    """The pack is honest and the index is not: to verify packs only would not do."""

    async def packs_only(vault: Vault, key: str, data: bytes) -> str:
        return await Scrutiny(vault).refusal(lambda: PRIMARY, key, data) if key.startswith("packs/") else ""

    async def all_of_it(vault: Vault, key: str, data: bytes) -> str:
        return await Scrutiny(vault).refusal(lambda: PRIMARY, key, data)

    with pytest.raises(Corrupt):
        await _attacked(packs_only, honest_pack=True)
    assert await _attacked(all_of_it, honest_pack=True) == BLOCK


async def _attacked(refusal: Callable, honest_pack: bool = False) -> bytes:  # type: ignore[type-arg]
    """What comes back of BLOCK, saved after the attack by an honest writer. Raises Corrupt when it is lost."""
    tiny = await TinyRepository.make()
    vault = _OneVault(tiny)
    hostile = Host(vault, tiny.again(), Scrutiny(vault), Random(2))
    claimed, _ = hostile.named(BLOCK)
    id, junk = hostile.named(bytes(len(BLOCK)))
    pack, body = hostile.pack([(DATA, [(id if honest_pack else claimed, junk)])])
    if not await refusal(vault, pack_key(pack.name), body):
        await tiny.store.put(pack_key(pack.name), body)
    lie = replace(pack, frames=[replace(pack.frames[0], ids=claimed)])
    index = close_object(hostile.repo.keys, index_key(NAME), pack_up(IndexObject(VERSION, [lie])))
    if not await refusal(vault, index_key(NAME), index):
        await tiny.store.put(index_key(NAME), index)
    await tiny.save({b"precious": [BLOCK]})
    repo = tiny.again()
    await repo.learn(await repo.look())
    return await data_fetcher(repo).chunk(claimed)


class _OneVault(Vault):
    """A vault whose one workspace is a tiny repository."""

    def __init__(self, tiny: TinyRepository) -> None:
        super().__init__(tiny.store, bytes(32), tiny.rng.randbytes)
        self._tiny = tiny

    async def open(self, workspace: str) -> Repository:
        return self._tiny.again()


async def test_a_writers_key_gets_no_further(host: Host) -> None:
    """A host that seals as somebody else is no less a stranger."""
    keys: Keys = writer_keys(host.repo.keys, "another")
    key = index_key(NAME)
    pack = await host.stored(b"1" * 50)
    lie = IndexObject(VERSION, [replace(pack, size=1)])
    assert await host.refusal(key, close_object(keys, key, pack_up(lie))) != ""
    stranger = keys_of(bytes(32), bytes(16))
    assert await host.refusal(key, close_object(stranger, key, pack_up(IndexObject(VERSION, [pack])))) != ""


async def test_a_store_that_is_away_is_no_verdict(host: Host) -> None:
    """The host tries again then, and must not be told that its work is no good."""

    class Away(MemoryStore):
        async def size(self, key: str) -> int:
            raise StoreError("away")

    pack = await host.stored(b"1" * 50)
    vault = Vault(Away(), bytes(32), host.rng.randbytes)
    repo = await vault.open("train")
    key = index_key(NAME)
    data = close_object(repo.keys, key, pack_up(IndexObject(VERSION, [pack])))
    with pytest.raises(StoreError, match="away") as raised:
        await Scrutiny(vault).refusal(lambda: PRIMARY, key, data)
    assert not isinstance(raised.value, NotStored)
