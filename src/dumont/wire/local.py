"""What the processes of one instance say to each other, over Unix sockets in its run directory.

`watchdog.sock` takes datagrams (JSON: Lead, Renew, End as `{"say": "renew", "epoch": 3, "sent_at": 12.5}`), so that the
watchdog needs nothing but the standard library. `session.sock` is a Link: the engine dials, the session serves.
`agent.sock` takes one JSON line a call from programs in the workspace (see `dumont.barrier`).
"""

import msgspec

from dumont.model.commit import CommitId
from dumont.wire.control import Meters


class Serve(msgspec.Struct, frozen=True, tag="serve"):
    """Engine → session: what to serve now. Level-triggered; repeated harmlessly.

    `serving` False closes the doors: no new connection, none kept, workload not running. `command` is the workload's
    shell command, "" for none; a changed command or epoch restarts it. `head` is shown in `/.dumont/probe`.
    """

    workspace: str
    epoch: int
    serving: bool
    command: str = ""
    owner_keys: tuple[str, ...] = ()
    host_key: str = ""
    head: CommitId | None = None


class Quiesce(msgspec.Struct, frozen=True, tag="quiesce"):
    """Engine → session: warn, run `on_switch` for at most `grace_s`, then end workload and shells (TERM, KILL)."""

    on_switch: str
    grace_s: float


class Quiesced(msgspec.Struct, frozen=True, tag="quiesced"):
    """Session → engine: nothing of the workload runs any more."""


class Serving(msgspec.Struct, frozen=True, tag="serving"):
    """Session → engine, at each change and once a second: what is served, on which ports, and the meters.

    `asked_s_ago`: seconds since a gateway's probe; None while there was none.
    """

    epoch: int
    serving: bool
    ssh_port: int
    http_port: int
    workload: str = ""
    clients: int = 0
    meters: Meters = Meters()
    asked_s_ago: float | None = None


ToSession = Serve | Quiesce
FromSession = Quiesced | Serving
