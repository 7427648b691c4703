"""Peaks: the most GPU memory that each machine of an advised workspace was seen to use, written down for its grade.

Agents say their peak with every status; here it becomes an event `measured` of the workspace, for the launch's
prediction to be compared with (`advisor.grade`). Written again when it has grown, so the last thing that a machine said
is kept although the machine is gone, and so is this process. Several of one machine are harmless: the highest counts.
"""

import asyncio
import re
from dataclasses import dataclass

import msgspec

from dumont.control.act import Acts, Fact
from dumont.control.observe import Observatory
from dumont.control.shell import outcome
from dumont.model.instance import Instance, Machine
from dumont.wire.control import GpuPeak

ADVISED, MEASURED = "advised", "measured"
RUNS_MAX = 5_000
"""So many events of a kind are looked at, the newest."""
LOOK_EVERY_S = 5.0
WRITE_EVERY_S = 60.0
"""A peak that goes on growing is not written more often, unless its machine is gone."""
GROWTH = 1.01
"""Less is not worth an event."""
UNKNOWN_FOR_S = 60.0
"""After so long, a peak that is unknown is written down as unknown, with the reason."""
MEGABYTE = 10**6
"""Peaks are written to the megabyte."""
BYTES_MAX = 2**44
CHARS_MAX = 60
_ODD = re.compile(r"[^\w .()+-]")


@dataclass(frozen=True)
class Written:
    """What is written down of one machine: its highest peak, 0 for unknown, and the monotonic second of that."""

    megabytes: int
    at_least: bool
    at_s: float


@dataclass(frozen=True)
class Said:
    """What a machine last said, and since when it has said so without a figure."""

    workspace: str
    peak: GpuPeak
    since_s: float


def is_plausible(peak: GpuPeak) -> bool:
    """Hosts are strangers (I7): a figure that no card can show is none."""
    held, card = peak.bytes, peak.card_bytes
    return held is None or (
        MEGABYTE <= held <= card <= BYTES_MAX and peak.scope is not None and 0 < peak.every_ms < 1e9
    )


def is_due(said: Said, written: Written | None, now_s: float, *, ends: bool) -> bool:
    """Whether an event says more than those that are written. `ends`: nothing more will come from that machine."""
    if said.peak.bytes is None:
        return written is None and (ends or now_s - said.since_s >= UNKNOWN_FOR_S)
    if written is None or not written.megabytes:
        return True
    held = _megabytes(said.peak.bytes)
    news = said.peak.at_least and not written.at_least
    if ends:
        return news or held > written.megabytes
    return (news or held > written.megabytes * GROWTH) and now_s - written.at_s >= WRITE_EVERY_S


def facts_of(instance_id: str, peak: GpuPeak) -> dict[str, Fact]:
    """For the timeline. Memory in GB (1e9 bytes), per card; without `memory_gb` it is unknown, and `why` says why."""
    facts: dict[str, Fact] = {"instance": instance_id}
    if peak.bytes is None or peak.scope is None:
        return facts | {"why": _text(peak.why)}
    facts |= {"memory_gb": _megabytes(peak.bytes) / 1000, "card": _text(peak.card)}
    facts |= {"card_gb": round(peak.card_bytes / 1e9, 3), "scope": peak.scope.value, "every_s": peak.every_ms / 1000}
    return facts | {"at_least": True} if peak.at_least else facts


class Peaks:
    """One server process's loop over the GPUs of all workspaces."""

    def __init__(self, acts: Acts, observatory: Observatory) -> None:
        self._acts = acts
        self._database = acts.database
        self._observatory = observatory
        self._said: dict[str, Said] = {}
        self._written: dict[str, Written] | None = None
        self._advised: set[str] = set()

    async def run(self) -> None:
        """Look at every status's peak, for ever."""
        while True:
            await self._acts.clock.sleep(LOOK_EVERY_S)
            await outcome(asyncio.create_task(self.round()), "writing peaks of memory down failed")

    async def round(self) -> None:
        """Write down what is due."""
        now_s = self._acts.clock.monotonic()
        held = [one for one in await self._database.instances() if one.machine is Machine.GPU]
        for instance in held:
            self._listen(instance, now_s)
        gone = self._said.keys() - {one.id for one in held}
        if not self._said:
            return
        written = await self._known(now_s)
        due = [(id, said) for id, said in self._said.items() if is_due(said, written.get(id), now_s, ends=id in gone)]
        if {said.workspace for _, said in due} - self._advised:
            self._advised = {event.workspace for event in await self._database.happened(ADVISED, RUNS_MAX)}
        for id, said in due:
            if said.workspace in self._advised:
                await self._write(id, said)
            now = Written(_megabytes(said.peak.bytes or 0), said.peak.at_least, now_s)
            written[id] = _higher(written.get(id), now)  # what nobody predicted is not looked up again at once either
        for id in gone:
            self._said.pop(id, None)
            written.pop(id, None)

    async def _write(self, id: str, said: Said) -> None:
        async with self._acts.lock(said.workspace):
            await self._acts.note(said.workspace, MEASURED, facts_of(id, said.peak))

    def _listen(self, instance: Instance, now_s: float) -> None:
        status = self._observatory.heard_of(instance.id).status
        peak = status.meters.gpu_peak if status else None
        if peak is None or not is_plausible(peak):
            return
        before = self._said.get(instance.id)
        if before and before.peak.bytes is not None and (peak.bytes is None or peak.bytes < before.peak.bytes):
            # a new epoch began there: what was said of the one before stays to be written
            peak = msgspec.structs.replace(before.peak, at_least=before.peak.at_least or peak.at_least)
        since_s = before.since_s if before and before.peak.bytes is None else now_s
        self._said[instance.id] = Said(instance.workspace, peak, since_s)

    async def _known(self, now_s: float) -> dict[str, Written]:
        """What this process and those before it wrote; read once."""
        if self._written is None:
            self._written = {}
            for event in await self._database.happened(MEASURED, RUNS_MAX):
                id, gigabytes = str(event.facts.get("instance", "")), event.facts.get("memory_gb", 0)
                megabytes = round(gigabytes * 1000) if isinstance(gigabytes, int | float) else 0
                found = Written(megabytes, event.facts.get("at_least") is True, now_s - WRITE_EVERY_S)
                self._written[id] = _higher(self._written.get(id), found)
        return self._written


def _higher(before: Written | None, now: Written) -> Written:
    if before is None:
        return now
    return Written(max(before.megabytes, now.megabytes), before.at_least or now.at_least, max(before.at_s, now.at_s))


def _megabytes(count: int) -> int:
    return round(count / MEGABYTE)


def _text(text: str) -> str:
    """A host's word, fit for a timeline."""
    return _ODD.sub("", text)[:CHARS_MAX]
