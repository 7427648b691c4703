"""Arrivals: whose clock counts when it is decided what stays."""

from collections.abc import Sequence

import pytest

from dumont.errors import AlreadyStored
from dumont.model.commit import Commit, CommitId
from dumont.repository.record import VERSION, CommitRecord
from dumont.repository.upkeep.arrivals import Arrivals, arrived, dated, read_arrivals, write_arrivals
from tests.unit.tiny_repository import TinyRepository

HOUR_S = 3600
NOW_S = 1_700_000_000


def commit(seq: int, at_s: int, host: str = "") -> CommitRecord:
    return CommitRecord(VERSION, Commit(CommitId(3, seq), None, b"", at_s * 10**9, consistent=True), host=host)


def times(arrivals: Arrivals) -> list[int]:
    """Arrivals relative to now, in seconds."""
    return [at_s - NOW_S for _, _, at_s in arrivals.seen]


@pytest.mark.parametrize(
    ("own_s", "arrival_s"),
    [
        pytest.param(-60, -60, id="since the last look: its own word counts"),
        pytest.param(-HOUR_S, -HOUR_S, id="at the last look"),
        pytest.param(-HOUR_S - 1, -HOUR_S, id="before it: it was not there then"),
        pytest.param(-NOW_S, -HOUR_S, id="a clock at 1970"),
        pytest.param(60, 0, id="a clock that is ahead"),
        pytest.param(400 * 24 * HOUR_S, 0, id="a clock that is a year ahead"),
    ],
)
def test_a_commits_own_time_counts_between_two_looks(own_s: int, arrival_s: int) -> None:
    """A host that dated commits as it liked could have those of others thinned out."""
    before = Arrivals(looked_s=NOW_S - HOUR_S)
    assert times(arrived(before, [commit(1, NOW_S + own_s)], NOW_S)) == [arrival_s]


def test_what_was_seen_keeps_its_arrival_and_what_went_is_dropped() -> None:
    """The record must neither change its mind nor grow for ever."""
    before = Arrivals(VERSION, NOW_S - 60, [(3, 1, NOW_S - 500), (3, 2, NOW_S - 400)])
    after = arrived(before, [commit(2, NOW_S), commit(3, NOW_S - 7)], NOW_S)
    assert after.seen == [(3, 2, NOW_S - 400), (3, 3, NOW_S - 7)] and after.looked_s == NOW_S


def test_a_server_whose_clock_was_ahead_ages_what_it_saw_from_now_on() -> None:
    """Otherwise those commits would be the newest ones for years."""
    before = Arrivals(VERSION, NOW_S + 10**8, [(3, 1, NOW_S + 10**8)])
    assert times(arrived(before, [commit(1, NOW_S), commit(2, NOW_S - 5)], NOW_S)) == [0, 0]


def test_one_history_whatever_the_records_say_of_their_host() -> None:
    """The newest of each group stays for ever: with a group for each commit, a host could keep all of its own."""
    records = [commit(seq, NOW_S, f"host-{seq}") for seq in range(5)]
    found = dated(records, arrived(Arrivals(), records, NOW_S + 9))
    assert {(record.host, record.path) for record in found} == {("", b"")}
    assert [record.commit.at_ns for record in found] == [NOW_S * 10**9] * 5


async def keys(tiny: TinyRepository) -> Sequence[str]:
    return sorted(key for key in tiny.store.objects if key.startswith("state/arrivals/"))


async def test_what_is_written_is_read_and_only_the_newest_stays() -> None:
    """One small object, whatever the age of the workspace."""
    tiny = await TinyRepository.make()
    assert await read_arrivals(tiny.repo, await tiny.repo.look()) == Arrivals()
    for number in range(3):
        wanted = Arrivals(VERSION, NOW_S + number, [(3, number, NOW_S)])
        await write_arrivals(tiny.repo, await tiny.repo.look(), wanted)
        assert await read_arrivals(tiny.repo, await tiny.repo.look()) == wanted
        assert len(await keys(tiny)) == 1


async def test_a_server_that_died_between_new_and_old_left_both_and_the_newer_counts() -> None:
    """Or the window in which a host's clock is believed would open again."""
    tiny = await TinyRepository.make()
    listing = await tiny.repo.look()
    await write_arrivals(tiny.repo, listing, Arrivals(looked_s=1))
    before = dict(tiny.store.objects)
    await write_arrivals(tiny.repo, await tiny.repo.look(), Arrivals(looked_s=2))
    tiny.store.objects |= before
    assert len(await keys(tiny)) == 2
    assert (await read_arrivals(tiny.repo, await tiny.repo.look())).looked_s == 2
    await write_arrivals(tiny.repo, await tiny.repo.look(), Arrivals(looked_s=3))
    assert len(await keys(tiny)) == 1
    tiny.store.objects["state/arrivals/0000000001"] = b""
    with pytest.raises(AlreadyStored):
        await write_arrivals(tiny.repo, listing, Arrivals())
