"""What people ask of histories: other rules for a workspace, a term for what a removed one left, and its deletion."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from dumont.control import ask, keeping
from dumont.control.act import Acts, Landing
from dumont.control.ask import Parts
from dumont.control.clearing import DELETED, FAILED, SURE_S
from dumont.control.keeping import CHANGED
from dumont.control.observe import Observatory
from dumont.control.upkeep import LOOK_EVERY_S, ROUND_EVERY_S, Upkeep
from dumont.control.vault import Vault, placed_by
from dumont.db.memory import MemoryDatabase
from dumont.errors import BadInput, NoSuchHistory, NoSuchWorkspace, StoreError
from dumont.model.commit import Commit, CommitId
from dumont.model.past import FOR_EVER
from dumont.model.policy import Policy, Retention
from dumont.model.workspace import State, Wanted, Workspace
from dumont.repository.record import VERSION, CommitRecord, commit_key
from dumont.snapshot.tree import EMPTY_DIRECTORY
from dumont.store.memory import MemoryStore
from tests.clocks import BEGAN, HandClock

DAY_S = 24 * 3600
DAY = timedelta(days=1)
LAST = Retention(1, 0, 0, 0)


class Moody(MemoryStore):
    """A store that refuses to delete while `angry`."""

    angry = False

    async def delete(self, key: str) -> None:
        if self.angry:
            raise StoreError("the bucket says no")
        await super().delete(key)


class Stuck(MemoryStore):
    """A store to which somebody goes on adding."""

    async def delete(self, key: str) -> None:
        await super().delete(key)
        await self.put(key, b"again")


class Server:
    """One server over memory, with a workspace `train` that has stored some commits."""

    def __init__(self, store: MemoryStore | None = None, clock: HandClock | None = None) -> None:
        self.clock = clock or HandClock(1000.0)
        self.database = MemoryDatabase(self.clock)
        self.store = store or Moody()
        self.restart()

    def restart(self) -> None:
        """Another process over the same database and store."""
        observatory = Observatory(self.clock)
        landing = Landing(server_port=1, ca_pem="", token_for=lambda instance_id: instance_id)
        acts = Acts(self.database, {}, landing, self.clock, Random(1))
        vault = Vault(self.store, bytes(32), Random(self.clock.seconds).randbytes, placed_by(self.database))
        hub = Bell()
        self.parts = Parts(acts, hub, observatory, None, vault, NoKeys(), Random(1))  # type: ignore[arg-type]
        self.upkeep = Upkeep(acts, observatory, vault, due=self.parts.upkeep_due)

    async def launch(self, commits: int) -> None:
        await self.database.add_workspace(Workspace(name="train", created_at=BEGAN, policy=Policy(), epoch=3))
        epoch = (await self.database.workspace("train")).epoch
        await self.describe(state=State.RUNNING, stored=CommitId(epoch, commits))
        repo = await self.parts.vault.open("train")
        for seq in range(1, commits + 1):
            at_ns = int(self.clock.now().timestamp()) * 10**9
            commit = Commit(CommitId(epoch, seq), None, EMPTY_DIRECTORY, at_ns, consistent=True)
            await repo.put_record(commit_key(commit.id), CommitRecord(VERSION, commit))

    async def describe(self, **fields: object) -> None:
        row = await self.database.workspace("train")
        await self.database.describe(replace(row, **fields))  # type: ignore[arg-type]

    async def remove(self, term: timedelta | None = None) -> None:
        """Asked for, and done by the control loop."""
        await ask.remove(self.parts, "train", term)
        await self.describe(state=State.DELETED)

    async def pass_days(self, days: float) -> None:
        """Time passes, with looks now and then."""
        for _ in range(round(days * 4)):
            self.clock.seconds += DAY_S / 4
            await self.upkeep.round_all()

    async def kept(self) -> list[int]:
        repo = await self.parts.vault.open("train")
        return [record.commit.id.seq for record in await repo.commits(await repo.look())]

    async def objects(self, folder: str) -> int:
        return len([key async for key in self.store.keys(f"workspaces/{folder}/")])

    async def events(self, kind: str) -> list[dict[str, object]]:
        return [dict(event.facts) for event in await self.database.events("train") if event.kind == kind]


class NoKeys:
    """Nobody may log in."""

    def keys(self) -> tuple[str, ...]:
        return ()


class Bell:
    """What of the hub is rung."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()


@pytest.fixture
def server() -> Server:
    return Server()


async def test_the_next_round_goes_by_the_new_rules(server: Server) -> None:
    """Otherwise a person would have to launch anew to make room."""
    await server.launch(5)
    await server.upkeep.round_all()
    row, found = await keeping.keep(server.parts, "train", LAST, agreed=True)
    assert row.policy.retention == LAST
    assert [record.commit.id.seq for record in found.taken] == [1, 2, 3, 4]
    assert await server.kept() == [1, 2, 3, 4, 5], "the change itself lets nothing go"
    server.clock.seconds += ROUND_EVERY_S
    await server.upkeep.round_all()
    assert await server.kept() == [5]
    rules = {"rules": "last=1", "before": "last=60,hourly=48,daily=14,weekly=8"}
    assert await server.events(CHANGED) == [rules]


