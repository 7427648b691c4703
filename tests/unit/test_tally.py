"""Tallies: what looks count, what they leave out, and the text that the next process goes on from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.errors import BadInput
from dumont.market.tally import FADED_HOURS, Tallies, from_text, look_again, to_text
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Need
from tests.unit.markets import offer

A, B = offer("a", region="east"), offer("b", region="east", reliability=0.97, ram_mb=None)
NEED = Need(machine=Machine.GPU)
NOTHING: frozenset[str] = frozenset()


def test_what_is_not_on_offer_any_more_counts_as_interrupted() -> None:
    """The negative control of the next one."""
    seen = look_again(Tallies(), [A, B], [NEED], NOTHING, 0.0)
    seen = look_again(seen, [B], [NEED], NOTHING, 0.5)
    assert (seen.domains[A.domain].events, seen.domains[B.domain].events) == (1.0, 0.0)


def test_what_we_took_ourselves_is_not_lost() -> None:
    """A marketplace stops listing a host's slice when we rent it; that is no interruption."""
    seen = look_again(Tallies(), [A, B], [NEED], NOTHING, 0.0)
    before = seen.domains[A.domain]
    for quarter in range(1, 20):
        seen = look_again(seen, [B], [NEED], {A.domain}, quarter / 4)
    assert seen.domains[A.domain] == before
    assert seen.pressures["vast/east/RTX 4090"].events == 0.0
    back = look_again(seen, [A, B], [NEED], NOTHING, 5.25)
    assert (back.domains[A.domain].events, back.domains[A.domain].up_since_h) == (0.0, 5.25)


def test_what_nobody_looked_for_is_not_lost() -> None:
    """A narrower search shows less (I6)."""
    seen = look_again(Tallies(), [A, B], [NEED], NOTHING, 0.0)
    narrow = Need(machine=Machine.GPU, gpu_names=frozenset({"L4"}))
    assert look_again(seen, [], [narrow], NOTHING, 0.5).domains[A.domain].events == 0.0


def test_what_nobody_looked_at_for_long_is_forgotten() -> None:
    """The text would grow for ever."""
    seen = look_again(Tallies(), [A, B], [NEED], NOTHING, 0.0)
    narrow = Need(machine=Machine.GPU, gpu_names=frozenset({"L4"}))
    seen = look_again(seen, [B], [narrow], NOTHING, FADED_HOURS + 1)
    assert set(seen.domains) == {B.domain}


def test_a_look_never_goes_back_in_time() -> None:
    """It would count hours below nought."""
    seen = look_again(Tallies(), [A], [NEED], NOTHING, 1.0)
    with pytest.raises(BadInput):
        look_again(seen, [A], [NEED], NOTHING, 0.9)


@given(st.lists(st.tuples(st.floats(0.001, 2), st.booleans(), st.booleans()), max_size=20))
def test_going_on_from_the_text_is_going_on(looks: list[tuple[float, bool, bool]]) -> None:
    """Each look of one process from memory, of the other from what the database holds: not a bit may differ."""
    kept = read = Tallies()
    now_h = 491_000.0
    for gap_h, first, second in looks:
        now_h += gap_h
        shelf = [one for one, there in ((A, first), (B, second)) if there]
        kept = look_again(kept, shelf, [NEED], NOTHING, now_h)
        read = from_text(to_text(look_again(read, shelf, [NEED], NOTHING, now_h)))
        assert (read.domains, read.pressures, list(read.watched)) == (kept.domains, kept.pressures, list(kept.watched))


def test_an_offer_keeps_what_a_search_and_a_hazard_ask_of_it() -> None:
    """What is lost on the way would change what a look after a restart counts."""
    full = offer(
        "f", 7, interruption=Interruption.OUTBID, zone="z", region="BR", host="h", ram_mb=9, reliability=1 / 3, gpus=2
    )
    seen = look_again(Tallies(), [full], [NEED], NOTHING, 0.0)
    assert from_text(to_text(seen)).watched == {full.domain: full}


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "[2,[],{},{}]", '[1,[],{"d":[1]},{}]', '{"form":1}'])
def test_a_text_of_another_form_begins_anew(text: str) -> None:
    """Another version of the program wrote it; a day later nobody can tell."""
    assert from_text(text) == Tallies()
