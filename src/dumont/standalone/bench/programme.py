"""The programme of a bench: limits, then one part after another, each dataset made just before and removed after."""

import contextlib
import datetime
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blake3 import blake3

import dumont
from dumont.standalone.bench import datasets
from dumont.standalone.bench.cloud import Cloud, NoCloud, cloud, line_rates
from dumont.standalone.bench.datasets import Dataset, Maker
from dumont.standalone.bench.figures import CHECKPOINTS, MIX, S3_RANDOM, S3_WEIGHTS, SMALL, TEXT, Findings
from dumont.standalone.bench.growth import GrowthRace
from dumont.standalone.bench.limits import measure
from dumont.standalone.bench.peers import BORG, CP, OURS, PEERS, RCLONE, RESTIC, TAR, Peer, versions
from dumont.standalone.bench.race import NOCHANGE, Race, Say
from dumont.standalone.bench.uplink import store_rates

LIMITS, S3 = "limits", "s3"
PARTS = (LIMITS, MIX, S3, CHECKPOINTS, SMALL, TEXT)
QUICK_PARTS = (LIMITS, MIX)
QUICK_PEERS = (RESTIC, CP, OURS)
QUICK_SCALE = 0.25
QUICK_S_MAX = 54.0
"""No round begins in a quick run that would end after this; the promise is 60 s for all of it."""

SAMPLE_BYTES, QUICK_SAMPLE_BYTES = 64 * 2**20, 8 * 2**20

RACES: Mapping[str, tuple[str, ...]] = {
    MIX: (MIX,), S3: (S3_WEIGHTS, S3_RANDOM), CHECKPOINTS: (CHECKPOINTS,), SMALL: (SMALL,), TEXT: (TEXT,),
}  # fmt: skip
"""The races of each part."""

_RACERS: Mapping[str, tuple[str, ...]] = {
    MIX: (OURS, RESTIC, BORG, TAR, RCLONE, CP),
    CHECKPOINTS: (OURS, RESTIC),
    SMALL: (OURS, RESTIC, TAR, CP),
    TEXT: (OURS, RESTIC, TAR),
    S3_WEIGHTS: (OURS, RESTIC, TAR),
    S3_RANDOM: (OURS, RCLONE),
}
"""All of them race on the mix. Elsewhere only those that the figures need, or a run would take an hour."""


@dataclass(frozen=True)
class Options:
    """What to run: `parts` and `peers` by name, `rounds` of each race, datasets at `scale`, below `work`."""

    work: Path
    cache: Path
    parts: Sequence[str] = PARTS
    peers: Sequence[str] = tuple(PEERS)
    rounds: int = 5
    scale: float = 1.0
    quick: bool = False
    keep: bool = False


