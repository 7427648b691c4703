"""What is remembered of a workspace's misfortunes, and for how long."""

from datetime import timedelta

from dumont.control.history import FAILED_FOR, REFUSED_FOR, History
from dumont.control.view import Failures
from dumont.model.event import Event
from dumont.model.instance import Machine
from tests.unit.views import NOW


def event(kind: str, **facts: str | bool) -> Event:
    return Event(workspace="vox", at=NOW, kind=kind, facts=dict(facts))


def test_a_refusal_of_a_host_does_not_lengthen_the_wait() -> None:
    """That host is avoided, so the next try is another's; a market of stale offers takes many."""
    history = History(event("rent_failed", host=f"h{n}", machine="gpu") for n in range(9))
    assert history.failures(Machine.GPU, NOW) == Failures(0, NOW)
    assert set(history.shunned(NOW)) == {f"h{n}" for n in range(9)}


def test_a_refusal_without_a_host_and_a_failed_machine_do() -> None:
    """Nothing else keeps us from asking the same again."""
    history = History([event("rent_failed", machine="gpu"), event("releasing", failure=True, host="h", machine="gpu")])
    assert history.failures(Machine.GPU, NOW) == Failures(2, NOW)
    assert history.failures(Machine.GPU, NOW + timedelta(hours=2)) == Failures()


def test_failures_count_for_their_own_kind() -> None:
    """An event of an older version, which does not tell its kind, counts for both."""
    assert History([event("rent_failed", machine="gpu")]).failures(Machine.CPU, NOW) == Failures()
    assert History([event("rent_failed")]).failures(Machine.CPU, NOW) == Failures(1, NOW)


def test_a_host_is_avoided_for_as_long_as_its_failure_deserves() -> None:
    """Taken by somebody else: minutes. Broken or offline: hours. Outbid or let go by us: not at all."""
    history = History(
        [
            event("rent_failed", host="taken"),
            event("releasing", host="broken", failure=True),
            event("releasing", host="offline", why="offline", failure=False),
            event("releasing", host="outbid", why="outbid", failure=False),
            event("releasing", host="extra", failure=False),
        ]
    )
    assert set(history.shunned(NOW)) == {"taken", "broken", "offline"}
    assert set(history.shunned(NOW + REFUSED_FOR)) == {"broken", "offline"}
    assert set(history.shunned(NOW + FAILED_FOR)) == set()
