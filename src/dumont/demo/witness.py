"""The witness: a process outside every instance that logs each barrier that returned OK. No round kills it.

It keeps one command running in the workspace over the workspace's address (see `beacon.py`), begins again when that is
cut off, and asks the HTTP address for its probe. While the file `pause` exists beside its log it begins nothing new.

    python -m dumont.demo.witness DIRECTORY     with `witness.json` in it
"""

import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from dumont.demo.acklog import NONCE, STEP, AckLog
from dumont.demo.address import Address, started

RETRY_S = 0.1
PARENT_EVERY_S = 1.0
PROBE_EVERY_S = 0.25
PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Errand:
    """What the witness is to do; kept as `witness.json` in its directory. Paths and URLs as text."""

    config: str
    alias: str
    command: str
    probe_url: str


@dataclass(frozen=True)
class Outside:
    """The witness's directory and the files in it."""

    path: Path

    @property
    def errand(self) -> Path:
        return self.path / "witness.json"

    @property
    def acks(self) -> Path:
        return self.path / "acked.jsonl"

    @property
    def unknown(self) -> Path:
        """Barriers that did not return OK, and sessions that ended, with the reason."""
        return self.path / "unknown.jsonl"

    @property
    def probes(self) -> Path:
        """Each change of what the HTTP address answers."""
        return self.path / "probes.jsonl"

    @property
    def pause(self) -> Path:
        return self.path / "pause"


def write_errand(outside: Outside, errand: Errand) -> None:
    outside.path.mkdir(parents=True, exist_ok=True)
    outside.errand.write_text(json.dumps(asdict(errand)))


async def witness(outside: Outside) -> None:
    """Until whoever started it ends."""
    errand = Errand(**json.loads(outside.errand.read_text()))
    async with asyncio.TaskGroup() as tasks:
        work = [
            tasks.create_task(_listen(outside, errand)),
            tasks.create_task(_probe(outside, errand.probe_url)),
        ]
        parent = os.getppid()
        while os.getppid() == parent:
            await asyncio.sleep(PARENT_EVERY_S)
        for task in work:
            task.cancel()


async def _listen(outside: Outside, errand: Errand) -> None:
    address = Address(Path(errand.config), errand.alias)
    acks, unknown = AckLog(outside.acks), AckLog(outside.unknown)
    while True:
        if not outside.pause.exists():
            async with started(address.argv(errand.command)) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                async for line in process.stdout:
                    sort(line, acks, unknown)
                said = (await process.stderr.read())[-300:].decode(errors="replace")
            unknown.add({"kind": "session", "at": time.time(), "reason": said})
        await asyncio.sleep(RETRY_S)


def sort(line: bytes, acks: AckLog, unknown: AckLog) -> None:
    """Log one line of the beacon: an acknowledgement, or a barrier whose outcome is unknown. Half a line is neither."""
    try:
        told: dict[str, Any] = json.loads(line)
    except ValueError:
        return
    told |= {"told_at": told.get("at"), "at": time.time()}
    if told["kind"] == STEP or (told["kind"] == NONCE and told["ok"]):
        acks.add(told)
    else:
        unknown.add(told)


async def _probe(outside: Outside, url: str) -> None:
    log, before = AckLog(outside.probes), ""
    async with httpx.AsyncClient(timeout=PROBE_TIMEOUT_S, trust_env=False) as http:
        while True:
            try:
                response = await http.get(url)
                now = f"{response.status_code} {response.text[:300]}"
            except httpx.TransportError as error:
                now = type(error).__name__
            if _gist(now) != before:
                before = _gist(now)
                log.add({"at": time.time(), "answer": now})
            await asyncio.sleep(PROBE_EVERY_S)


def _gist(answer: str) -> str:
    """The status and, of a probe's JSON, who answers at which epoch; its head changes all the time."""
    status, _, body = answer.partition(" ")
    try:
        told = json.loads(body)
        return f"{status} {told.get('instance_id')} {told.get('epoch')}"
    except (ValueError, AttributeError):
        return status


def main() -> None:
    try:
        asyncio.run(witness(Outside(Path(sys.argv[1]))))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
