"""An agent and its server's store: keys come over the link, and what the agent saves passes the server's scrutiny."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dumont.agent.grant import Grant
from dumont.agent.history import StoredHistory
from dumont.clock import SystemClock
from dumont.control.scrutiny import Scrutiny, Standing
from dumont.control.shelf import Shelf
from dumont.control.vault import Vault
from dumont.demo.merkle import root as walked_root
from dumont.demo.walker import describe, differences
from dumont.errors import Corrupt, LinkClosed, StoreError
from dumont.model.commit import Commit, CommitId
from dumont.repository.record import PACKS, STATE, branch_prefix
from dumont.repository.restoring.restore import read_tree
from dumont.repository.upkeep.verify import Terms, verify
from dumont.snapshot.tree import Tree
from dumont.store.base import Data
from dumont.store.directory import DirectoryStore
from dumont.store.remote import RemoteStore
from tests.integration.archivist import scanned
from tests.integration.depot import settle
from tests.trees import torture
from tests.unit.memory_link import Line, line

PRIMARY = Standing("train", 3, leads=True)
FENCED = Standing("train", 4, leads=False, branch="gpu-1-e3")
HEAD = CommitId(3, 41)


class Medium(DirectoryStore):
    """`failing`: nothing can be put under keys that begin so."""

    failing = "-"
    puts = 0

    async def put(self, key: str, data: Data) -> None:
        self.puts += 1
        if key.startswith(f"workspaces/train/{self.failing}"):
            raise StoreError("the disk of the store is full")
        await super().put(key, data)


@dataclass
class House:
    """A server with a store, and the link of one instance to it."""

    top: Path
    standing: Standing = PRIMARY
    ends: list[Line] = field(default_factory=list)
    serving: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.top / "store").mkdir()
        self.medium = Medium(self.top / "store")
        self.vault = Vault(self.medium, bytes(range(32)), os.urandom)
        self.shelf = Shelf(self.vault, Scrutiny(self.vault).refusal)

    async def history(self, name: str = "gpu-1") -> StoredHistory:
        """What the agent of that machine does with the store."""
        key = (await self.vault.open("train")).keys.chunk_key
        for folder in ("tree", "data"):
            (self.top / name / folder).mkdir(parents=True, exist_ok=True)
        grant = Grant(RemoteStore(self._dial, name), key)  # type: ignore[arg-type]
        return StoredHistory(grant.repository, self.top / name / "tree", self.top / name / "data", SystemClock())

    async def cut(self) -> Tree:
        """What a primary's cut finds in its tree."""
        settle()
        return scanned(self.top / "gpu-1" / "tree", (await self.vault.open("train")).keys.chunk_key)

    async def _dial(self) -> Line:
        far, near = line("gpu-1")
        self.ends.append(far)
        self.serving.append(asyncio.create_task(self._serve(near)))
        return far

    async def _serve(self, near: Line) -> None:
        await near.receive()
        with contextlib.suppress(LinkClosed):
            await self.shelf.serve(near, lambda: self.standing)  # type: ignore[arg-type]


@pytest.fixture
async def house(short_dir: Path) -> AsyncIterator[House]:
    house = House(short_dir)
    yield house
    for end in house.ends:
        end.close()
    await asyncio.gather(*house.serving)


def head(tree: Tree, seq: int = HEAD.seq) -> Commit:
    return Commit(CommitId(3, seq), None, tree.root(), 0, consistent=True)


