"""Rounds of upkeep: when a workspace's store is looked after, by what, and what a person is told of it."""

from dataclasses import replace
from random import Random

import pytest

from dumont.control.act import Acts, Landing
from dumont.control.observe import Observatory
from dumont.control.upkeep import FAILED, ROUND_EVERY_S, THINNED, Upkeep
from dumont.control.vault import Vault
from dumont.db.memory import MemoryDatabase
from dumont.model.branch import Branch
from dumont.model.commit import Commit, CommitId
from dumont.model.instance import Instance, InstanceState, Machine, Role
from dumont.model.policy import Policy, Retention
from dumont.model.workspace import State, Wanted, Workspace
from dumont.repository.record import VERSION, CommitRecord, commit_key
from dumont.snapshot.tree import EMPTY_DIRECTORY
from dumont.store.memory import MemoryStore
from dumont.wire.control import Endpoints, Status
from tests.clocks import BEGAN, HandClock


class Server:
    """One server over memory. Its workspace `train` has `commits` of an empty directory in its store."""

    def __init__(self) -> None:
        self.clock = HandClock(1000.0)
        self.database = MemoryDatabase(self.clock)
        self.store = MemoryStore()
        self.restart()

    def restart(self) -> None:
        """Another process over the same database and store."""
        self.observatory = Observatory(self.clock)
        landing = Landing(server_port=1, ca_pem="", token_for=lambda instance_id: instance_id)
        self.acts = Acts(self.database, {}, landing, self.clock, Random(1))
        self.vault = Vault(self.store, bytes(32), Random(self.clock.seconds).randbytes)
        self.upkeep = Upkeep(self.acts, self.observatory, self.vault)

    async def launch(self, commits: int, **fields: object) -> None:
        policy = Policy(retention=Retention(1, 0, 0, 0))
        row = Workspace(name="train", created_at=BEGAN, policy=policy, epoch=3, state=State.RUNNING)
        await self.database.add_workspace(row)
        await self.describe(state=State.RUNNING, stored=CommitId(3, commits), **fields)
        for seq in range(1, commits + 1):
            await self.add(seq)

    async def add(self, seq: int) -> None:
        at_ns = int(self.clock.now().timestamp()) * 10**9
        commit = Commit(CommitId(3, seq), None, EMPTY_DIRECTORY, at_ns, consistent=True)
        repo = await self.vault.open("train")
        await repo.put_record(commit_key(commit.id), CommitRecord(VERSION, commit))

    async def describe(self, **fields: object) -> None:
        row = await self.database.workspace("train")
        await self.database.describe(replace(row, **fields))  # type: ignore[arg-type]

    async def kept(self) -> list[int]:
        repo = await self.vault.open("train")
        return [record.commit.id.seq for record in await repo.commits(await repo.look())]

    async def events(self, kind: str) -> list[dict[str, object]]:
        return [dict(event.facts) for event in await self.database.events("train") if event.kind == kind]


@pytest.fixture
def server() -> Server:
    return Server()


async def test_a_round_thins_by_the_policy_and_tells_what_went(server: Server) -> None:
    """Silence about a deletion would be the last thing that anybody wants."""
    await server.launch(5)
    await server.upkeep.round_all()
    assert await server.kept() == [5]
    told = await server.events(THINNED)
    facts = {"forgotten": 4, "kept": 1, "first": "3.1", "last": "3.4", "packs_deleted": 0, "freed_bytes": 0}
    assert told == [facts | {"took_ms": 0}]


async def test_the_next_round_is_due_after_some_hours_also_of_another_server(server: Server) -> None:
    """A server that is started anew every minute must not read every store each time."""
    await server.launch(2)
    await server.upkeep.round_all()
    await server.describe(stored=CommitId(3, 4))
    await server.add(3)
    await server.add(4)
    server.clock.seconds += ROUND_EVERY_S - 10
    await server.upkeep.round_all()
    assert await server.kept() == [2, 3, 4], "not yet"
    server.restart()
    await server.upkeep.round_all()
    assert await server.kept() == [2, 3, 4], "not yet, says the store"
    server.clock.seconds += 20
    await server.upkeep.round_all()
    assert await server.kept() == [4]


