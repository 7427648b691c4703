"""The part of the database's contract that is about what was observed of a market."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

from dumont.control.learner import Learner
from dumont.db.base import Database
from dumont.db.memory import MemoryDatabase
from dumont.market.beliefs import Beliefs, hazard_of
from dumont.market.bids import Bidding, outbid_hazard
from dumont.market.hazard import PRIORS
from dumont.model.instance import Instance, InstanceState, Machine
from dumont.model.observed import BidPoint, CapacityAnswer, Look
from dumont.model.offer import Interruption, Need, Offer
from tests.clocks import HandClock
from tests.records import AT, an_instance

Reopen = Callable[[], Awaitable[Database]]
HOUR = timedelta(hours=1)
NEED = Need(machine=Machine.GPU)


def a_bid(**others: object) -> BidPoint:
    point = BidPoint(at=AT, provider="vast", slice="vast/1 x 1", lowest_micros_per_hour=2**40)
    return replace(point, **others)  # type: ignore[arg-type]


def an_answer(**others: object) -> CapacityAnswer:
    answer = CapacityAnswer(at=AT, provider="gce", domain="gce/b/e2", rates=(0.1, 1 / 3))
    return replace(answer, **others)  # type: ignore[arg-type]


def spot_offer(name: str, **others: object) -> Offer:
    made = Offer(
        id=name, provider="shop", machine=Machine.GPU, name="RTX 4090", gpu="RTX 4090", gpus=1, region="BR",
        price_micros_per_hour=400_000, domain=f"shop/{name}", host=name,
    )  # fmt: skip
    return replace(made, **others)  # type: ignore[arg-type]


def bid_offer(name: str, lowest: int) -> Offer:
    return spot_offer(name, interruption=Interruption.OUTBID, min_bid_micros_per_hour=lowest)


class Oracle:
    """A provider that tells of its preemptions, and counts how often it is asked."""

    def __init__(self) -> None:
        self.rates = [0.2, 0.4]
        self.asked = 0

    async def capacity_history(self, zone: str, kind: str) -> "Oracle":
        self.asked += 1
        return self


def a_life(name: str, began_h: float, ended_h: float | None, **others: object) -> Instance:
    """A spot machine of ours that came up."""
    end = None if ended_h is None else AT + ended_h * HOUR
    state = InstanceState.RENTED if end is None else InstanceState.GONE
    given = {"domain": "shop/a", "token_hash": "", "state": state, "ended_at": end, **others}
    return an_instance(name, created_at=AT + began_h * HOUR, **given)


def numbers(beliefs: Beliefs, now_h: float) -> list[float]:
    """Every number that placement makes of them."""
    found = []
    for name in ("a", "b", "c"):
        estimate = hazard_of(spot_offer(name), beliefs, now_h)
        found += [estimate.per_hour, estimate.low, estimate.high]
    bids = beliefs.bids.get("shop/bid x 1")
    if bids is not None:
        own = beliefs.own.get("shop/bid", ())
        for level in (400_000, 410_000, 450_000, 600_000):
            bidding = Bidding(bids, PRIORS[Interruption.OUTBID], now_h, own)
            found.append(outbid_hazard(bid_offer("bid", 400_000), level, bidding).per_hour)
    return found


async def watch(learner: Learner, clock: HandClock, looks: int, first: int = 0) -> None:
    """Looks every few minutes at a market that changes: `b` comes and goes, `c` appears late, a bid moves."""
    for number in range(first, first + looks):
        shelf = [spot_offer("a"), bid_offer("bid", 400_000 + 10_000 * (number * number % 7))]
        shelf += [spot_offer("b")] if number % 5 else []
        shelf += [spot_offer("c")] if number > 8 else []
        await learner.look("shop", shelf, [NEED])
        clock.seconds += 437.123


class ObservedContract:
    """What every driver promises of observations. `reopen` opens the same records again, `database` is open."""

    async def test_bids_are_kept_by_moment_and_slice(self, database: Database) -> None:
        """A change that counts twice would make a bid look riskier than it is."""
        later, other = a_bid(at=AT + HOUR), a_bid(provider="gce", slice="gce/1 x 1")
        await database.add_bids([later, a_bid(), other])
        await database.add_bids([a_bid(lowest_micros_per_hour=1), a_bid(slice="vast/2 x 1")])
        assert await database.bids(AT, "vast") == [a_bid(), a_bid(slice="vast/2 x 1"), later]
        assert await database.bids(AT + HOUR) == [later]
        assert len(await database.bids(AT)) == 4
        await database.add_bids([])

    async def test_the_newest_answer_of_each_domain_counts(self, database: Database) -> None:
        """An old answer must not come back after a restart, and no digit of a share may be lost."""
        newer, other = an_answer(at=AT + HOUR, rates=(0.7,)), an_answer(domain="gce/c/e2", provider="gce2")
        for answer in (newer, an_answer(), other, an_answer(rates=(0.9,))):
            await database.add_capacity(answer)
        assert await database.capacities() == [newer, other]
        assert await database.capacities("gce") == [newer]

    async def test_what_is_old_is_forgotten_but_never_the_last_of_a_slice(self, database: Database) -> None:
        """A bid that has not moved for months is still the lowest that wins."""
        still = a_bid(slice="vast/2 x 1")
        await database.add_bids([a_bid(), a_bid(at=AT + HOUR), still])
        await database.add_capacity(an_answer())
        await database.drop_observed(AT + HOUR)
        assert await database.bids(AT) == [still, a_bid(at=AT + HOUR)]
        assert await database.capacities() == [an_answer()]

    async def test_of_two_that_go_on_from_one_look_one_wins(self, database: Database) -> None:
        """Otherwise the moments that one of them counted would be lost, or counted twice."""
        first = Look(at=AT, provider="vast", seen="[]")
        assert await database.looks() == []
        assert await database.save_look(first, None)
        assert not await database.save_look(replace(first, seen="other"), None)
        nexts = [replace(first, at=AT + HOUR, seen=str(number)) for number in range(4)]
        won = await asyncio.gather(*(database.save_look(one, AT) for one in nexts))
        assert sorted(won) == [False, False, False, True]
        assert await database.looks("vast") == [nexts[won.index(True)]]
        assert await database.looks("gce") == []

    async def test_lives_are_of_spot_machines_held_or_ended_lately(self, database: Database) -> None:
        """They are read at each look; a year's records must not be."""
        lives = [
            a_life("held", 3.0, None),
            a_life("lately", 0.0, 2.0, bid_micros_per_hour=2**40),
            a_life("old", 0.0, 0.5),
            a_life("steady", 0.0, None, spot=False),
        ]
        for life in lives:
            await database.add_instance(life)
        found = await database.spot_lives(AT + HOUR)
        assert [life.id for life in found] == ["lately", "held"]
        assert found[0] == lives[1]

    async def test_a_restarted_process_believes_what_it_did_before(self, reopen: Reopen) -> None:
        """Beliefs that die with the process are the reason why they were worth little."""
        clock, oracle = HandClock(began=AT), Oracle()
        database: Database = await reopen()
        first = Learner(database, clock)
        await watch(first, clock, 10)
        await first.foretell("shop", oracle, [spot_offer("b")])
        for life in (a_life("l1", 0.0, 0.4, ended="preempted"), a_life("l2", 0.1, 0.9, ended="extra"),
                     a_life("l3", 0.2, 0.7, ended="outbid", domain="shop/bid", bid_micros_per_hour=420_000),
                     a_life("l4", 0.5, None)):  # fmt: skip
            await database.add_instance(life)
        await watch(first, clock, 3, first=10)
        again = Learner(await reopen(), clock)
        await again.load()
        now_h = clock.now().timestamp() / 3600
        assert numbers(again.beliefs, now_h) == numbers(first.beliefs, now_h)
        assert again.beliefs == first.beliefs
        nothing = numbers(Beliefs(), now_h)
        assert all(one != none for one, none in zip(numbers(again.beliefs, now_h), nothing, strict=False)), (
            "the control"
        )
        await again.foretell("shop", oracle, [spot_offer("b")])
        assert oracle.asked == 1, "nobody asks again what was told an hour ago"

    async def test_a_restarted_process_goes_on_as_if_nothing_had_been(self, reopen: Reopen) -> None:
        """What vanished while it was restarted is a loss that it must see."""
        clock, other_clock = HandClock(began=AT), HandClock(began=AT)
        database: Database = await reopen()
        await watch(Learner(database, clock), clock, 6)
        again = Learner(await reopen(), clock)
        await watch(again, clock, 6, first=6)
        alone = Learner(MemoryDatabase(), other_clock)
        await watch(alone, other_clock, 12)
        assert again.beliefs == alone.beliefs
        assert alone.beliefs.domains["shop/b"].events > 1.0
