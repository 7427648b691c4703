"""The log of acknowledgements, kept outside every instance, and what of it a promoted tree must therefore hold."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dumont.errors import Corrupt

NONCE = "nonce"
STEP = "step"


@dataclass(frozen=True, kw_only=True)
class Acked:
    """One barrier that returned OK, as the outside was told. `at` is when it was logged, in seconds since 1970.

    A nonce stands whole in the witness's log file and in `slot` (until a later one replaces it there). A step is one of
    the training's; `written` counts what its run had written when its checkpoint was taken.
    """

    kind: str
    at: float
    token: str
    commit: tuple[int, int]
    root: str = ""
    text: str = ""
    slot: str = ""
    step: int = 0
    loss: float = 0.0
    run: str = ""
    written: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a promoted tree holds of the witness's files: all lines of its log in order, its slots, and the resumes."""

    lines: tuple[str, ...]
    slots: Mapping[str, str]
    resumed: tuple[Mapping[str, Any], ...] = ()


class AckLog:
    """An append-only file of JSON lines. `add` returns once the line is fsynced."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, record: Mapping[str, Any]) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps(record).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class AckReader:
    """Follows an AckLog that another process writes; `all` holds every acknowledgement read so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.all: list[Acked] = []

    def read(self) -> list[Acked]:
        """What was added since the last call. A line that is being written is left for the next."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as source:
            source.seek(self._offset)
            whole, newline, _ = source.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        news = [parse(line) for line in whole.splitlines()]
        self.all += news
        return news

    def last(self, kind: str) -> Acked | None:
        """The newest acknowledgement of that kind."""
        return next((acked for acked in reversed(self.all) if acked.kind == kind), None)


def parse(line: bytes | str) -> Acked:
    """One line of the log. Raises Corrupt for what nobody of ours wrote."""
    try:
        told = json.loads(line)
        names = Acked.__dataclass_fields__
        fields = {name: value for name, value in told.items() if name in names and value is not None}
        epoch, seq = fields["commit"]
        return Acked(**fields | {"commit": (int(epoch), int(seq))})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"not a line of the acknowledgement log ({error}): {line!r}") from error


def lost(acked: Iterable[Acked], found: Found) -> list[Acked]:
    """Every acknowledgement that the tree does not bear out; empty when nothing acknowledged was lost.

    A nonce must stand in the log's lines, and the newest one of each slot must be in that slot, or one written later.
    No acknowledged step may be beyond the one that training resumed from.
    """
    order = {line: index for index, line in enumerate(found.lines)}
    missing: list[Acked] = []
    newest: dict[str, Acked] = {}
    for ack in acked:
        if ack.kind == NONCE:
            if ack.text in order:
                newest[ack.slot] = ack
            else:
                missing.append(ack)
        elif found.resumed and ack.step > int(found.resumed[-1]["step"]):
            missing.append(ack)
    for slot, ack in newest.items():
        if order.get(found.slots.get(slot, ""), -1) < order[ack.text]:
            missing.append(ack)
    return missing


def commits(acked: Iterable[Acked]) -> int:
    """How many different commits these acknowledgements name."""
    return len({ack.commit for ack in acked})


def acked_bytes(acked: Iterable[Acked]) -> int:
    """How many bytes of the workload these acknowledgements cover, after the first of each of its runs."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for ack in acked:
        if ack.kind == STEP:
            first.setdefault(ack.run, ack.written["bytes"])
            last[ack.run] = ack.written["bytes"]
    return sum(last[run] - first[run] for run in first)


def rates(acked: Iterable[Acked]) -> dict[str, float]:
    """What the workload wrote a second, by kind, over its longest run here; empty when no run shows two steps."""
    runs: dict[str, list[Acked]] = {}
    for ack in acked:
        if ack.kind == STEP:
            runs.setdefault(ack.run, []).append(ack)
    longest = max(runs.values(), key=lambda steps: steps[-1].at - steps[0].at, default=[])
    seconds = longest[-1].at - longest[0].at if longest else 0.0
    if seconds <= 0:
        return {}
    first, last = longest[0].written, longest[-1].written
    return {kind: (last[kind] - first[kind]) / seconds for kind in last}
