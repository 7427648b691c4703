"""Upkeep of a workspace's store: what one round does, whatever it meets and whenever it is killed."""

from collections.abc import AsyncIterator

import pytest

from dumont.control.thinning import Anchors
from dumont.control.upkeep import OWNER, Order, tidy
from dumont.errors import BadInput, Corrupt, NotStored, StoreError
from dumont.model.commit import CommitId
from dumont.model.policy import Retention
from dumont.repository.record import VERSION, Pending, branch_prefix, commit_key
from dumont.repository.repository import Repository
from dumont.repository.upkeep.arrivals import Arrivals, write_arrivals
from dumont.repository.upkeep.labels import label
from dumont.repository.upkeep.prune import LOCK, Lock, Terms, prune
from dumont.repository.upkeep.verify import Terms as Checks
from dumont.repository.upkeep.verify import verify
from dumont.store.base import Data
from tests.unit.tiny_repository import DAY_S, OpenStore, TinyRepository

LAST = Retention(1, 0, 0, 0)
COMMITS = 6


class Killed(BaseException):
    """The server's process has ended: nothing of it goes on."""


class Mortal:
    """The store as a server sees it that dies just before its `left`-th change; a death between reads changes nothing.

    Once dead it does not so much as look, whatever its `finally` would like to tidy away.
    """

    def __init__(self, store: OpenStore, left: int) -> None:
        self._store, self._left, self._dead = store, left, False

    def _live(self, *, changing: bool = False) -> None:
        self._dead = self._dead or (changing and not self._left)
        if self._dead:
            raise Killed
        self._left -= changing

    async def put(self, key: str, data: Data) -> None:
        self._live(changing=True)
        await self._store.put(key, data)

    async def get(self, key: str) -> bytes:
        self._live()
        return await self._store.get(key)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        self._live()
        return await self._store.get_range(key, start, length)

    async def size(self, key: str) -> int:
        self._live()
        return await self._store.size(key)

    async def exists(self, key: str) -> bool:
        self._live()
        return await self._store.exists(key)

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        self._live()
        async for key in self._store.keys(prefix):
            yield key

    async def delete(self, key: str) -> None:
        self._live(changing=True)
        await self._store.delete(key)


async def with_history() -> TinyRepository:
    """COMMITS commits, each with a file of its own and two that stay; then two days pass."""
    tiny = await TinyRepository.make()
    for seq in range(1, COMMITS + 1):
        files = {b"same": [b"s" * 900], b"d/same": [b"t" * 700], b"own": [b"%d" % seq * 2000], b"d/own": [b"%d" % seq]}
        assert (await tiny.save(files)).commit.id.seq == seq
    tiny.now_s += 2 * DAY_S
    return tiny


def order(tiny: TinyRepository, retention: Retention = LAST, seq: int = COMMITS, **other: object) -> Order:
    return Order(retention, Anchors(CommitId(0, seq)), tiny.now_s, **other)  # type: ignore[arg-type]


async def commits(repo: Repository) -> list[int]:
    return [record.commit.id.seq for record in await repo.commits(await repo.look())]


async def check_whole(tiny: TinyRepository) -> None:
    """Every commit that is listed can be restored to the last byte."""
    found = await verify(tiny.again(), Checks(read_data=True))
    assert found.is_good, (found.damage, found.hits)


async def test_what_no_rule_keeps_goes_and_so_does_what_only_that_needed() -> None:
    """Four objects a minute would otherwise be there for ever."""
    tiny = await with_history()
    before = {key: len(body) for key, body in tiny.store.objects.items()}
    done = await tidy(tiny.again(), order(tiny))
    assert await commits(tiny.again()) == [COMMITS]
    await check_whole(tiny)
    left = {key: len(body) for key, body in tiny.store.objects.items()}
    assert len(left) < len(before) / 2
    freed = sum(size for key, size in before.items() if key.startswith("packs/"))
    freed -= sum(size for key, size in left.items() if key.startswith("packs/"))
    assert done.pruned.freed_bytes == freed > 0, "what a person is told is what the store holds less"
    facts = {"forgotten": 5, "kept": 1, "first": "0.1", "last": "0.5"}
    assert done.facts() == facts | {"packs_deleted": done.pruned.deleted, "freed_bytes": freed}
    again = await tidy(tiny.again(), order(tiny))
    assert not again.thinning.forgotten and not again.pruned.deleted, "the next round has nothing to do"


