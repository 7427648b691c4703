"""The in-memory provider's market: what it does to machines, and that it says so as real ones do."""

from collections.abc import Callable
from random import Random

import pytest

from dumont.errors import NoCapacity, ProviderError
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Offer
from dumont.provider.base import Boot, Machinery, Need, Phase, Why
from dumont.provider.market import Boots, Host
from dumont.provider.memory import MemoryProvider, Rented
from tests.unit.test_shell import HandClock

GPU = Need(machine=Machine.GPU)


def offer(name: str, price: int = 400_000, **others: object) -> Offer:
    fields = {"provider": "memory", "machine": Machine.GPU, "name": name, "price_micros_per_hour": price, "host": name}
    return Offer(**{"id": name, **fields, **others})  # type: ignore[arg-type]


def bid_for(name: str, price: int = 400_000) -> Offer:
    return offer(name, price, min_bid_micros_per_hour=price, interruption=Interruption.OUTBID)


class Stand:
    """A provider with these hosts, and what it told of its machines."""

    def __init__(self, *hosts: Host) -> None:
        self.clock = HandClock()
        self.told: list[tuple[str, str]] = []
        self.provider = MemoryProvider(
            self.clock,
            Random(3),
            hosts=list(hosts),
            on_start=self._note("start"),
            on_end=self._note("end"),
            on_resume=self._note("resume"),
            on_notice=self._note("notice"),
        )

    def _note(self, what: str) -> Callable[[Rented], None]:
        def tell(rented: Rented) -> None:
            self.told.append((what, rented.label))

        return tell

    async def rent(self, chosen: Offer, label: str = "g") -> Machinery:
        boot = Boot(instance_id=label, server_host="", server_port=1, ca_pem="", join_token="")
        return await self.provider.rent(chosen, label, boot)

    async def says(self, ref: str = "m1") -> tuple[Phase, Why]:
        machine = await self.provider.machine(ref)
        return machine.phase, machine.why

    async def listed(self, need: Need = GPU) -> list[str]:
        return [one.id for one in await self.provider.offers(need)]


async def test_a_host_offers_what_room_it_has() -> None:
    """Out of capacity: the offer vanishes, and whoever still holds it is told no."""
    stand = Stand(Host(offer=offer("a"), room=1), Host(offer=offer("b")))
    await stand.rent(offer("a"))
    assert await stand.listed() == ["b"]
    with pytest.raises(NoCapacity):
        await stand.rent(offer("a"), "g2")
    stand.provider.hosts[1].open = False
    assert await stand.listed() == []
    with pytest.raises(NoCapacity):
        await stand.rent(offer("b"), "g2")


async def test_an_offer_may_be_taken_between_listing_and_renting() -> None:
    """Then nothing was rented, and the same label may be asked for elsewhere."""
    stand = Stand(Host(offer=offer("a")))
    stand.provider.faults.vanish_share = 1.0
    with pytest.raises(NoCapacity):
        await stand.rent(offer("a"))
    assert stand.provider.rented == []


async def test_offers_are_those_that_the_need_allows() -> None:
    """On demand is listed only to those who ask for it."""
    sure = offer("sure", spot=False, interruption=Interruption.NEVER)
    stand = Stand(Host(offer=offer("a", gpu="RTX 4090", region="BR")), Host(offer=sure), Host(offer=offer("x", 900)))
    assert await stand.listed() == ["a", "x"]
    assert await stand.listed(Need(machine=Machine.GPU, on_demand=True)) == ["a", "sure", "x"]
    assert await stand.listed(Need(machine=Machine.GPU, gpu_names=frozenset({"RTX 4090"}))) == ["a"]
    assert await stand.listed(Need(machine=Machine.GPU, regions=frozenset({"BR"}))) == ["a"]
    assert await stand.listed(Need(machine=Machine.GPU, price_micros_per_hour_max=1_000)) == ["x"]


