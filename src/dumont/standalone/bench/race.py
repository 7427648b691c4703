"""A race: every peer saves, saves again and restores one tree, in turns, each bout with a fresh repository."""

import contextlib
import json
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dumont.standalone.bench.bystanders import Disturbance, Usage, disturbance, look
from dumont.standalone.bench.datasets import Dataset
from dumont.standalone.bench.likeness import differences
from dumont.standalone.bench.peers import OURS, Bucket, Peer, Place, repository_bytes
from dumont.standalone.bench.timing import PeerFailed, Sample, run, spread, turns

SAVE, RESTORE, NOCHANGE = "save", "restore", "nochange"
SMALL_FILE_BYTES = 2**20
"""The working set: the tree and all files up to this size."""

Say = Callable[[str], None]


@dataclass
class Tally:
    """What one peer did in a race. `failed` says why it takes part no longer."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    working_set_s: list[float] = field(default_factory=list)
    working_set_said_s: list[float] = field(default_factory=list)
    working_set_shares: list[float] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    failed: str = ""

    def note(self, what: str, sample: Sample) -> None:
        """Keep the sample of one bout."""
        self.samples.setdefault(what, []).append(sample)

    def seconds(self, what: str) -> list[float]:
        """The times of `what`; empty when the peer failed or does not do it."""
        return [] if self.failed else [sample.seconds for sample in self.samples.get(what, [])]

    def record(self) -> dict[str, Any]:
        """All of it, for JSON."""
        kept: dict[str, Any] = {}
        for what, samples in self.samples.items():
            kept[f"{what}_s"] = spread([sample.seconds for sample in samples])
            kept[f"{what}_cpu_s"] = spread([sample.cpu_s for sample in samples])
            kept[f"{what}_memory_bytes_max"] = max(sample.memory_bytes_max for sample in samples)
        if self.sizes:
            kept["repository_bytes"] = spread(self.sizes, 0)
        if self.working_set_s:
            kept["working_set_seen_s"] = spread(self.working_set_s)
        if self.working_set_said_s:
            kept["working_set_said_s"] = spread(self.working_set_said_s)
        if self.failed:
            kept["failed"] = self.failed
        if self.differences:
            kept["differences"] = self.differences
        return kept

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "Tally":
        """The opposite of `record`, but for outputs and instants, which are not kept."""
        tally = cls(failed=kept.get("failed", ""), differences=list(kept.get("differences", [])))
        for key in kept:
            what = key.removesuffix("_cpu_s")
            if what != key:
                peak = kept[f"{what}_memory_bytes_max"]
                times = zip(kept[f"{what}_s"]["all"], kept[key]["all"], strict=True)
                tally.samples[what] = [Sample(seconds, cpu_s, peak, 0.0) for seconds, cpu_s in times]
        tally.sizes = [int(size) for size in _all(kept, "repository_bytes")]
        tally.working_set_s = _all(kept, "working_set_seen_s")
        tally.working_set_said_s = _all(kept, "working_set_said_s")
        restores = [sample.seconds for sample in tally.samples.get(RESTORE, [])]
        tally.working_set_shares = [seen / whole for seen, whole in zip(tally.working_set_s, restores, strict=False)]
        return tally


def _all(kept: Mapping[str, Any], name: str) -> list[float]:
    return list(kept[name]["all"]) if name in kept else []


Tallies = dict[str, Tally]


@dataclass
class Race:
    """The course: where to run, the peers in their order, how many rounds, and when to begin no further one.

    `bucket` makes a new bucket for one bout, or None when repositories are directories. `savers` only save. `look`
    tells what the processors did; `disturbances` is what others took of them in each round.
    """

    work: Path
    peers: Sequence[Peer]
    rounds: int
    say: Say
    ends_at: float = float("inf")
    skip: frozenset[str] = frozenset()
    bucket: Callable[[str], Bucket] | None = None
    savers: frozenset[str] = frozenset()
    look: Callable[[], Usage] = look
    rounds_done: int = 0
    disturbances: list[Disturbance] = field(default_factory=list)

    def run(self, dataset: Dataset) -> Tallies:
        """All rounds over `dataset`. A peer that fails is out, and its tally says why."""
        tallies: Tallies = {peer.name: Tally() for peer in self.peers}
        by_name = {peer.name: peer for peer in self.peers}
        began = time.monotonic()
        for number, order in enumerate(turns([peer.name for peer in self.peers], self.rounds)):
            round_s = (time.monotonic() - began) / number if number else 0.0
            if time.monotonic() + round_s > self.ends_at:
                break
            before = self.look()
            for name in order:
                if not tallies[name].failed:
                    self.say(f"{dataset.name}: {number + 1}/{self.rounds} {name}")
                    self.bout(by_name[name], dataset, tallies[name], verify=number == 0)
            self.rounds_done = number + 1
            self._judge(dataset, disturbance(before, self.look()))
        return tallies

    def _judge(self, dataset: Dataset, found: Disturbance) -> None:
        self.disturbances.append(found)
        if found.is_grave:
            words = f"{dataset.name}: others took {found.share:.0%} of the processors in round {self.rounds_done}"
            self.say(f"WARNING: {words}{f' (most: {found.who})' if found.who else ''}; its times are not to be trusted")

    def bout(self, peer: Peer, dataset: Dataset, tally: Tally, *, verify: bool) -> None:
        """One peer, once: prepare, save, save again, restore, compare, and leave nothing behind."""
        with fresh(self.work, peer.name) as root:
            place = Place(root, self.bucket(peer.name) if self.bucket else None)
            try:
                peer.prepare(place)
                tally.note(SAVE, run(peer.save(dataset.tree, place)))
                if not place.bucket:
                    tally.sizes.append(repository_bytes(place))
                if peer.incremental and NOCHANGE not in self.skip:
                    tally.note(NOCHANGE, run(peer.save(dataset.tree, place)))
                if RESTORE not in self.skip and peer.name not in self.savers:
                    sample = run(peer.restore(place))
                    tally.note(RESTORE, sample)
                    watch_working_set(tally, sample, place.target, ours=peer.name == OURS)
                    if verify:
                        tally.differences = differences(dataset.tree, place.target, dressed=peer.name == OURS)
            except PeerFailed as error:
                tally.failed = str(error)
                return
        if tally.differences:
            tally.failed = f"what {peer.name} restored is not what it saved: {'; '.join(tally.differences)}"


@contextlib.contextmanager
def fresh(work: Path, name: str) -> Iterator[Path]:
    """A new directory for one bout, removed afterwards."""
    root = work / f"bout-{name}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    try:
        yield root
    finally:
        shutil.rmtree(root)


def watch_working_set(tally: Tally, sample: Sample, target: Path, *, ours: bool) -> None:
    """When the last small file was in place, from its change time (ctime): the kernel's word, not the tool's.

    Renaming and dressing a file set its ctime, so nothing was done to any small file after this instant. We move whole
    directories in, which sets no ctime of what is in them: when we say a later instant, that counts.
    """
    last_ns = max(
        (
            status.st_ctime_ns
            for path in target.rglob("*")
            if stat.S_ISREG((status := path.lstat()).st_mode) and status.st_size <= SMALL_FILE_BYTES
        ),
        default=None,
    )
    if last_ns is None:
        return
    seconds = last_ns / 1e9 - sample.started_at
    if ours and (said := answer(sample).get("working_set_s")) is not None:
        tally.working_set_said_s.append(float(said))
        seconds = max(seconds, float(said))
    tally.working_set_s.append(seconds)
    tally.working_set_shares.append(seconds / sample.seconds)


def answer(sample: Sample) -> dict[str, Any]:
    """The JSON object on the last line that a process printed; {} when there is none."""
    lines = sample.output.strip().splitlines()
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
