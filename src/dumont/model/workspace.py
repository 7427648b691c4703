"""A workspace: the durable thing a user owns, its state and the table of its moves."""

import enum
from dataclasses import dataclass, replace
from datetime import datetime

from dumont.errors import IllegalMove
from dumont.model.commit import CommitId
from dumont.model.policy import Policy


class Wanted(enum.StrEnum):
    """What the user asked for."""

    RUNNING = "running"
    HIBERNATED = "hibernated"
    DELETED = "deleted"


class State(enum.StrEnum):
    """What a workspace is doing, as a person is told."""

    LAUNCHING = "launching"
    RUNNING = "running"
    DEGRADED = "degraded"
    FAILING_OVER = "failing_over"
    SWITCHING = "switching"
    LOST = "lost"
    DELETING = "deleting"
    DELETED = "deleted"


_LIVE = {State.RUNNING, State.DEGRADED, State.FAILING_OVER, State.SWITCHING, State.LOST, State.DELETING}
MOVES: dict[State, set[State]] = {
    State.LAUNCHING: {State.RUNNING, State.DEGRADED, State.LOST, State.DELETING},
    State.RUNNING: _LIVE - {State.RUNNING},
    State.DEGRADED: _LIVE - {State.DEGRADED},
    State.FAILING_OVER: _LIVE - {State.FAILING_OVER},
    State.SWITCHING: _LIVE - {State.SWITCHING},
    State.LOST: {State.LAUNCHING, State.DEGRADED, State.RUNNING, State.DELETING},
    State.DELETING: {State.DELETED},
    State.DELETED: set(),
}


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Our record of a workspace. Ownership is `(epoch, primary_id, ack_set, ack_version)`, written only by
    compare-and-set.

    `switching_to` names the instance that a switchover of this epoch moves to. `single_copy_since` is set while
    only one replica holds the head. `stored` is the newest commit that the store confirmed. `generation` counts the
    workspaces that there have been of this name, this one included: each has a history of its own.
    """

    name: str
    created_at: datetime
    policy: Policy
    wanted: Wanted = Wanted.RUNNING
    state: State = State.LAUNCHING
    epoch: int = 0
    primary_id: str = ""
    ack_set: frozenset[str] = frozenset()
    ack_version: int = 0
    switching_to: str = ""
    promoted_at: datetime | None = None
    single_copy_since: datetime | None = None
    stored: CommitId | None = None
    ssh_port: int = 0
    http_port: int = 0
    host_key: str = ""
    owner_keys: tuple[str, ...] = ()
    generation: int = 1

    @property
    def folder(self) -> str:
        return folder_of(self.name, self.generation)


def folder_of(name: str, generation: int) -> str:
    """What the store calls the history of that workspace. No name holds a dot, so that no two are called the same."""
    return name if generation == 1 else f"{name}.{generation}"


def move(workspace: Workspace, to: State) -> Workspace:
    """The workspace in state `to`. Raises IllegalMove when the table of moves does not hold it."""
    if to is workspace.state:
        return workspace
    if to not in MOVES[workspace.state]:
        raise IllegalMove(f"{workspace.name}: {workspace.state} → {to}")
    return replace(workspace, state=to)
