"""Which commits of a workspace stay in the store, and which are let go."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.control import thinning
from dumont.control.thinning import Anchors, Thinning, forecast, keeps_less, thin
from dumont.model.commit import Commit, CommitId
from dumont.model.policy import Retention
from dumont.repository.record import VERSION, CommitRecord

NOW_S = int(datetime(2026, 3, 14, 12, tzinfo=UTC).timestamp())
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 24 * 3600
NOTHING = Retention(0, 0, 0, 0)


def commit(seq: int, ago_s: int = 0, name: str = "", epoch: int = 3) -> CommitRecord:
    at_ns = (NOW_S - ago_s) * 10**9
    return CommitRecord(VERSION, Commit(CommitId(epoch, seq), None, b"", at_ns, consistent=True), name=name)


def stored(seq: int, epoch: int = 3) -> Anchors:
    return Anchors(CommitId(epoch, seq))


def seqs(records: list[CommitRecord]) -> list[int]:
    return [record.commit.id.seq for record in records]


MINUTES = [commit(seq, (600 - seq) * MINUTE_S) for seq in range(1, 601)]
"""Ten hours, a commit a minute; the newest is made now."""


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        pytest.param(Retention(3, 0, 0, 0), [598, 599, 600], id="the last three"),
        pytest.param(Retention(0, 3, 0, 0), [539, 599, 600], id="the newest of each hour"),
        pytest.param(Retention(2, 3, 0, 0), [539, 599, 600], id="both rules together"),
        pytest.param(Retention(0, 0, 5, 5), [600], id="one day has one"),
        pytest.param(NOTHING, list(range(1, 601)), id="no rule at all keeps all"),
    ],
)
def test_the_rules_keep_what_they_say(retention: Retention, kept: list[int]) -> None:
    """By the server's clock in UTC: it is noon, so the hour that has begun has one commit."""
    found = thin(MINUTES, retention, stored(600), NOW_S)
    assert seqs(found.kept) == kept
    assert sorted(seqs(found.kept) + seqs(found.forgotten)) == list(range(1, 601))


def test_the_usual_rules_bound_what_a_year_leaves() -> None:
    """However many there were, they become what a person may look through."""
    last = 366 * 48
    year = [commit(seq, (last - seq) * 30 * MINUTE_S) for seq in range(1, last + 1)]
    found = thin(year, Retention(), stored(last), NOW_S)
    assert 60 + 14 + 8 < len(found.kept) <= 60 + 48 + 14 + 8
    assert found.kept[-1] == year[-1]
    assert thin(found.kept, Retention(), stored(last), NOW_S).forgotten == []


def test_what_the_database_knows_to_be_stored_and_all_after_it_stays() -> None:
    """A machine is restored from it; and the primary may be about to tell of any that came after it."""
    found = thin(MINUTES, Retention(1, 0, 0, 0), stored(500), NOW_S)
    assert seqs(found.kept) == list(range(500, 601))


def test_what_the_database_knows_but_the_store_lacks_keeps_everything() -> None:
    """The database, the store or a host is wrong, and nobody knows which: no time to destroy anything."""
    found = thin(MINUTES, Retention(1, 0, 0, 0), stored(10**9), NOW_S)
    assert found == Thinning(MINUTES, [], found.why) and "3.1000000000" in found.why
    assert thin(MINUTES, Retention(1, 0, 0, 0), Anchors(None), NOW_S).forgotten == []


def test_a_commit_that_a_branch_or_a_replica_was_made_from_stays() -> None:
    """A person compares a branch with what it left; a replica's head may be all that a promotion starts from."""
    relied = frozenset({CommitId(3, 17), CommitId(2, 40)})
    older = [commit(40, 2 * DAY_S, epoch=2), *MINUTES]
    found = thin(older, Retention(1, 0, 0, 0), Anchors(CommitId(3, 600), relied), NOW_S)
    assert [record.commit.id for record in found.kept] == [CommitId(2, 40), CommitId(3, 17), CommitId(3, 600)]


def test_the_newest_by_number_stays_when_the_clock_says_otherwise() -> None:
    """Numbers are fenced; a clock is anybody's."""
    records = [commit(1, 0), commit(2, DAY_S), commit(3, 2 * DAY_S)]
    assert 3 in seqs(thin(records, Retention(1, 0, 0, 0), stored(3), NOW_S).kept)


records = st.lists(
    st.builds(commit, st.integers(1, 60), st.integers(0, 40 * DAY_S), st.sampled_from(["", "", "", "a", "b"])),
    min_size=1,
    max_size=40,
    unique_by=lambda record: record.commit.id,
)
counts = st.integers(0, 5)
retentions = st.builds(Retention, counts, counts, counts, counts)