async def test_what_an_agent_keeps_is_sealed_and_comes_back_elsewhere(house: House) -> None:
    """The story of a paired loss: both machines are gone, the store is not."""
    history = await house.history()
    (house.top / "gpu-1" / "tree").rmdir()
    torture(house.top / "gpu-1" / "tree")
    (house.top / "gpu-1" / "tree" / "secret").write_bytes(b"nobody but the workspace reads this " * 9)
    tree = await house.cut()
    kept = await history.keep(head(tree), tree)
    assert kept == head(tree), "what was cut is what is stored, root and all"
    for path in (house.top / "store").rglob("*"):
        assert path.is_dir() or b"nobody but" not in path.read_bytes()
    restored = await (await house.history("gpu-2")).restore(HEAD)
    assert restored.head == kept and restored.tree.root() == kept.root
    assert differences(describe(house.top / "gpu-1" / "tree"), describe(house.top / "gpu-2" / "tree")) == []
    key = (await house.vault.open("train")).keys.chunk_key
    assert walked_root(house.top / "gpu-2" / "tree", key) == kept.root.hex()
    assert list((house.top / "gpu-2" / "data").iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hand")]
    found = await verify(await house.vault.open("train"), Terms(read_data=True))
    assert not found.damage


async def test_the_next_commit_costs_what_changed(house: House) -> None:
    """Once a minute, beside a trainer, for weeks."""
    history = await house.history()
    top = house.top / "gpu-1" / "tree"
    (top / "big").write_bytes(os.urandom(6 * 2**20))
    for number in range(100):
        (top / f"{number}").write_bytes(os.urandom(500))
    tree = await house.cut()
    await history.keep(head(tree), tree)
    before = sum(path.stat().st_size for path in (house.top / "store").rglob("*") if path.is_file())
    puts = house.medium.puts
    (top / "7").write_bytes(b"changed")
    tree = await house.cut()
    await history.keep(head(tree, 42), tree)
    after = sum(path.stat().st_size for path in (house.top / "store").rglob("*") if path.is_file())
    assert after - before < 2**16
    assert house.medium.puts - puts <= 5


async def test_a_branch_of_a_fenced_primary_is_kept_and_read(house: House) -> None:
    """It is all that is left of what nobody acknowledged."""
    history = await house.history()
    top = house.top / "gpu-1" / "tree"
    (top / "deep").mkdir()
    (top / "deep" / "divergent").write_bytes(b"never acknowledged")
    (top / "same").write_bytes(b"as everywhere")
    tree = await house.cut()
    house.standing = FENCED
    with pytest.raises(StoreError, match="only the primary"):
        await history.keep(head(tree), tree)
    saved = await history.keep_branch("gpu-1-e3", tree, HEAD, {b"deep/divergent"})
    repo = await house.vault.learned("train")
    record = await repo.commit(saved.commit, branch_prefix("gpu-1-e3"))
    assert record.commit.root == saved.root and record.commit.parent == HEAD
    found = await read_tree(repo, saved.root)
    assert [path for path, _ in found.entries()] == [b"", b"deep", b"deep/divergent"]
    assert (await repo.look()).commits == ()
    with pytest.raises(StoreError):
        await history.keep_branch("gpu-2-e3", tree, HEAD, {b"deep/divergent"})


@pytest.mark.parametrize("place", [PACKS, f"{STATE}index/", f"{STATE}pending/", f"{STATE}commits/"])
async def test_a_store_that_fails_is_a_store_error_and_the_next_turn_goes_on(house: House, place: str) -> None:
    """Anything else would end the engine, and with it, once a minute, the work."""
    history = await house.history()
    (house.top / "gpu-1" / "tree" / "file").write_bytes(os.urandom(200_000))
    tree = await house.cut()
    house.medium.failing = place
    with pytest.raises(StoreError, match="full"):
        await history.keep(head(tree), tree)
    house.medium.failing = "-"
    assert await history.keep(head(tree), tree) == head(tree)


async def test_a_link_that_breaks_in_a_save_is_a_store_error(house: House) -> None:
    """The server is restarted at any instant."""
    history = await house.history()
    (house.top / "gpu-1" / "tree" / "file").write_bytes(os.urandom(3 * 2**20))
    tree = await house.cut()

    class Cutting(Medium):
        async def put(self, key: str, data: Data) -> None:
            house.ends[-1].close()
            raise StoreError("away")

    house.vault._store = Cutting(house.top / "store")
    with pytest.raises(StoreError):
        await history.keep(head(tree), tree)
    house.vault._store = house.medium
    assert await history.keep(head(tree), tree) == head(tree)


async def test_a_store_whose_index_was_spoilt_does_not_end_the_engine(house: House) -> None:
    """The workspace's disk is as good as before; only the store needs looking after."""
    history = await house.history()
    (house.top / "gpu-1" / "tree" / "file").write_bytes(os.urandom(200_000))
    tree = await house.cut()
    await history.keep(head(tree), tree)
    for path in (house.top / "store").glob("workspaces/train/state/index/*"):
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="can't be stored"):
        await (await house.history()).keep(head(tree, 42), tree)
    with pytest.raises(Corrupt):
        await (await house.history("gpu-2")).restore(HEAD)


async def test_a_commit_that_is_not_there_is_said_so(house: House) -> None:
    """The database may know of more than a store that was copied back."""
    with pytest.raises(StoreError, match="no"):
        await (await house.history()).restore(HEAD)
