"""What is decided when every copy is gone, when the database is older than the replicas, and at the end."""

from dataclasses import replace

from dumont.control.view import (
    Become,
    Promote,
    Reason,
    Release,
    ReleaseReason,
    Rent,
    Sighting,
    View,
    Voice,
)
from dumont.model.commit import CommitId
from dumont.model.instance import InstanceState, Role
from dumont.model.workspace import State, Wanted
from dumont.provider.base import Phase
from tests.unit.views import (
    NOBODY,
    a_view,
    a_workspace,
    an_instance,
    booting,
    closed,
    do,
    heard,
    idle,
    leading,
    seen,
    seen_following,
    seen_leading,
    silent,
    told,
)

STORED = CommitId(3, 90)


def all_gone(*others: Sighting, stored: CommitId | None = STORED, state: State = State.LOST) -> View:
    gone = {"phase": Phase.GONE, "witnesses": closed(Voice.AGENT, Voice.STREAM)}
    return a_view(seen_leading(**gone), seen_following(**gone), *others, row=a_workspace(stored=stored, state=state))


def test_when_every_copy_has_ended_machines_are_rented_to_restore_from_the_store() -> None:
    """The history outlives the machines."""
    view = all_gone()
    assert [type(action) for action in do(view)] == [Rent, Rent, Become]
    assert do(view)[-1] == Become(State.LAUNCHING)


def test_who_restored_the_stored_commit_is_promoted_loudly() -> None:
    """What was acknowledged after that commit is gone, and the user is told."""
    view = all_gone(
        booting("g2", status=idle("g2", head=CommitId(3, 90)), witnesses=heard(Voice.AGENT)),
        booting("c2"),
        state=State.LAUNCHING,
    )
    assert do(view) == [Promote("g2", 4, NOBODY, Reason.RESTORE)]
    assert told(view) == ["restored_from_store"]


def test_nobody_starts_from_the_store_while_a_copy_may_be_left() -> None:
    """A machine that is merely cut off may hold everything."""
    cut_off = {"phase": Phase.UNKNOWN, "witnesses": silent(Voice.AGENT, Voice.STREAM)}
    restored = booting("g2", status=idle("g2", head=CommitId(3, 90)), witnesses=heard(Voice.AGENT))
    gone = {"phase": Phase.GONE, "witnesses": closed(Voice.AGENT, Voice.STREAM)}
    row = a_workspace(stored=CommitId(3, 90), state=State.LOST)
    for former, standby in ((gone, cut_off), (cut_off, gone)):
        assert do(a_view(seen_leading(**former), seen_following(**standby), restored, row=row)) == []


def test_without_a_stored_commit_a_lost_workspace_stays_lost() -> None:
    """Starting empty would hide the loss."""
    assert do(all_gone(stored=None)) == []
    assert do(all_gone(stored=None, state=State.RUNNING)) == [Become(State.LOST)]


def test_after_a_database_restore_who_leads_at_the_highest_epoch_goes_on() -> None:
    """The next epoch is the highest that anybody knows, plus one."""
    view = a_view(seen_leading(status=leading(role=Role.NONE)), seen("c", leading("c", epoch=6, peers=())))
    assert do(view) == [Promote("c", 7, NOBODY, Reason.RECOVER)]
    assert told(view) == ["database_was_restored"]


def test_after_a_database_restore_nothing_is_done_before_everybody_was_heard() -> None:
    """Somebody may know a higher epoch still."""
    silent_one = seen_leading(status=None, witnesses=heard(Voice.STREAM))
    view = a_view(silent_one, seen("c", leading("c", epoch=6, peers=())))
    assert do(view) == [Become(State.LOST)]
    assert told(view) == ["lost"]


# --- the end


def test_deletion_lets_every_machine_go_and_then_ends() -> None:
    """Deleted means that the provider confirmed the end of each (I4)."""
    row = a_workspace(wanted=Wanted.DELETED)
    lost = seen("g2", instance=an_instance("g2", lost=True, branch="b"))
    assert do(a_view(seen_leading(), seen_following(), lost, row=row)) == [Become(State.DELETING)]
    row = replace(row, state=State.DELETING)
    released = [Release(one, ReleaseReason.DELETED) for one in ("g", "c", "g2")]
    assert do(a_view(seen_leading(), seen_following(), lost, row=row)) == released
    going = seen("g", instance=an_instance("g", state=InstanceState.RELEASING))
    assert do(a_view(going, row=row)) == []
    assert do(View(workspace=row)) == [Become(State.DELETED)]
