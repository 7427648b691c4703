"""Leases: every order of events, by table and by chance."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.replication.lease import LEASE_S, Beats, Lease, Verdict

RUN, STOP, END = Verdict.RUN, Verdict.STOP, Verdict.END

LEAD, RENEW, ENDED, TICK = "lead", "renew", "end", "tick"

STORIES = {
    "before any lead nothing is stopped": [(TICK, 1e6, RUN)],
    "an end alone stops nothing": [(ENDED, 5), (TICK, 1e6, RUN)],
    "a lead runs for one lease": [(LEAD, 1, 0.0), (TICK, 1.99, RUN), (TICK, 2.0, STOP)],
    "a lead said again renews nothing": [(LEAD, 1, 0.0), (LEAD, 1, 1.9), (TICK, 2.0, STOP)],
    "a renewal runs from when it was asked": [
        (LEAD, 1, 0.0),
        (RENEW, 1, 1.0, 1.9),
        (TICK, 2.9, RUN),
        (TICK, 3.0, STOP),
    ],
    "an older answer shortens nothing": [(LEAD, 1, 0.0), (RENEW, 1, 1.5, 1.6), (RENEW, 1, 0.5, 1.7), (TICK, 3.4, RUN)],
    "an answer from long ago revives nothing": [(LEAD, 1, 0.0), (RENEW, 1, 0.5, 9.0), (TICK, 9.0, STOP)],
    "a question can't have been sent later than now": [(LEAD, 1, 0.0), (RENEW, 1, 99.0, 1.0), (TICK, 3.0, STOP)],
    "another epoch's answer renews nothing": [
        (LEAD, 2, 0.0),
        (RENEW, 1, 1.9, 1.9),
        (RENEW, 3, 1.9, 1.9),
        (TICK, 2.0, STOP),
    ],
    "a lapsed lease may come back": [(LEAD, 1, 0.0), (TICK, 5.0, STOP), (RENEW, 1, 5.0, 5.1), (TICK, 5.2, RUN)],
    "an answer before any lead counts for nothing": [(RENEW, 1, 9.0, 9.0), (LEAD, 1, 9.0), (TICK, 11.0, STOP)],
    "a higher epoch ends": [(LEAD, 1, 0.0), (ENDED, 2), (TICK, 0.1, END), (TICK, 9.0, END)],
    "one's own epoch does not end": [(LEAD, 2, 0.0), (ENDED, 2), (ENDED, 1), (TICK, 0.1, RUN)],
    "an end is final for lower epochs": [(ENDED, 3), (LEAD, 2, 0.0), (RENEW, 2, 1.0, 1.0), (TICK, 1.0, END)],
    "a late lower end takes nothing back": [(LEAD, 1, 0.0), (ENDED, 3), (ENDED, 2), (LEAD, 2, 0.1), (TICK, 0.2, END)],
    "leading a higher epoch revives": [(LEAD, 1, 0.0), (ENDED, 3), (LEAD, 3, 5.0), (TICK, 6.9, RUN), (TICK, 7.0, STOP)],
    "a late lower lead is passed over": [(LEAD, 3, 0.0), (LEAD, 2, 1.9), (TICK, 1.9, RUN), (TICK, 2.0, STOP)],
    "a clock that is no number lets nobody run": [(LEAD, 1, 0.0), (RENEW, 1, math.nan, 1.9), (TICK, 2.0, STOP)],
}


@pytest.mark.parametrize("story", STORIES)
def test_stories(story: str) -> None:
    """Each rule of a lease, in the smallest sequence of events that shows it."""
    lease = Lease()
    for event in STORIES[story]:
        match event:
            case ("lead", int(epoch), float(now)):
                lease.lead(epoch, now)
            case ("renew", int(epoch), float(sent_at), float(now)):
                lease.renew(epoch, sent_at, now)
            case ("end", int(epoch)):
                lease.end(epoch)
            case ("tick", float(now), verdict):
                assert lease.tick(now) is verdict
            case _:
                pytest.fail(f"no such event: {event}")


def test_what_ended_before_a_restart_stays_ended() -> None:
    """The watchdog writes it down: its restart must not revive a fenced workload."""
    lease = Lease(ended=5)
    assert lease.tick(0.0) is RUN
    lease.lead(4, 0.0)
    assert lease.tick(0.0) is END
    lease.lead(5, 0.0)
    assert lease.tick(0.0) is RUN


EPOCHS = st.integers(1, 4)
TIMES = st.floats(0.0, 20.0)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just(LEAD), EPOCHS, TIMES),
        st.tuples(st.just(RENEW), EPOCHS, TIMES),
        st.tuples(st.just(ENDED), EPOCHS, TIMES),
    ),
    max_size=30,
)


@given(events=EVENTS)
def test_no_workload_runs_longer_than_a_lease_past_the_last_word(events: list[tuple[str, int, float]]) -> None:
    """Whatever comes late, twice or out of order; and an epoch below an ended one never runs."""
    lease = Lease()
    now = 0.0
    last_word = -math.inf
    ended = 0
    for say, epoch, at in events:
        now += at / 10
        match say:
            case "lead":
                if lease.led is None or epoch > lease.led:
                    last_word = now
                lease.lead(epoch, now)
            case "renew":
                if epoch == lease.led:
                    last_word = max(last_word, min(at, now))
                lease.renew(epoch, at, now)
            case _:
                lease.end(epoch)
                ended = max(ended, epoch)
        if lease.led is None:
            assert lease.tick(now) is RUN
        elif lease.led < ended:
            assert lease.tick(now) is END
        else:
            assert lease.tick(now) is (RUN if now < last_word + LEASE_S else STOP)
            assert lease.tick(last_word + LEASE_S) is STOP


@given(events=EVENTS)
def test_every_event_may_be_repeated(events: list[tuple[str, int, float]]) -> None:
    """Datagrams are sent again and again; the second one changes nothing."""
    once, twice = Lease(), Lease()
    now = 0.0
    for say, epoch, at in events:
        now += at / 10
        for lease, times in ((once, 1), (twice, 2)):
            for _ in range(times):
                if say == LEAD:
                    lease.lead(epoch, now)
                elif say == RENEW:
                    lease.renew(epoch, at, now)
                else:
                    lease.end(epoch)
        assert (once.led, once.ended, once.runs_until) == (twice.led, twice.ended, twice.runs_until)


def test_hearing_is_counted_from_the_last_word_of_a_server() -> None:
    """A beat that says it heard nothing for long is no sign of life: replies do not get through."""
    beats = Beats(now=10.0)
    assert beats.heard_ms_ago(10.5) == 500
    beats.opened(10.5)
    assert beats.heard_ms_ago(10.75) == 250
    beats.heard(11.0)
    beats.heard(10.9)
    assert beats.heard_ms_ago(11.001) == 1
    assert beats.heard_ms_ago(10.9) == 0