@dataclass
class Programme:
    """One run of the bench. `began` is what `time.monotonic` said when the process started.

    `found` may hold parts of an earlier run already. `keep` is called when a part is done, so that an interruption
    loses only what was not.
    """

    options: Options
    say: Say
    began: float
    found: Findings = field(default_factory=Findings)
    keep: Callable[[Findings], None] = lambda _found: None

    def run(self) -> Findings:
        """Everything that was asked for. A part that is not possible here leaves its reason."""
        steps: dict[str, Callable[[], None]] = {
            LIMITS: self._limits,
            MIX: self._mix,
            S3: self._s3,
            CHECKPOINTS: self._checkpoints,
            SMALL: lambda: self._race(SMALL, datasets.make_small),
            TEXT: lambda: self._race(TEXT, datasets.make_text),
        }
        for part in PARTS:
            if part in self.options.parts:
                self.run_part(part, steps[part])
        self._drop(MIX)
        return self.found

    def run_part(self, part: str, step: Callable[[], None]) -> None:
        """Take one step of the programme, note when and on what, and keep what is known by then."""
        load, began, ran_at = os.getloadavg()[0], time.monotonic(), datetime.datetime.now(datetime.UTC)
        self.found.reasons.pop(part, None)
        step()
        if part in self.found.reasons:
            return
        seconds = round(time.monotonic() - began, 1)
        self.found.parts[part] = {
            "ran_at": ran_at.isoformat(timespec="seconds"),
            "seconds": seconds,
            "load_before": round(load, 2),
            "code": code(),
        }
        self.say(f"{part}: done in {seconds:.0f} s")
        self.keep(self.found)

    def _limits(self) -> None:
        self.say("limits")
        size = QUICK_SAMPLE_BYTES if self.options.quick else SAMPLE_BYTES
        weights, text = datasets.samples(self._maker, size)
        self.found.limits |= measure(self.options.work, weights, text)

    def _mix(self) -> None:
        self.found.datasets[MIX] = self._make_mix()
        self._start(self._course(MIX), MIX, self.found.datasets[MIX])

    def _s3(self) -> None:
        mix = self._make_mix()
        try:
            with cloud(self.options.work) as server:
                self._over_the_line(server, mix)
        except NoCloud as error:
            self.found.reasons[S3] = str(error)

    def _over_the_line(self, server: Cloud, mix: Dataset) -> None:
        self.say("s3: line rate, store limits")
        self.found.line = line_rates(server.link)
        self.found.limits |= store_rates(server)
        self.found.facts["s3_server"] = server.settings
        for part, folder in ((S3_WEIGHTS, "weights"), (S3_RANDOM, "random")):
            dataset = self.found.datasets[part] = datasets.measured(part, mix.tree / folder, mix.made)
            course = replace(
                self._course(part),
                skip=frozenset({NOCHANGE}),
                savers=frozenset(PEERS) - {OURS},
                bucket=server.bucket,
            )
            self._start(course, part, dataset)

    def _checkpoints(self) -> None:
        self.say("checkpoints: making the datasets")
        first, second = datasets.make_checkpoints(self._maker)
        self.found.changed_bytes = datasets.changed_bytes(self._maker)
        self.found.datasets |= {CHECKPOINTS: first, "checkpoints_second": second}
        course = self._course(CHECKPOINTS)
        growth = GrowthRace(course.work, course.peers, course.rounds, self.say, newcomer=second)
        self._start(growth, CHECKPOINTS, first)
        for dataset in (first, second):
            self._drop(dataset.name)

    def _race(self, part: str, make: Callable[[Maker], Dataset]) -> None:
        self.say(f"{part}: making the dataset")
        self.found.datasets[part] = make(self._maker)
        self._start(self._course(part), part, self.found.datasets[part])
        self._drop(part)

    def _start(self, race: Race, part: str, dataset: Dataset) -> None:
        self.found.tallies[part] = race.run(dataset)
        self.found.rounds[part] = race.rounds_done
        self.found.others[part] = race.disturbances

    def _course(self, part: str) -> Race:
        here = self.found.facts["peers"]
        racers: list[Peer] = [PEERS[name] for name in _RACERS[part] if name in here]
        ends_at = self.began + QUICK_S_MAX if self.options.quick else float("inf")
        return Race(self.options.work, racers, self.options.rounds, self.say, ends_at)

    def _make_mix(self) -> Dataset:
        self.say("mix: making the dataset")
        return datasets.make_mix(self._maker)

    @property
    def _maker(self) -> Maker:
        return Maker(self.options.work, self.options.cache, self.options.scale)

    def _drop(self, name: str) -> None:
        if not self.options.keep:
            shutil.rmtree(self.options.work / name, ignore_errors=True)
            (self.options.work / f"{name}.made").unlink(missing_ok=True)


def facts(options: Options) -> dict[str, Any]:
    """The machine, the tools that are here, and those that are missing."""
    here, missing = versions({name: PEERS[name] for name in PEERS if name in options.peers})
    return {"machine": machine(options.work), "peers": here, "missing": missing}


def code() -> str:
    """Names the state of our own code, but for the bench: a version number stays the same between two commits."""
    top = Path(dumont.__file__).parent
    digest = blake3()
    for path in sorted(top.rglob("*.py")):
        if "bench" not in path.relative_to(top).parts:
            digest.update(path.relative_to(top).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def machine(work: Path) -> dict[str, object]:
    """What a reader needs to know of the machine, and the file system that the bench ran on."""
    return {
        "load_before": round(os.getloadavg()[0], 2),
        "processors": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "file_system": file_system(work),
    }


def file_system(path: Path) -> str:
    """The kind of file system that `path` lies on, as the kernel calls it: `tmpfs`, `ext4` …"""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    whole = f"{path.resolve()}/"
    found = [(len(words[1]), words[2]) for words in mounts if whole.startswith(f"{words[1].rstrip('/')}/")]
    return max(found)[1] if found else "unknown"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


@contextlib.contextmanager
def workshop(wanted: Path | None, *, keep: bool) -> Iterator[Path]:
    """The directory that all of it happens in: below `wanted`, else below /dev/shm. Removed unless `keep`."""
    top = wanted or Path("/dev/shm")
    work = top / ("dumont-bench" if keep else f"dumont-bench-{os.getpid()}-{time.monotonic_ns() % 1_000_000}")
    work.mkdir(parents=True, exist_ok=True)
    try:
        yield work
    finally:
        if not keep:
            shutil.rmtree(work, ignore_errors=True)
