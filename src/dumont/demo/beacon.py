"""The witness's hand inside a workspace, run there through `ssh`: it writes, takes a barrier, and prints the answer.

`beacon.py run` repeats that for ever, one JSON object a line on its output, and passes on what the workload's
`acked.jsonl` says. `beacon.py show` prints what all beacons before it left in the tree. `beacon.py arm` writes the file
that makes the next start of the workload hold still, and a barrier makes that certain; `beacon.py go` removes it.
Standard library only.
"""

import json
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import dumont

PAUSE_S = 0.12
SLOTS = 16
DIRECTORY = Path("witness")
HOLD = Path("hold")


def main() -> None:
    os.chdir(Path(__file__).resolve().parent)
    {"run": run, "show": show, "arm": arm, "go": go}[sys.argv[1]]()


def run() -> None:
    """Until whoever reads the output goes away."""
    session, number, seen = uuid.uuid4().hex[:8], 0, Acknowledged(Path("acked.jsonl"))
    DIRECTORY.mkdir(exist_ok=True)
    parent = os.getppid()
    while os.getppid() == parent:
        number += 1
        text = f"{session} {number:06} {uuid.uuid4().hex}"
        slot = leave(text, number)
        answer = dumont.barrier(timeout_s=5.0)
        say({"kind": "nonce", "text": text, "slot": slot} | shown(answer))
        for line in seen.news():
            say({"kind": "step"} | line)
        time.sleep(PAUSE_S)


def leave(text: str, number: int) -> str:
    """Append the text to the log, and write it to a slot: by rename and in place by turns. All texts have one length.

    Answers the slot's path.
    """
    with (DIRECTORY / "log.txt").open("a") as log:
        log.write(text + "\n")
    slot = DIRECTORY / f"slot-{number % SLOTS:02}.txt"
    if number % 2:
        beside = slot.with_suffix(".tmp")
        beside.write_text(text + "\n")
        beside.rename(slot)
    else:
        with os.fdopen(os.open(slot, os.O_WRONLY | os.O_CREAT, 0o644), "w") as out:
            out.write(text + "\n")
    return slot.as_posix()


def show() -> None:
    log = DIRECTORY / "log.txt"
    resumed = Path("resume.jsonl")
    # Another beacon may be writing: a text stands in the log before it stands in a slot, so the log is read last.
    slots = {path.as_posix(): path.read_text().strip() for path in sorted(DIRECTORY.glob("slot-*.txt"))}
    say(
        {
            "lines": log.read_text().splitlines() if log.exists() else [],
            "slots": slots,
            "resumed": [json.loads(line) for line in resumed.read_text().splitlines()] if resumed.exists() else [],
        }
    )


def arm() -> None:
    HOLD.write_text(uuid.uuid4().hex)
    say(shown(dumont.barrier(timeout_s=10.0)))


def go() -> None:
    HOLD.unlink(missing_ok=True)
    say({})


def shown(answer: dumont.Barrier) -> dict[str, Any]:
    return {
        "ok": answer.ok,
        "token": answer.token,
        "commit": answer.commit,
        "root": answer.root,
        "consistent": answer.consistent,
        "reason": answer.reason,
        "at": time.time(),
    }


def say(record: dict[str, Any]) -> None:
    print(json.dumps(record), flush=True)


class Acknowledged:
    """The lines appended to a file since this was made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def news(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as source:
            source.seek(self._offset)
            whole, newline, _ = source.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines()]


if __name__ == "__main__":
    main()
