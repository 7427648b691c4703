"""Pasts: until when a removed workspace's history is kept, and what the store calls it."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from dumont.control.ask import NAME
from dumont.errors import BadInput
from dumont.model.past import FOR_EVER, Past, kept_until, read_term
from dumont.model.workspace import folder_of

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def test_a_term_is_a_number_of_days_or_for_ever() -> None:
    """What is deleted is gone: nothing is guessed."""
    assert read_term("30") == timedelta(days=30)
    assert read_term("0") == timedelta(0)
    assert read_term("for-ever") == FOR_EVER
    assert kept_until(NOW, read_term("36500")) == NOW + timedelta(days=36_500)
    assert kept_until(NOW, FOR_EVER) is None


@pytest.mark.parametrize("text", ["", "-1", "1.5", "36501", "30 days", "forever", "٣", "1" * 5000])
def test_what_is_no_term_is_refused_and_told_what_would_be(text: str) -> None:
    """Somebody who meant for ever must not get no days at all."""
    with pytest.raises(BadInput, match="say 0 to 36500 days, or for-ever"):
        read_term(text)


def test_a_past_is_over_when_its_time_is_and_never_without_one() -> None:
    """To the microsecond that was told."""
    past = Past(workspace="vox", generation=1, removed_at=NOW, keep_until=NOW + timedelta(days=1))
    assert not past.is_over(NOW + timedelta(days=1, microseconds=-1))
    assert past.is_over(NOW + timedelta(days=1))
    forever = Past(workspace="vox", generation=1, removed_at=NOW, keep_until=None)
    assert not forever.is_over(NOW + timedelta(days=100_000))


def test_no_two_workspaces_ever_share_a_folder() -> None:
    """Whatever names people give, that of a folder of a later generation is none of them, and no prefix of another."""
    folders = [folder_of(name, generation) for name in ("a", "a-2", "a2", "a-2-2") for generation in range(1, 30)]
    assert len(set(folders)) == len(folders)
    later = [folder for folder in folders if "." in folder]
    assert len(later) == 4 * 28 and not any(NAME.fullmatch(folder) for folder in later)
    assert all(re.fullmatch(r"[a-z0-9.-]+", folder) and not folder.startswith(".") for folder in folders)
