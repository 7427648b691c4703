"""A glance: providers allow few searches a minute, so what was seen counts for a while."""

from collections.abc import Sequence
from typing import cast

from dumont.api.glance import FRESH_S, RETRY_S, Glance
from dumont.errors import ProviderError
from dumont.model.instance import Machine
from dumont.model.offer import Need, Offer
from dumont.provider.base import Provider
from tests.clocks import HandClock
from tests.records import AT

OFFER = Offer(id="1", provider="vast", machine=Machine.GPU, name="box", price_micros_per_hour=1, gpu="RTX 4090")


class Searched:
    """A provider that counts its searches and refuses when told to."""

    name = "vast"

    def __init__(self) -> None:
        self.searches = 0
        self.refuses = False

    async def offers(self, need: Need) -> Sequence[Offer]:
        self.searches += 1
        if self.refuses:
            raise ProviderError("too many searches")
        return [OFFER]


async def test_a_market_is_searched_once_for_many_questions() -> None:
    """Ten people who ask for advice must not use up the searches that keep workspaces alive."""
    clock, searched, glance = HandClock(began=AT), Searched(), Glance()
    for _ in range(5):
        assert await glance.look(cast(Provider, searched), (), clock) == ((OFFER,), "")  # type: ignore[arg-type]
    assert searched.searches == 1
    clock.seconds = FRESH_S
    await glance.look(cast(Provider, searched), (), clock)  # type: ignore[arg-type]
    assert searched.searches == 2


async def test_a_provider_that_refuses_is_named_and_left_alone_for_a_while() -> None:
    """What it offered before is used, with a note, and it is asked again later."""
    clock, searched, glance = HandClock(began=AT), Searched(), Glance()
    searched.refuses = True
    for _ in range(2):
        offers, why = await glance.look(cast(Provider, searched), (OFFER,), clock)  # type: ignore[arg-type]
        assert offers == (OFFER,)
        assert "too many searches" in why
    assert searched.searches == 1
    clock.seconds, searched.refuses = RETRY_S, False
    assert (await glance.look(cast(Provider, searched), (), clock))[1] == ""  # type: ignore[arg-type]
