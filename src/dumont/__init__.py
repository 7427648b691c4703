"""Dumont: GPUs at spot prices that do not lose your work.

Inside a workspace, `dumont.barrier()` waits until everything written before it is on two machines. This module needs
nothing but the standard library, so that any program in a workspace can import it.
"""

import json
import os
import socket
from dataclasses import dataclass

__version__ = "0.1.0"
__all__ = ["Barrier", "barrier"]


@dataclass(frozen=True)
class Barrier:
    """The answer of a barrier. `ok` False means *unknown*: it may or may not be safe; `reason` says why.

    `commit` is `(epoch, seq)`, `root` the hash of the tree that holds every earlier write. A commit that is not
    `consistent` names in `fuzzy` the files that moved while it was cut; `uncovered` names what no commit can hold.
    """

    ok: bool
    token: str = ""
    commit: tuple[int, int] | None = None
    root: str = ""
    consistent: bool = True
    fuzzy: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()
    reason: str = ""


def barrier(*paths: str, timeout_s: float | None = None) -> Barrier:
    """Return once a commit holding all earlier writes is fsynced by the whole ack set, or as *unknown*.

    `paths` names files to read again whatever their time stamps say. `timeout_s`: seconds to wait, by default what the
    workspace's policy says. Never raises for a lost agent: a barrier that nobody answered is unknown.
    """
    request = {"call": "barrier", "paths": [os.path.abspath(path) for path in paths], "timeout_s": timeout_s}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(None if timeout_s is None else timeout_s + 5)
            agent.connect(os.environ.get("DUMONT_SOCKET", "/run/dumont/agent.sock"))
            agent.sendall(json.dumps(request).encode() + b"\n")
            with agent.makefile("rb") as lines:
                answer = json.loads(lines.readline() or b'{"outcome": "unknown", "reason": "the agent went away"}')
    except OSError as error:
        return Barrier(ok=False, reason=f"no agent answers: {error}")
    return Barrier(
        ok=answer["outcome"] == "ok",
        token=answer.get("token", ""),
        commit=tuple(answer["commit"]) if answer.get("commit") else None,
        root=answer.get("root", ""),
        consistent=answer.get("consistent", True),
        fuzzy=tuple(answer.get("fuzzy", ())),
        uncovered=tuple(answer.get("uncovered", ())),
        reason=answer.get("reason", ""),
    )
