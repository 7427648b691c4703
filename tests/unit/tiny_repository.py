"""A small repository in memory, whose packs, frames and trees a test decides, and whose bytes it can reach."""

import random

from dumont.model.commit import Commit, CommitId, Entry, Kind
from dumont.repository.codec import RAW
from dumont.repository.keys import Keys, wrap_with_key, writer_keys
from dumont.repository.naming import Needs, name_commit
from dumont.repository.pack import Chunks, PackBuilder
from dumont.repository.record import DATA, TREE, VERSION, CommitRecord, Pack, pack_key
from dumont.repository.repository import Repository, create_repository
from dumont.snapshot.chunk import chunk_id
from dumont.snapshot.tree import EMPTY_DIRECTORY, TOP, Tree, digest_listing, encode_listing, parent_of
from dumont.store.memory import MemoryStore

DAY_S = 24 * 3600
KEY = bytes(32)


class OpenStore(MemoryStore):
    """A store in memory whose objects a test may change."""

    @property
    def objects(self) -> dict[str, bytes]:
        return self._objects

    @objects.setter
    def objects(self, objects: dict[str, bytes]) -> None:
        self._objects = objects


class TinyRepository:
    """`save` makes a commit of files. `now_s` is the writers' clock. `bodies` are all chunks that were ever stored."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.store = OpenStore()
        self.now_s = 1_700_000_000
        self.repo: Repository

    @classmethod
    async def make(cls, seed: int = 1) -> "TinyRepository":
        tiny = cls(seed)
        tiny.repo = await create_repository(
            tiny.store, lambda secret, salt: wrap_with_key(secret, KEY, salt, "server"), tiny.rng.randbytes
        )
        return tiny

    def again(self, writer: str = "") -> Repository:
        """The repository, opened anew, as `writer`."""
        keys = writer_keys(self.repo.keys, writer) if writer else self.repo.keys
        return Repository(self.store, keys, self.rng.randbytes)

    def id(self, body: bytes) -> bytes:
        return chunk_id(body, self.repo.keys.chunk_key)

    def tree(self, files: dict[bytes, list[bytes]]) -> tuple[Tree, dict[bytes, bytes], bytes]:
        """A tree of those files, the bodies of its directory objects by id, and its root."""
        tree = Tree({TOP: Entry(Kind.DIRECTORY, 0o755, 0, 0, 0)})
        for path, blocks in files.items():
            above = parent_of(path)
            if above not in tree:
                tree.put(above, Entry(Kind.DIRECTORY, 0o755, 0, 0, 0))
            chunks = tuple(self.id(block) for block in blocks)
            size = sum(len(block) for block in blocks)
            tree.put(path, Entry(Kind.FILE, 0o644, 0, 0, 0, size, chunks))
        bodies = {}
        for path, entry in tree.entries():
            if entry.kind is Kind.DIRECTORY:
                body = tree.directory_object(path)
                bodies[digest_listing(body)] = body
        top = encode_listing([(TOP, tree.get(TOP), digest_listing(tree.directory_object(TOP)))])
        bodies[digest_listing(top)] = top
        bodies.pop(EMPTY_DIRECTORY, None)
        return tree, bodies, digest_listing(top)

    async def store_pack(self, frames: list[tuple[int, list[bytes]]], keys: Keys | None = None) -> Pack:
        """A pack of `(kind, bodies)` frames, not indexed."""
        builder = PackBuilder(keys or self.repo.keys, self.repo.new_name, lambda: self.now_s, 4096)
        for kind, bodies in frames:
            chunks = Chunks()
            for body in bodies:
                chunks.add(self.id(body) if kind == DATA else digest_listing(body), len(body))
            builder.add(RAW, kind, b"".join(bodies), chunks)
        pack, body = builder.close()
        await self.store.put(pack_key(pack.name), body)
        return pack

    async def save(self, files: dict[bytes, list[bytes]], writer: str = "", **about: object) -> CommitRecord:
        """A commit of `files`, lists of blocks; each new block is a frame of one pack, directories of another."""
        repo = self.again(writer)
        listing = await repo.look()
        await repo.learn(listing)
        _, bodies, root = self.tree(files)
        blocks = {self.id(block): block for file in files.values() for block in file}
        packs = []
        new = [block for id, block in blocks.items() if not repo.catalogue.relies_on(id)]
        if new:
            packs.append(await self.store_pack([(DATA, [block]) for block in new], repo.keys))
        new = [body for id, body in bodies.items() if not repo.catalogue.relies_on(id)]
        if new:
            packs.append(await self.store_pack([(TREE, [body]) for body in new], repo.keys))
        relied = {pack.name for id in (*blocks, *bodies) if (pack := repo.catalogue.relies_on(id))}
        names = await repo.add_to_index(packs)
        id = CommitId(0, listing.last_seq() + 1)
        record = CommitRecord(
            VERSION,
            Commit(id, None, root, self.now_s * 10**9, consistent=True),
            **about,  # type: ignore[arg-type]
        )
        needs = Needs(frozenset(relied | {pack.name for pack in packs}), repo.learned | frozenset(names))
        named = await name_commit(repo, record, needs, "", renumber=True)
        assert named is not None
        self.now_s += 60
        return named