@pytest.mark.parametrize(
    "fields",
    [
        *({"state": state} for state in State if state not in (State.RUNNING, State.DEGRADED, State.DELETED)),
        {"wanted": Wanted.DELETED},
    ],
)
async def test_only_a_workspace_that_serves_is_thinned(server: Server, fields: dict[str, object]) -> None:
    """In a failover, or while one is restored, somebody may be reading what is there."""
    await server.launch(3)
    if "wanted" in fields:
        await server.database.want("train", Wanted.DELETED)
    else:
        await server.describe(**fields)
    await server.upkeep.round_all()
    assert await server.kept() == [1, 2, 3]


async def test_a_policy_that_keeps_everything_is_obeyed_in_silence(server: Server) -> None:
    """That is what was asked for."""
    await server.launch(3, policy=Policy(retention=Retention(0, 0, 0, 0)))
    await server.upkeep.round_all()
    assert await server.kept() == [1, 2, 3]
    assert not await server.events(THINNED) and not await server.events(FAILED)


async def test_a_store_that_lacks_what_the_database_knows_is_told_once_and_left_alone(server: Server) -> None:
    """A person has to look at that, and reads a line, not a thousand."""
    await server.launch(3)
    await server.describe(stored=CommitId(3, 9))
    for _ in range(3):
        await server.upkeep.tidy("train")
    assert await server.kept() == [1, 2, 3]
    assert ["3.9" in str(facts["why"]) for facts in await server.events(FAILED)] == [True]
    await server.describe(stored=CommitId(3, 3))
    await server.upkeep.tidy("train")
    assert await server.kept() == [3]


async def test_a_damaged_store_is_told_once_and_nothing_is_forgotten(server: Server) -> None:
    """What is to stay can't be restored: the older ones may be all there is."""
    await server.launch(3)
    commit = Commit(CommitId(3, 4), None, b"\1" * 32, 0, consistent=True)
    await (await server.vault.open("train")).put_record(commit_key(commit.id), CommitRecord(VERSION, commit))
    for _ in range(2):
        await server.upkeep.tidy("train")
    assert await server.kept() == [1, 2, 3, 4]
    assert len(await server.events(FAILED)) == 1 and not await server.events(THINNED)


async def test_what_a_branch_or_a_replica_relies_on_stays(server: Server) -> None:
    """By what the database and the agents say at that moment."""
    await server.launch(6)
    branch = Branch(
        workspace="train", name="b", commit=CommitId(3, 3), root="", created_at=BEGAN, forked_from=CommitId(3, 2)
    )
    await server.database.add_branch(branch)
    instance = Instance(
        id="cpu-1", workspace="train", machine=Machine.CPU, provider="memory", state=InstanceState.RENTED,
        price_micros_per_hour=1, created_at=BEGAN,
    )  # fmt: skip
    await server.database.add_instance(instance)
    status = Status("cpu-1", 3, Role.STANDBY, Endpoints("cpu-1", 1, 2, 3), head=CommitId(3, 4))
    server.observatory.agent_opened("cpu-1")
    server.observatory.status(status)
    await server.upkeep.round_all()
    assert await server.kept() == [2, 4, 6]


async def test_a_workspace_whose_round_fails_keeps_no_other_from_its_own(server: Server) -> None:
    """One customer's broken bucket is not another's."""
    await server.launch(3)
    other = Workspace(name="early", created_at=BEGAN, policy=Policy(), state=State.RUNNING)
    await server.database.add_workspace(other)
    await server.database.describe(replace(other, stored=CommitId(1, 1)))
    repo = await server.vault.open("early")
    await repo.put_record(commit_key(CommitId(1, 1)), CommitRecord(VERSION, Commit(CommitId(1, 2), None, b"", 0, True)))
    await server.upkeep.round_all()
    assert await server.kept() == [3]
    assert [event.kind for event in await server.database.events("early")] == [FAILED]
