"""Deadlines: words become hours, from a now that is an argument."""

from datetime import UTC, datetime

import pytest

from dumont.advisor.deadline import hours_until

TUESDAY_1PM = datetime(2026, 11, 24, 13, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "day", "hour"),
    [
        ("sexta", 27, 18),
        ("sexta de manhã", 27, 9),
        ("sexta 14h", 27, 14),
        ("Friday", 27, 18),
        ("Friday 5pm", 27, 17),
        ("terça", 24, 23),
        ("amanhã cedo", 25, 9),
        ("amanhã", 25, 18),
        ("depois de amanhã", 26, 18),
        ("tomorrow morning", 25, 9),
        ("hoje", 24, 23),
        ("hoje à noite", 24, 22),
        ("tonight", 24, 22),
        ("overnight", 25, 7),
        ("fim de semana", 29, 18),
        ("fim do mês", 30, 18),
        ("end of month", 30, 18),
        ("sábado 14h-22h", 28, 22),
    ],
)
def test_words_mean_a_moment(text: str, day: int, hour: int) -> None:
    """A deadline that is read as later than it is would recommend a card that is too slow."""
    found = hours_until(text, TUESDAY_1PM)
    assert found is not None
    hours, due = found
    assert (due.day, due.hour) == (day, hour)
    assert hours == pytest.approx((due - TUESDAY_1PM).total_seconds() / 3600)


@pytest.mark.parametrize("text", ["sem pressa", "no rush", "não tenho pressa", "whenever", "quando der"])
def test_no_hurry_is_no_deadline(text: str) -> None:
    """An invented deadline would rule out cheap cards."""
    assert hours_until(text, TUESDAY_1PM) is None


def test_a_moment_that_has_passed_is_the_next_one() -> None:
    """On a Friday evening, "by Friday 9am" is next week's."""
    friday_evening = datetime(2026, 11, 27, 20, 0, tzinfo=UTC)
    found = hours_until("sexta 9h", friday_evening)
    assert found is not None
    assert found[1].day == 4