async def test_rules_that_take_commits_have_to_be_agreed_to(server: Server) -> None:
    """What is let go is gone."""
    await server.launch(3)
    before = await server.database.workspace("train")
    with pytest.raises(BadInput, match="lets go of 2 commits that now stay: agree to it, as `--yes` does"):
        await keeping.keep(server.parts, "train", LAST, agreed=False)
    assert await server.database.workspace("train") == before
    assert not await server.events(CHANGED)
    await keeping.keep(server.parts, "train", Retention(0, 0, 0, 0), agreed=False)  # more is no loss
    with pytest.raises(BadInput):
        await keeping.keep(server.parts, "train", LAST, agreed=False)


async def test_a_forecast_changes_nothing_and_is_what_the_round_does(server: Server) -> None:
    """A dry run that tells something else than what happens is worse than none."""
    await server.launch(6)
    before = dict(server.store._objects)
    row = await server.database.workspace("train")
    found = await keeping.foresee(server.parts, row, LAST)
    assert server.store._objects == before
    await keeping.keep(server.parts, "train", LAST, agreed=True)
    await server.upkeep.round_all()
    assert await server.kept() == [record.commit.id.seq for record in found.kept] == [6]


async def test_the_rules_of_what_is_being_deleted_stay(server: Server) -> None:
    """It would look as if somebody had saved it."""
    await server.launch(2)
    await ask.remove(server.parts, "train")
    with pytest.raises(BadInput, match="is being deleted"):
        await keeping.keep(server.parts, "train", Retention(9, 0, 0, 0), agreed=True)


async def test_a_removed_workspaces_history_stays_for_its_term_and_then_goes(server: Server) -> None:
    """Somebody notices on Monday what was deleted on Friday; after a month nobody does."""
    await server.launch(3)
    await server.remove()
    (kept,) = await keeping.histories(server.parts)
    assert kept.past.keep_until == server.clock.now() + 30 * DAY
    assert kept.amount.objects == await server.objects("train") > 3
    assert kept.amount.bytes == sum(len(body) for body in server.store._objects.values())
    await server.pass_days(29.75)
    assert await server.objects("train") == kept.amount.objects
    await server.pass_days(0.5)
    assert await server.objects("train") == 0
    assert await keeping.histories(server.parts) == []
    (told,) = await server.events(DELETED)
    assert (told["history"], told["objects"], told["freed_bytes"]) == ("train", kept.amount.objects, kept.amount.bytes)


async def test_a_term_for_ever_never_ends_and_a_day_does(server: Server) -> None:
    """Both can be said when it is removed, and after that."""
    await server.launch(1)
    await server.remove(FOR_EVER)
    await server.pass_days(400)
    kept = await keeping.extend(server.parts, "train", "1")
    assert kept.past.keep_until == server.clock.now() + DAY
    await server.pass_days(0.75)
    await keeping.extend(server.parts, "train", "2")
    await server.pass_days(1.75)
    assert await server.objects("train")
    await server.pass_days(0.5)
    assert not await server.objects("train")


async def test_a_clock_that_is_wrong_for_a_while_ends_nothing(server: Server) -> None:
    """A virtual machine that wakes up years ahead is put right within seconds, and what was deleted is gone."""
    await server.launch(1)
    await server.remove()
    ahead = timedelta(days=3650)
    now = server.clock.now
    for _ in range(4):
        server.clock.now = lambda: now() + ahead  # type: ignore[method-assign]
        await server.upkeep.round_all()
        server.clock.seconds += SURE_S - 2 * LOOK_EVERY_S
        await server.upkeep.round_all()
        server.clock.now = now  # type: ignore[method-assign]
        server.clock.seconds += LOOK_EVERY_S
        await server.upkeep.round_all()
    assert await server.objects("train"), "none of the four jumps lasted for an hour"
    server.clock.now = lambda: now() + ahead  # type: ignore[method-assign]
    await server.upkeep.round_all()
    server.clock.seconds += SURE_S
    await server.upkeep.round_all()
    assert not await server.objects("train"), "the control: a clock that stays so is believed"


async def test_it_is_deleted_at_once_only_when_its_name_is_said_again(server: Server) -> None:
    """A name from the shell's history is not a decision."""
    await server.launch(2)
    await server.remove(FOR_EVER)
    for again in ("", "Train", "train "):
        with pytest.raises(BadInput, match="nothing was deleted"):
            await keeping.end(server.parts, "train", again)
    await server.pass_days(2)
    assert await server.objects("train")
    assert not server.parts.upkeep_due.is_set()
    ending = await keeping.end(server.parts, "train", "train")
    assert ending.past.ending and server.parts.upkeep_due.is_set(), "the loop need not wait for its next look"
    with pytest.raises(BadInput, match="is being deleted"):
        await keeping.extend(server.parts, "train", "for-ever")
    await keeping.end(server.parts, "train", "train")  # again, while it is going on
    await server.upkeep.round_all()
    assert not await server.objects("train")
    with pytest.raises(NoSuchHistory, match="no removed workspace left a history train"):
        await keeping.end(server.parts, "train", "train")


