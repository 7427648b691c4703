"""A server thins and prunes a workspace's store while its host goes on storing: in a directory, and on a real S3.

The host is the agent's own code behind a store link, whose every write passes the server's scrutiny.
"""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from dumont.agent.grant import Grant
from dumont.agent.history import StoredHistory
from dumont.clock import SystemClock
from dumont.control.act import Acts, Landing
from dumont.control.observe import Observatory
from dumont.control.scrutiny import Scrutiny, Standing
from dumont.control.shelf import Shelf
from dumont.control.upkeep import FAILED, THINNED, Upkeep
from dumont.control.vault import Vault
from dumont.db.memory import MemoryDatabase
from dumont.errors import LinkClosed, StoreError
from dumont.model.commit import Commit, CommitId
from dumont.model.policy import Policy, Retention
from dumont.model.workspace import State, Workspace
from dumont.repository.record import STATE, CommitRecord
from dumont.repository.repository import Listing
from dumont.repository.upkeep.claims import Claims
from dumont.repository.upkeep.labels import label
from dumont.repository.upkeep.prune import Prune
from dumont.repository.upkeep.prune import Terms as PruneTerms
from dumont.repository.upkeep.verify import Terms, Verdict, verify
from dumont.store.address import parse
from dumont.store.base import Store
from dumont.store.cloud import open_cloud
from dumont.store.directory import DirectoryStore
from dumont.store.remote import RemoteStore
from dumont.wire.store import StorePut
from tests.integration.archivist import scanned
from tests.integration.depot import settle
from tests.integration.s3_server import BUCKET, S3Server
from tests.unit.memory_link import Line, line

pytestmark = pytest.mark.timeout(180)
START = datetime(2026, 1, 1, tzinfo=UTC)
FILE_BYTES = 100_000
TRIES_MAX = 50


@dataclass
class Gate:
    """Where a host's writes pass: one under `prefix` waits until it is opened. `reached` says that one does."""

    prefix: str = "-"
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def passes(self, key: str) -> None:
        if key.startswith(self.prefix):
            self.reached.set()
            await self.opened.wait()


class Server:
    """A server over a real store, with one workspace, and the machines that store what it holds."""

    def __init__(self, store: Store, top: Path) -> None:
        self.top = top
        clock = SystemClock()
        self.database = MemoryDatabase(clock)
        self.vault = Vault(store, bytes(range(32)), os.urandom)
        landing = Landing(server_port=1, ca_pem="", token_for=lambda instance_id: instance_id)
        acts = Acts(self.database, {}, landing, clock, Random(1))
        self.upkeep = Upkeep(acts, Observatory(clock), self.vault, grace_s=0)
        self.gates = {name: Gate() for name in ("gpu-1", "gpu-2", "gpu-3")}
        self.refuse = Scrutiny(self.vault).refusal
        self.standings = {name: Standing("train", 3, leads=name == "gpu-1") for name in self.gates}
        self.ends: list[Line] = []
        self.serving: list[asyncio.Task[None]] = []

    async def launch(self, retention: Retention) -> None:
        policy = Policy(retention=retention)
        await self.database.add_workspace(Workspace(name="train", created_at=START, policy=policy, epoch=3))
        await self.describe(state=State.RUNNING)

    async def describe(self, **fields: object) -> None:
        row = await self.database.workspace("train")
        await self.database.describe(replace(row, **fields))  # type: ignore[arg-type]

    async def machine(self, name: str = "gpu-1") -> "Machine":
        key = (await self.vault.open("train")).keys.chunk_key
        for folder in ("tree", "data"):
            (self.top / name / folder).mkdir(parents=True)
        grant = Grant(RemoteStore(lambda: self._dial(name), name), key)  # type: ignore[arg-type]
        top = self.top / name
        return Machine(self, top / "tree", StoredHistory(grant.repository, top / "tree", top / "data", SystemClock()))

    async def _dial(self, name: str) -> Line:
        far, near = line(name)
        gate = self.gates[name]
        receive = near.receive

        async def slow() -> object:
            message = await receive()
            if isinstance(message, StorePut):
                await gate.passes(message.key)
            return message

        near.receive = slow  # type: ignore[method-assign]
        self.ends.append(far)
        self.serving.append(asyncio.create_task(self._serve(near, name)))
        return far

    async def _serve(self, near: Line, name: str) -> None:
        await near.receive()
        with contextlib.suppress(LinkClosed):
            shelf = Shelf(self.vault, lambda *what: self.refuse(*what))
            await shelf.serve(near, lambda: self.standings[name])  # type: ignore[arg-type]

    async def kept(self) -> list[CommitId]:
        repo = await self.vault.open("train")
        return [record.commit.id for record in await repo.commits(await repo.look())]

    async def check(self) -> Verdict:
        return await verify(await self.vault.open("train"), Terms(read_data=True))

    async def facts(self, kind: str) -> list[dict[str, object]]:
        return [dict(event.facts) for event in await self.database.events("train", 1000) if event.kind == kind]