async def test_snapshots_branches_and_what_may_be_restored_stay() -> None:
    """For each of them somebody counts on it."""
    tiny = await with_history()
    await label(tiny.again(), CommitId(0, 2), name="before the long run")
    record = await tiny.again().commit(CommitId(0, 3))
    branch = commit_key(CommitId(0, 3), branch_prefix("gpu-1-e2"))
    await tiny.repo.put_record(branch, record)
    await tidy(tiny.again(), order(tiny, seq=5))
    assert await commits(tiny.again()) == [2, 5, 6]
    assert (await tiny.again().look()).branches == (branch,)
    await check_whole(tiny)


@pytest.mark.parametrize("kind", ["pack", "size", "directory"])
async def test_nothing_is_forgotten_while_what_is_to_stay_is_not_whole(kind: str) -> None:
    """An older commit may be all that can still be restored (I5)."""
    tiny = await with_history()
    root = (await tiny.again().commit(CommitId(0, COMMITS))).commit.root
    repo = tiny.again()
    await repo.catch_up()
    wanted = tiny.id(b"%d" % COMMITS * 2000) if kind != "directory" else root
    spot = repo.catalogue.find(wanted)
    assert spot is not None
    key = f"packs/{spot[0].name[:2]}/{spot[0].name}"
    body = tiny.store.objects.pop(key)
    if kind == "size":
        tiny.store.objects[key] = body[:-1]
    elif kind == "directory":
        at = spot[0].frames[spot[1]].offset
        tiny.store.objects[key] = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    before = {key: body for key, body in tiny.store.objects.items() if "arrivals" not in key}
    with pytest.raises(Corrupt):
        await tidy(tiny.again(), order(tiny))
    assert {key: body for key, body in tiny.store.objects.items() if "arrivals" not in key} == before


async def test_a_copy_that_does_not_read_as_it_was_stored_replaces_nothing() -> None:
    """A medium that loses what it said it stored must not get the only copy (I5)."""
    tiny = await with_history()

    class Forgetful(OpenStore):
        async def get(self, key: str) -> bytes:
            body = await super().get(key)
            return body[:-1] + bytes([body[-1] ^ 1]) if key in new else body

        async def put(self, key: str, data: Data) -> None:
            await super().put(key, data)
            if key.startswith("packs/"):
                new.add(key)

    new: set[str] = set()
    bad = Forgetful()
    bad.objects = tiny.store.objects
    packs = {key for key in bad.objects if key.startswith("packs/")}
    repo = tiny.again()
    repo.store = bad
    with pytest.raises(StoreError, match="does not read as it was stored"):
        await tidy(repo, order(tiny))
    assert new and packs <= bad.objects.keys()
    await check_whole(tiny)


async def test_a_server_killed_before_any_change_loses_nothing_and_the_next_one_ends_the_work() -> None:
    """Level-triggered: there is no state but what lies in the store."""
    killed = 0
    tiny = await with_history()
    await label(tiny.again(), CommitId(0, 2), name="kept")
    begin = dict(tiny.store.objects)
    for left in range(10_000):
        tiny.store.objects = dict(begin)
        repo = tiny.again()
        repo.store = Mortal(tiny.store, left)
        try:
            await tidy(repo, order(tiny))
        except Killed:
            killed += 1
        else:
            break
        assert {2, COMMITS} <= set(await commits(tiny.again()))
        await check_whole(tiny)
        tiny.now_s += 3600
        await tidy(tiny.again(), order(tiny))
        assert await commits(tiny.again()) == [2, COMMITS]
        await check_whole(tiny)
        listing = await tiny.again().look()
        assert not listing.doomed and LOCK not in listing.others
        assert len([key for key in listing.others if "arrivals" in key]) == 1
    assert killed > 25


async def test_a_lock_of_a_server_that_died_is_broken_and_nobody_elses() -> None:
    """A person who prunes by hand may be at work on another machine."""
    tiny = await with_history()
    await tiny.repo.put_record(LOCK, Lock(VERSION, "x", tiny.now_s, OWNER))
    await tidy(tiny.again(), order(tiny))
    assert LOCK not in tiny.store.objects
    await tiny.repo.put_record(LOCK, Lock(VERSION, "x", tiny.now_s))
    with pytest.raises(BadInput, match="another prune"):
        await tidy(tiny.again(), order(tiny))
    assert LOCK in tiny.store.objects
    with pytest.raises(BadInput):
        await prune(tiny.again(), Terms(tiny.now_s, owner="another"))