class Still(HandClock):
    """Nothing is ever due by itself."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


async def test_the_loop_is_woken_by_who_wants_something_deleted() -> None:
    """Nobody should have to wait a minute for the room."""
    server = Server(clock=Still(1000.0))
    await server.launch(1)
    await server.remove()
    loop = asyncio.create_task(server.upkeep.run())
    await keeping.end(server.parts, "train", "train")
    while await keeping.histories(server.parts):
        await asyncio.wait({loop}, timeout=0.01)
        assert not loop.done()
    loop.cancel()
    await asyncio.wait({loop})


async def test_what_lives_cannot_be_deleted_by_its_name(server: Server) -> None:
    """`dumont rm` is for that: it asks, and leaves a time to think."""
    await server.launch(1)
    for _ in range(2):
        with pytest.raises(NoSuchHistory):
            await keeping.end(server.parts, "train", "train")
        await ask.remove(server.parts, "train")  # its machines still run
    await server.pass_days(90)
    assert await server.kept() == [1]


async def test_a_new_workspace_of_the_name_has_a_history_of_its_own(server: Server) -> None:
    """Neither are their commits mixed, nor does the end of one touch the other."""
    await server.launch(4)
    await server.remove()
    await server.launch(2)
    assert (await server.database.workspace("train")).wanted is Wanted.RUNNING
    assert await server.kept() == [1, 2]
    assert [kept.past.folder for kept in await keeping.histories(server.parts)] == ["train"]
    with pytest.raises(NoSuchHistory):
        await keeping.end(server.parts, "train.2", "train.2")
    await keeping.end(server.parts, "train", "train")
    await server.upkeep.round_all()
    assert not await server.objects("train")
    assert await server.kept() == [1, 2]
    await server.remove()
    await server.launch(1)
    assert [kept.past.folder for kept in await keeping.histories(server.parts)] == ["train.2"]
    assert await server.objects("train.3") and not await server.objects("train")


async def test_a_deletion_that_fails_is_told_once_and_tried_again(server: Server) -> None:
    """A store that is away for a night must not fill the timeline, and must not end the work."""
    await server.launch(2)
    await server.remove()
    await keeping.end(server.parts, "train", "train")
    assert isinstance(server.store, Moody)
    server.store.angry = True
    for _ in range(3):
        await server.upkeep.round_all()
    assert await server.events(FAILED) == [{"history": "train", "why": "the bucket says no"}]
    server.restart()
    server.store.angry = False
    await server.upkeep.round_all()
    assert not await server.objects("train") and len(await server.events(DELETED)) == 1


async def test_who_goes_on_writing_there_is_told_of_and_does_not_keep_the_loop() -> None:
    """Somebody's script may use the folder; other workspaces are looked after all the same."""
    server = Server(Stuck())
    await server.launch(1)
    await server.remove()
    await keeping.end(server.parts, "train", "train")
    await server.upkeep.round_all()
    (told,) = await server.events(FAILED)
    assert "goes on writing" in str(told["why"])


async def test_a_server_killed_between_the_record_and_the_wish_has_removed_nothing(server: Server) -> None:
    """The record comes first; a workspace that lives is not told of, and is removed as if nothing had been."""
    await server.launch(2)
    want = server.database.want

    async def die(name: str, wanted: Wanted) -> None:
        raise KeyboardInterrupt

    server.database.want = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        await ask.remove(server.parts, "train", timedelta(0))
    server.database.want = want  # type: ignore[method-assign]
    await server.pass_days(3)
    assert await server.kept() == [1, 2] and await keeping.histories(server.parts) == []
    await server.remove(FOR_EVER)
    await server.pass_days(3)
    assert await server.objects("train") and len(await keeping.histories(server.parts)) == 1


async def test_a_launch_goes_past_histories_that_the_database_does_not_know(server: Server) -> None:
    """It may have been restored from an old copy, or be a new one over an old store: nobody's commits are mixed."""
    await server.launch(2)
    await server.remove()
    await server.launch(1)
    server.database = MemoryDatabase(server.clock)
    server.restart()
    row = await ask.launch(server.parts, "train", Policy())
    assert row.folder == "train.3"
    assert await server.kept() == [] and await server.objects("train") and await server.objects("train.2")


async def test_the_repository_of_a_deleted_workspace_is_not_opened_again(server: Server) -> None:
    """A late machine would begin it anew while it is being deleted."""
    await server.launch(1)
    await server.remove()
    await keeping.end(server.parts, "train", "train")
    await server.upkeep.round_all()
    with pytest.raises(NoSuchWorkspace):
        await server.parts.vault.open("train")
    assert not await server.objects("train")