@dataclass
class Machine:
    """An agent's history, and the tree that it stores."""

    server: Server
    tree: Path
    history: StoredHistory

    async def keep(self, id: CommitId) -> Commit:
        """Store the tree as it is now as that commit, trying again as an engine does: a prune that allows no time takes
        what was not claimed yet. Then the server hears of it in the agent's next status.
        """
        settle()
        tree = scanned(self.tree, (await self.server.vault.open("train")).keys.chunk_key)
        for _ in range(TRIES_MAX):
            with contextlib.suppress(StoreError):
                kept = await self.history.keep(Commit(id, None, tree.root(), 0, consistent=True), tree)
                await self.server.describe(stored=id)
                return kept
        raise StoreError(f"commit {id} was never stored")

    def change(self, number: int) -> None:
        """A file of its own, one that changes in part, and some small ones."""
        rng = Random(number)
        (self.tree / "own").write_bytes(rng.randbytes(FILE_BYTES))
        with (self.tree / "log").open("ab") as log:
            log.write(rng.randbytes(FILE_BYTES))
        (self.tree / f"small-{number % 3}").write_bytes(rng.randbytes(500))


@pytest.fixture(params=["directory", "s3"])
async def server(request: pytest.FixtureRequest, short_dir: Path) -> AsyncIterator[Server]:
    if request.param == "s3":
        s3: S3Server = request.getfixturevalue("s3_server")
        store: Store = open_cloud(parse(f"s3://{BUCKET}/{uuid.uuid4().hex}"), s3.environment())
        await store.put("first", b"")  # makes the bucket
    else:
        (short_dir / "store").mkdir()
        store = DirectoryStore(short_dir / "store")
    server = Server(store, short_dir)
    yield server
    for end in server.ends:
        end.close()
    await asyncio.gather(*server.serving)


async def restored(server: Server, id: CommitId, name: str) -> bytes:
    """The root of what another machine gets back of a commit."""
    found = await (await server.machine(name)).history.restore(id)
    return found.tree.root()


async def test_a_host_stores_on_while_the_server_thins_and_prunes(server: Server) -> None:
    """Once a minute for weeks, and every few hours: they meet."""
    await server.launch(Retention(2, 0, 0, 0))
    host = await server.machine()
    host.change(0)
    await host.keep(CommitId(3, 1))
    await label(await server.vault.open("train"), CommitId(3, 1), name="before the long run")
    first = (await (await server.vault.open("train")).commit(CommitId(3, 1))).commit.root
    stored = asyncio.Event()

    async def work() -> Commit:
        try:
            for seq in range(2, 14):
                host.change(seq)
                kept = await host.keep(CommitId(3, seq))
                stored.set()
            return kept
        finally:
            stored.set()

    working = asyncio.create_task(work())
    while not working.done():
        await server.upkeep.tidy("train")  # while the next commit is being stored; its second try is left alone
        await stored.wait()
        stored.clear()
    kept = await working
    await server.upkeep.tidy("train")
    assert await server.kept() == [CommitId(3, 1), CommitId(3, 12), CommitId(3, 13)]
    verdict = await server.check()
    assert verdict.is_good, verdict.damage
    assert await restored(server, CommitId(3, 13), "gpu-2") == kept.root
    assert await restored(server, CommitId(3, 1), "gpu-3") == first
    told = await server.facts(THINNED)
    assert sum(int(str(facts["forgotten"])) for facts in told) == 10
    assert sum(int(str(facts["freed_bytes"])) for facts in told) > FILE_BYTES
    assert not await server.facts(FAILED)


