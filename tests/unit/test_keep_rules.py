"""What `dumont launch --keep` understands, and how `dumont show` tells it."""

import pytest
from pydantic import ValidationError

from dumont.api.retention import RulesWish
from dumont.cli.launch import read_retention
from dumont.client.results import Retention
from dumont.errors import BadInput
from dumont.model import policy


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("", (60, 48, 14, 8)),
        ("last=3, daily=7", (3, 0, 7, 0)),
        ("weekly=52", (0, 0, 0, 52)),
        ("last=0", (0, 0, 0, 0)),
        ("all", (0, 0, 0, 0)),
    ],
)
def test_rules_that_are_left_out_keep_nothing_and_none_at_all_keep_everything(
    text: str, rules: tuple[int, int, int, int]
) -> None:
    """As those of `dumont snapshot forget` do."""
    assert read_retention(text) == Retention(last=rules[0], hourly=rules[1], daily=rules[2], weekly=rules[3])


@pytest.mark.parametrize("text", ["last", "last=-1", "last=", "monthly=3", "last=3;daily=7", ",", "last=٣", "All"])
def test_what_is_no_rule_is_refused_in_words(text: str) -> None:
    """What is let go is gone: nothing is guessed."""
    with pytest.raises(BadInput, match="is no rule of what to keep"):
        read_retention(text)


def test_the_usual_rules_are_the_same_for_a_person_and_for_the_server() -> None:
    """They are written down on both sides of the API."""
    ours, theirs = Retention(), policy.Retention()
    assert (ours.last, ours.hourly, ours.daily, ours.weekly) == (
        theirs.last, theirs.hourly, theirs.daily, theirs.weekly,
    )  # fmt: skip


@pytest.mark.parametrize("body", [{"dialy": 3}, {"last": "3"}, {"last": 3.5}, {"last": True}, {"agreed": "yes"}])
def test_a_wish_that_is_not_understood_whole_is_refused_by_the_api(body: dict[str, object]) -> None:
    """A rule with a slip in its name would be left out in silence, and other commits go than was meant."""
    with pytest.raises(ValidationError, match=next(iter(body))):
        RulesWish.model_validate(body)
    assert RulesWish.model_validate({"daily": 3}).daily == 3
