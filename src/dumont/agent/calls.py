"""Calls from the workspace: programs ask the local agent for a barrier, one JSON line in, one JSON line out."""

import asyncio
import json
import math
import os
from pathlib import Path
from typing import Any

from dumont.agent.boot import RunDir
from dumont.errors import BadInput
from dumont.replication.barrier import Answer
from dumont.replication.replica import Replica

_LINE_BYTES_MAX = 2**20
_TIMEOUT_S_MAX = 600.0
_PATH_BYTES_MAX = 4095


class Calls:
    """Serves `agent.sock`. Input that makes no sense is answered in words; nothing is lost by it."""

    def __init__(self, run: RunDir, workspace_dir: Path, replica: Replica) -> None:
        self._run = run
        self._workspace_dir = workspace_dir
        self._replica = replica

    async def serve_forever(self) -> None:
        """Listen until cancelled."""
        self._run.agent_socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, self._run.agent_socket, limit=_LINE_BYTES_MAX)
        os.chmod(self._run.agent_socket, 0o666)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass  # the program went away, or sent a line without an end
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            paths, timeout_s = self._understood(line)
        except BadInput as error:
            return {"outcome": "unknown", "reason": str(error)}
        return told(await self._replica.barrier(paths, timeout_s))

    def _understood(self, line: bytes) -> tuple[set[bytes], float]:
        try:
            call = json.loads(line)
            if call["call"] != "barrier":
                raise BadInput(f"the agent knows no call {call['call']!r}; it knows 'barrier'")
            paths = set().union(*(self._inside(str(path)) for path in call.get("paths", [])))
            timeout_s = call.get("timeout_s")
            wanted_s = self._replica.barrier_timeout_s if timeout_s is None else float(timeout_s)
            if math.isnan(wanted_s):
                raise BadInput("timeout_s must be a number of seconds")
            return paths, min(max(wanted_s, 0.0), _TIMEOUT_S_MAX)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadInput(f"this is not a call: {error!r}. Use `dumont.barrier()`") from error

    def _inside(self, path: str) -> set[bytes]:
        """The name that `path` stands for, and the file that it leads to, as paths of the tree."""
        named = os.path.normpath(os.fsencode(path))
        if b"\0" in named or len(named) > _PATH_BYTES_MAX or any(len(part) > 255 for part in named.split(b"/")):
            raise BadInput(f"{path[:60]!r} can't be the name of a file")
        above = os.path.realpath(os.path.dirname(named))
        found = {os.path.join(above, os.path.basename(named)), os.path.realpath(named)}
        top = os.path.realpath(os.fsencode(self._workspace_dir))
        inside = {full[len(top) + 1 :] for full in found if (full + b"/").startswith(top + b"/")}
        if not inside:
            raise BadInput(f"{path} is not in the workspace {self._workspace_dir}; no barrier can cover it")
        return inside


def told(answer: Answer) -> dict[str, Any]:
    """A barrier's answer, as programs get it."""
    commit = answer.commit
    if not answer.ok or commit is None:
        return {"outcome": "unknown", "reason": answer.reason}
    return {
        "outcome": "ok",
        "token": f"{commit.id}-{commit.root.hex()[:16]}",
        "commit": [commit.id.epoch, commit.id.seq],
        "root": commit.root.hex(),
        "consistent": commit.consistent,
        "fuzzy": [os.fsdecode(path) for path in commit.fuzzy],
        "uncovered": [os.fsdecode(path) for path in commit.uncovered],
    }