async def paused_at(server: Server, prefix: str) -> tuple[Machine, "asyncio.Task[Commit]"]:
    """A host that has stored commit 3.1, and stopped in 3.2 just before it writes what begins with `prefix`."""
    await server.launch(Retention(1, 0, 0, 0))
    host = await server.machine()
    host.change(0)
    await host.keep(CommitId(3, 1))
    gate = server.gates["gpu-1"] = Gate(prefix)
    host.change(1)
    saving = asyncio.create_task(host.keep(CommitId(3, 2)))
    await _dialled_anew(server)
    await gate.reached.wait()
    return host, saving


async def _dialled_anew(server: Server) -> None:
    """Have the host's next requests pass the new gate."""
    server.ends[0].close()


@pytest.mark.parametrize("prefix", [f"{STATE}index/", f"{STATE}pending/", f"{STATE}commits/"])
async def test_a_host_that_pauses_beyond_the_grace_loses_nothing(server: Server, prefix: str) -> None:
    """A machine is suspended for a week in the middle of a save; with a grace of nothing, so is any."""
    _, saving = await paused_at(server, prefix)
    for _ in range(2):
        await server.upkeep.tidy("train")
    server.gates["gpu-1"].opened.set()
    kept = await saving
    assert (await server.check()).is_good
    assert await restored(server, CommitId(3, 2), "gpu-2") == kept.root
    await server.upkeep.tidy("train")
    assert await server.kept() == [CommitId(3, 2)]
    assert (await server.check()).is_good


class _Deaf(Claims):
    """Takes no notice of what savers claim."""

    async def settle(self, listing: Listing, change: bool) -> set[str]:
        return set()

    async def held(self, listing: Listing) -> set[str]:
        return set()


class _DeafPrune(Prune):
    claims = _Deaf


async def _believe(standing: Callable[[], Standing], key: str, data: bytes) -> str:
    """No scrutiny at all."""
    return ""


@pytest.mark.parametrize("believes", [False, True])
async def test_control_a_prune_that_is_deaf_to_claims_takes_a_paused_hosts_work(server: Server, believes: bool) -> None:
    """Negative control of the one above: the same pause, and the commit can't be restored. With the server's scrutiny,
    which looks whether a commit's tree is there, it is refused at least, and stored anew.
    """
    _, saving = await paused_at(server, f"{STATE}commits/")
    await _DeafPrune(await server.vault.open("train"), PruneTerms(2**31, 0)).run()
    if believes:
        server.refuse = _believe  # type: ignore[assignment]
    server.gates["gpu-1"].opened.set()
    await saving
    assert (await server.check()).is_good is not believes


async def test_a_failover_in_the_middle_leaves_the_new_line_and_the_branch(server: Server) -> None:
    """The old primary is paused before it names its commit; the new one stores; a round comes; the old one wakes."""
    host, saving = await paused_at(server, f"{STATE}commits/")
    server.standings |= {"gpu-1": Standing("train", 4, False, "gpu-1-e3"), "gpu-2": Standing("train", 4, True)}
    other = await server.machine("gpu-2")
    other.change(7)
    kept = await other.keep(CommitId(4, 2))
    for _ in range(2):
        await server.upkeep.tidy("train")
    assert await server.kept() == [CommitId(4, 2)]
    server.gates["gpu-1"].opened.set()
    with pytest.raises(StoreError):
        await saving
    server.gates["gpu-1"].prefix = "-"
    tree = scanned(host.tree, (await server.vault.open("train")).keys.chunk_key)
    branch = await host.history.keep_branch("gpu-1-e3", tree, CommitId(3, 1), set())
    await server.upkeep.tidy("train")
    assert (await server.check()).is_good
    assert await server.kept() == [CommitId(4, 2)]
    repo = await server.vault.learned("train")
    assert len((await repo.look()).branches) == 1 and repo.catalogue.relies_on(branch.root) is not None
    assert await restored(server, CommitId(4, 2), "gpu-3") == kept.root


async def test_a_host_has_no_right_to_what_upkeep_writes(server: Server) -> None:
    """Who could say when commits arrived could thin out those of others (I7)."""
    await server.launch(Retention())
    host = await server.machine()
    await host.keep(CommitId(3, 1))
    repo = await host.history._opening()
    refused: list[Callable[[], Awaitable[None]]] = [
        lambda: repo.put_record(
            f"{STATE}arrivals/0000000009", CommitRecord(2, Commit(CommitId(3, 1), None, b"", 0, True))
        ),
        lambda: repo.store.delete(f"{STATE}commits/00000003-000000000001"),
    ]
    for attempt in refused:
        with pytest.raises(StoreError):
            await attempt()
    assert await server.kept() == [CommitId(3, 1)]