@pytest.mark.parametrize(
    ("boots", "said", "told"),
    [
        (Boots.WELL, (Phase.RUNNING, Why.UNTOLD), [("start", "g")]),
        (Boots.FAIL, (Phase.STARTING, Why.FAILED), []),
        (Boots.NEVER, (Phase.RUNNING, Why.UNTOLD), []),
    ],
)
async def test_boots_are_slow_and_may_fail_with_or_without_a_word(
    boots: Boots, said: tuple[Phase, Why], told: list[tuple[str, str]]
) -> None:
    """A machine that never joins looks like any other to its provider."""
    stand = Stand(Host(offer=offer("a"), boots=boots, boot_s=5.0))
    await stand.rent(offer("a"))
    assert await stand.says() == (Phase.STARTING, Why.UNTOLD)
    stand.clock.time += 6.0
    assert (await stand.says(), stand.told) == (said, told)
    await stand.provider.release("m1")
    assert stand.provider.rented == []


async def test_a_preempted_machine_stops_and_says_why_with_or_without_notice() -> None:
    """It stays listed, and paid for, until it is let go."""
    stand = Stand(Host(offer=offer("a")))
    await stand.rent(offer("a"))
    stand.provider.warn("m1")
    assert await stand.says() == (Phase.RUNNING, Why.UNTOLD)
    stand.provider.preempt("m1")
    stand.provider.warn("m1")
    assert await stand.says() == (Phase.STOPPED, Why.PREEMPTED)
    assert stand.told == [("start", "g"), ("notice", "g"), ("end", "g")]
    stand.provider.resume("m1")
    assert await stand.says() == (Phase.STOPPED, Why.PREEMPTED), "only who was outbid comes back"


async def test_who_is_outbid_resumes_by_itself_and_others_must_bid_more() -> None:
    """The old machine starts again on its old disk, whoever leads by then."""
    stand = Stand(Host(offer=bid_for("a")))
    chosen = (await stand.provider.offers(GPU))[0]
    await stand.rent(chosen)
    stand.provider.outbid("m1")
    assert await stand.says() == (Phase.STOPPED, Why.OUTBID)
    assert (await stand.provider.offers(GPU))[0].min_bid_micros_per_hour == 800_000
    with pytest.raises(NoCapacity):
        await stand.rent(chosen, "g2")
    stand.provider.resume("m1")
    stand.clock.time += 0.1
    assert await stand.says() == (Phase.RUNNING, Why.UNTOLD)
    stand.provider.outbid("m1")
    assert stand.told == [("start", "g"), ("end", "g"), ("resume", "g"), ("end", "g")]
    await stand.provider.release("m1")
    stand.provider.resume("m1")
    assert stand.told[-1] == ("end", "g"), "what was let go stays so"


async def test_a_host_that_is_offline_says_nothing_of_its_machine() -> None:
    """UNKNOWN is neither gone nor running (I6); it may come back."""
    stand = Stand(Host(offer=offer("a"), room=1))
    await stand.rent(offer("a"))
    stand.provider.lose_touch("m1")
    assert await stand.says() == (Phase.UNKNOWN, Why.OFFLINE)
    assert await stand.listed() == []
    stand.provider.find_again("m1")
    assert await stand.says() == (Phase.RUNNING, Why.UNTOLD)
    assert stand.told == [("start", "g")]


async def test_without_credit_everything_stops_and_nothing_is_rented() -> None:
    """It is no lack of capacity: another offer of this account would not help."""
    stand = Stand(Host(offer=offer("a")))
    await stand.rent(offer("a"))
    stand.provider.run_out_of_credit()
    assert await stand.says() == (Phase.STOPPED, Why.NO_CREDIT)
    with pytest.raises(ProviderError) as error:
        await stand.rent(offer("a"), "g2")
    assert not isinstance(error.value, NoCapacity)
    stand.provider.faults.broke = False
    assert (await stand.rent(offer("a"), "g2")).phase is Phase.RUNNING


async def test_prices_move_by_chance_within_bounds_and_not_under_a_running_machine() -> None:
    """The same seed moves them the same way."""
    stand, twin = (Stand(Host(offer=bid_for("a")), Host(offer=bid_for("b"))) for _ in range(2))
    await stand.rent(bid_for("b"))
    await twin.rent(bid_for("b"))
    seen = set()
    for _ in range(200):
        stand.provider.drift(0.3)
        twin.provider.drift(0.3)
        free, taken = await stand.provider.offers(GPU)
        assert (await twin.provider.offers(GPU))[0] == free
        assert taken == bid_for("b")
        assert 200_000 <= free.price_micros_per_hour <= 800_000
        assert free.min_bid_micros_per_hour == free.price_micros_per_hour
        seen.add(free.price_micros_per_hour)
    assert len(seen) > 50
