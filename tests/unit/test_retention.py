"""Which commits a policy keeps."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.errors import BadInput
from dumont.model.commit import Commit, CommitId
from dumont.repository.record import CommitRecord
from dumont.repository.upkeep.retention import Policy, decide

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
NOW_S = int(NOON.timestamp())


def made(seq: int, at: datetime, name: str = "", tags: tuple[str, ...] = (), host: str = "h") -> CommitRecord:
    commit = Commit(CommitId(0, seq), None, bytes(32), int(at.timestamp()) * 10**9, consistent=True)
    return CommitRecord(2, commit, name=name, tags=tags, host=host, path=b"/data")


commits = st.lists(
    st.builds(
        lambda hours, name, tag, host: (hours, name, tag, host),
        st.integers(0, 24 * 800),
        st.sampled_from(["", "", "", "release"]),
        st.sampled_from([(), (), ("a",), ("a", "b")]),
        st.sampled_from(["h", "other"]),
    ),
    max_size=40,
).map(lambda found: [made(at, NOON - timedelta(hours=h), n, t, host) for at, (h, n, t, host) in enumerate(found, 1)])
counts = st.integers(0, 5)
policies = st.builds(
    Policy, counts, counts, counts, counts, counts, counts, st.sampled_from([0, 3600 * 30]), st.just(frozenset({"b"}))
)


def seqs(records: list[CommitRecord]) -> list[int]:
    return [record.commit.id.seq for record in records]


@given(commits, policies)
def test_each_commit_is_kept_for_a_reason_or_forgotten(records: list[CommitRecord], policy: Policy) -> None:
    """Nothing is lost from sight."""
    decision = decide(records, policy, NOW_S)
    assert sorted(seqs([kept.record for kept in decision.kept]) + seqs(decision.forgotten)) == seqs(records)
    assert all(kept.reasons for kept in decision.kept)


@given(commits, policies)
def test_names_tags_and_the_newest_are_never_forgotten(records: list[CommitRecord], policy: Policy) -> None:
    """A name keeps for ever, and a host without any commit is a host without a backup."""
    for record in decide(records, policy, NOW_S).forgotten:
        assert not record.name and "b" not in record.tags
        group = [other for other in records if other.host == record.host]
        assert record is not max(group, key=lambda other: (other.commit.at_ns, other.commit.id))


@given(commits, policies)
def test_deciding_again_after_forgetting_forgets_nothing(records: list[CommitRecord], policy: Policy) -> None:
    """A policy that runs each night must not eat into what it kept the night before."""
    kept = [kept.record for kept in decide(records, policy, NOW_S).kept]
    assert decide(kept, policy, NOW_S).forgotten == []


@given(commits, policies, st.sampled_from(["last", "hourly", "daily", "weekly", "monthly", "yearly"]))
def test_a_larger_policy_keeps_more(records: list[CommitRecord], policy: Policy, rule: str) -> None:
    """Raising a number can't forget what a lower one kept."""
    more = replace(policy, **{rule: getattr(policy, rule) + 1})
    assert set(seqs(decide(records, more, NOW_S).forgotten)) <= set(seqs(decide(records, policy, NOW_S).forgotten))


@given(commits, st.integers(1, 5))
def test_daily_keeps_the_newest_of_each_of_the_last_days(records: list[CommitRecord], days: int) -> None:
    """Against a model that sorts days, for one host."""
    own = [record for record in records if record.host == "h"]
    newest: dict[int, CommitRecord] = {}
    for record in own:
        day = record.commit.at_ns // (86400 * 10**9)
        best = newest.get(day)
        if best is None or (record.commit.at_ns, record.commit.id) > (best.commit.at_ns, best.commit.id):
            newest[day] = record
    expected = {newest[day].commit.id.seq for day in sorted(newest, reverse=True)[:days]}
    kept = decide(own, Policy(daily=days), NOW_S).kept
    assert {one.record.commit.id.seq for one in kept if "daily" in one.reasons} == expected


def test_weeks_are_those_of_iso_and_years_end_in_utc() -> None:
    """2027-01-01 lies in week 53 of 2026; a machine's own time zone has no say."""
    at = [datetime(2026, 12, 28, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 1, 4, tzinfo=UTC)]
    records = [made(seq, day) for seq, day in enumerate(at, 1)]
    assert seqs(decide(records, Policy(weekly=5), NOW_S).forgotten) == [1]
    assert seqs(decide(records, Policy(yearly=5), NOW_S).forgotten) == [2]


def test_the_newest_goes_only_when_it_is_said_so() -> None:
    """A policy of tags alone would otherwise forget all of a host."""
    records = [made(1, NOON - timedelta(days=2)), made(2, NOON)]
    assert seqs(decide(records, Policy(tags=frozenset({"b"})), NOW_S).forgotten) == [1]
    assert seqs(decide(records, Policy(tags=frozenset({"b"}), even_last=True), NOW_S).forgotten) == [1, 2]


@pytest.mark.parametrize("policy", [Policy(), Policy(daily=-1, last=3)])
def test_a_policy_that_keeps_nothing_is_refused(policy: Policy) -> None:
    """It is a slip of the hand, and what it forgets is gone."""
    with pytest.raises(BadInput):
        decide([made(1, NOON)], policy, NOW_S)