async def pending(tiny: TinyRepository, seq: int) -> None:
    record = Pending(VERSION, CommitId(0, seq), [], created_s=tiny.now_s - 10 * DAY_S)
    await tiny.repo.put_record(f"state/pending/0-{seq}-x", record)


async def test_a_primary_that_paused_for_days_can_still_store_its_commit() -> None:
    """It has no other number for it: with the number gone, the newest commit of a quiet workspace never got there."""
    tiny = await with_history()
    await pending(tiny, COMMITS + 1)
    await tidy(tiny.again(), order(tiny))
    assert "state/pending/0-7-x" in tiny.store.objects
    assert (await tiny.save({b"new": [b"n" * 300]})).commit.id.seq == COMMITS + 1
    await check_whole(tiny)


async def test_by_age_alone_such_a_primary_would_lose_its_number() -> None:
    """The negative control: a prune by hand, of a repository without a server, knows of nothing but age."""
    tiny = await with_history()
    await pending(tiny, COMMITS + 1)
    await prune(tiny.again(), Terms(tiny.now_s))
    assert "state/pending/0-7-x" not in tiny.store.objects
    assert (await tiny.save({b"new": [b"n" * 300]})).commit.id.seq == COMMITS + 2


async def test_a_saver_of_an_older_commit_that_was_not_heard_of_for_long_is_stopped() -> None:
    """No primary goes back to it, and its claim must not keep packs for ever."""
    tiny = await with_history()
    await pending(tiny, 3)
    await tidy(tiny.again(), order(tiny))
    assert "state/pending/0-3-x" not in tiny.store.objects
    with pytest.raises(NotStored):
        await tiny.again().commit(CommitId(0, 3))
    assert await commits(tiny.again()) == [COMMITS]


async def test_a_host_that_dates_its_commits_as_it_likes_thins_out_nobody_elses() -> None:
    """It leads for an hour, and may not decide about the month before (I7)."""
    tiny = await TinyRepository.make()
    for day in range(8):
        tiny.now_s += DAY_S
        await tiny.save({b"own": [b"%d" % day * 500]})
        await tidy(tiny.again(), order(tiny, Retention(0, 0, 30, 0), seq=day + 1))
    honest_s = tiny.now_s
    for day in range(20):  # one a day into the future, and into the past
        for at_s in (honest_s + day * DAY_S, honest_s - day * DAY_S + DAY_S // 2):
            tiny.now_s = at_s
            await tiny.save({b"junk": [b"%d" % (day * at_s)]})
    tiny.now_s = honest_s + 600
    await tidy(tiny.again(), order(tiny, Retention(0, 0, 30, 0), seq=48))
    kept = await commits(tiny.again())
    assert kept[:7] == [1, 2, 3, 4, 5, 6, 7] and len(kept) <= 10, "its forty count as made while it led"


async def test_arrivals_are_what_protects_from_such_a_host() -> None:
    """The negative control: without what it saw before, the server would let honest days go."""
    tiny = await TinyRepository.make()
    for day in range(8):
        tiny.now_s += DAY_S
        await tiny.save({b"own": [b"%d" % day * 500]})
    honest_s = tiny.now_s
    for day in range(8):
        tiny.now_s = honest_s - day * DAY_S + 60  # a little later on each day that was
        await tiny.save({b"junk": [b"%d" % day]})
    tiny.now_s = honest_s + 600
    await tidy(tiny.again(), order(tiny, Retention(0, 0, 30, 0), seq=16))
    assert not {1, 2, 3, 4, 5, 6, 7} & set(await commits(tiny.again()))


async def test_two_servers_at_once_do_no_harm() -> None:
    """There is one; a mistake of an operator must cost a round, and no data."""
    tiny = await with_history()
    listing = await tiny.again().look()
    await write_arrivals(tiny.repo, listing, Arrivals(VERSION, tiny.now_s, []))
    repo = tiny.again()

    class Late(OpenStore):
        """Its first listing is an old one."""

        async def keys(self, prefix: str = "") -> AsyncIterator[str]:
            async for key in super().keys(prefix):
                if "arrivals" not in key:
                    yield key

    late = Late()
    late.objects = tiny.store.objects
    repo.store = late
    with pytest.raises(StoreError):
        await tidy(repo, order(tiny))
    assert await commits(tiny.again()) == list(range(1, COMMITS + 1))