def check_never_dropped(found: Thinning, given: list[CommitRecord], anchors: Anchors) -> None:
    """What must hold for any history, policy and clock."""
    kept = {record.commit.id for record in found.kept}
    assert max(record.commit.id for record in given) in kept, "the head"
    assert {record.commit.id for record in given if record.name} <= kept, "snapshots, which have a name"
    assert anchors.stored is None or {r.commit.id for r in given if r.commit.id >= anchors.stored} <= kept
    assert {r.commit.id for r in given} & anchors.relied <= kept
    assert sorted(found.kept + found.forgotten, key=lambda r: r.commit.id) == sorted(given, key=lambda r: r.commit.id)


@given(records, retentions, st.data())
def test_the_head_snapshots_and_anchors_are_never_dropped(
    records: list[CommitRecord], retention: Retention, data: st.DataObject
) -> None:
    """The one mistake of a policy that nobody could make good."""
    some = st.sampled_from([record.commit.id for record in records])
    anchors = Anchors(data.draw(st.none() | some | st.just(CommitId(9, 9))), frozenset(data.draw(st.sets(some))))
    check_never_dropped(thin(records, retention, anchors, NOW_S), records, anchors)


@given(records, retentions)
def test_thinning_again_lets_nothing_more_go(records: list[CommitRecord], retention: Retention) -> None:
    """A server that is started anew every minute must not thin a history away."""
    anchors = Anchors(max(record.commit.id for record in records))
    once = thin(records, retention, anchors, NOW_S)
    assert thin(once.kept, retention, anchors, NOW_S).forgotten == []


def test_without_anchors_the_property_would_be_broken() -> None:
    """A check that can't fail proves nothing: the rules alone would let go what the database knows to be stored."""
    careless = thinning.decide(MINUTES, thinning.Policy(last=1), NOW_S)
    found = Thinning([one.record for one in careless.kept], careless.forgotten)
    with pytest.raises(AssertionError):
        check_never_dropped(found, MINUTES, stored(500))


@given(st.lists(st.integers(0, 4), min_size=8, max_size=8), st.integers(0, 90), st.integers(1, 60))
def test_a_forecast_tells_all_that_goes_and_what_only_the_change_takes(
    counts: list[int], newest: int, anchor: int
) -> None:
    """A person agrees to what is told: nothing else may go, and nothing that goes may be left out."""
    records = [commit(seq, (90 - seq) * 7 * HOUR_S) for seq in range(1, newest + 1)]
    present, wished = Retention(*counts[:4]), Retention(*counts[4:])
    found = forecast(records, present, wished, stored(anchor), NOW_S)
    now, then = (thin(records, rules, stored(anchor), NOW_S) for rules in (present, wished))
    assert (found.kept, found.let_go) == (then.kept, then.forgotten)
    assert seqs(found.taken) == [seq for seq in seqs(then.forgotten) if seq in seqs(now.kept)]
    assert found.takes or not found.taken
    if not keeps_less(wished, present):
        assert not found.takes, "who keeps more has nothing to agree to"


@pytest.mark.parametrize(
    ("one", "other", "less"),
    [
        (Retention(3, 0, 0, 0), Retention(2, 0, 0, 0), False),
        (Retention(3, 0, 0, 0), Retention(2, 1, 0, 0), True),
        (Retention(3, 0, 0, 0), NOTHING, True),
        (NOTHING, Retention(3, 0, 0, 0), False),
        (NOTHING, NOTHING, False),
        (Retention(), Retention(), False),
    ],
)
def test_rules_keep_less_when_any_of_them_does(one: Retention, other: Retention, less: bool) -> None:
    """Nothing but zeros keeps everything, and so more than any number."""
    assert keeps_less(one, other) is less


def test_while_nothing_can_be_foretold_less_has_to_be_agreed_to() -> None:
    """A workspace that was just launched has stored nothing yet; by tomorrow the rules have taken what they take."""
    found = forecast(MINUTES, Retention(), Retention(1, 0, 0, 0), Anchors(None), NOW_S)
    assert (found.let_go, found.takes, found.why) == ([], True, "no primary has said yet what it stored")
    assert not forecast(MINUTES, Retention(1, 0, 0, 0), Retention(), Anchors(None), NOW_S).takes
    everything = forecast(MINUTES, Retention(), NOTHING, stored(600), NOW_S)
    assert (everything.takes, everything.why) == (False, "")
