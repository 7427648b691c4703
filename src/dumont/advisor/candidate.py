"""A candidate: one priced offer and what the errand does on it: whether it fits, how long it takes, what it costs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from dumont.advisor.catalogue import GIB
from dumont.advisor.errand import Errand
from dumont.advisor.estimate.cost import Hours, cost_micros, hours_for, render_hours
from dumont.advisor.estimate.part import GB, Memory
from dumont.advisor.estimate.verdict import Estimator, Reason, Verdict
from dumont.advisor.job import Job
from dumont.advisor.plan import TRAINING
from dumont.market.cost import Priced, Stake

NOMINAL = 0.93
"""A card that is told to have less than this share of its model's memory has less, whatever its name."""
SETUP_H = 0.25
"""Paid before the work begins: boot, image, data and model. An assumption, shown with every answer."""
_SHARDED = ("", "fsdp")


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What `runs` recorded runs of one task took, as shares of what the estimator said: the median as `measured` and as
    it is `applied` (never below 1), and the `worst` of them.
    """

    applied: float
    measured: float
    worst: float
    runs: int


@dataclass(frozen=True, kw_only=True)
class Factors:
    """What recorded runs of each task took, as a share of what was predicted. A task without enough runs has none."""

    memory: Mapping[str, Factor] = field(default_factory=dict)
    hours: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An offer for the errand. `fits` is None where memory can't be told (a scene, a notebook), never where it may fit.

    `hours` is from the start to the end, with setting up and the interruptions that are to be expected; `work_h`, which
    is paid for, without the latter: the expected cost of an hour holds them already. `cost_micros` is what all of it is
    expected to cost; None where the time is unknown. `job` is what the estimate is for, and `replicas` how many of its
    items run at once on GPUs of their own. `pace` is the whole machine's, in the speed's unit. `factor` is what
    recorded runs did to the memory; None without enough of them.
    """

    priced: Priced
    job: Job | None
    verdict: Verdict | None
    fits: bool | None
    hours: Hours | None
    work_h: float | None
    cost_micros: int | None
    pace: float | None = None
    replicas: int = 1
    factor: Factor | None = None

    @property
    def gpu(self) -> str:
        return self.priced.offer.gpu

    @property
    def gpus(self) -> int:
        return max(1, self.priced.offer.gpus)

    @property
    def hardware(self) -> tuple[str, int]:
        return self.gpu, self.gpus

    @property
    def card_gb(self) -> float:
        """What a process can take of one card, in GB (1e9); 0 for a card that nobody knows."""
        known = self.verdict.gpu if self.verdict else None
        return known.usable_bytes / GB if known else (self.priced.offer.vram_mb or 0) / 1000

    @property
    def memory(self) -> Memory | None:
        return self.verdict.memory if self.verdict else None


@dataclass(frozen=True)
class _Suited:
    """How an errand runs on one type of machine, whatever it costs there."""

    job: Job | None
    verdict: Verdict | None
    fits: bool | None
    hours: Hours | None
    pace: float | None
    replicas: int = 1
    factor: Factor | None = None


class Assessor:
    """Assesses offers for one errand. Each type of machine is computed once."""

    def __init__(self, errand: Errand, estimator: Estimator, factors: Factors, stake: Stake) -> None:
        self._errand = errand
        self._estimator = estimator
        self._factors = factors
        self._stake = stake
        self._suited: dict[tuple[str, int], _Suited] = {}

    def all(self, ranked: Iterable[Priced]) -> Iterator[Candidate]:
        """A candidate for each offer that names its GPU."""
        for priced in ranked:
            if priced.offer.gpu:
                yield self.assess(priced)

    def assess(self, priced: Priced) -> Candidate:
        """What the errand does on one offer."""
        offer = priced.offer
        hardware = (offer.gpu, max(1, offer.gpus))
        suited = self._suited.get(hardware)
        if suited is None:
            suited = self._suited[hardware] = self._suit(*hardware)
        hours, work_h = suited.hours, suited.hours.point if suited.hours else None
        if hours is not None and work_h is not None and self._errand.held_h is None:
            lost_h = self._stake.restore_h + self._stake.work_at_risk_s / 3600
            hours = _later(_scaled(hours, 1 + priced.hazard.per_hour * lost_h), SETUP_H)
            work_h += SETUP_H
        return Candidate(
            priced=priced,
            job=suited.job,
            verdict=suited.verdict,
            fits=_on_this_card(suited, offer.vram_mb),
            hours=hours,
            work_h=work_h,
            cost_micros=None if work_h is None else cost_micros(work_h, priced.micros_per_hour),
            pace=suited.pace,
            replicas=suited.replicas,
            factor=suited.factor,
        )

    def _suit(self, gpu: str, gpus: int) -> _Suited:
        if self._errand.job is None:
            return self._unmodelled(gpu, gpus)
        first: _Suited | None = None
        for layout in layouts(self._errand, gpus):
            found = self._laid_out(gpu, *layout)
            if found.fits:
                return found
            first = first or found
        assert first is not None, "every job has a layout"
        return first

    def _laid_out(self, gpu: str, job: Job, replicas: int) -> _Suited:
        verdict = self._estimator.verdict(job, gpu)
        factor = self._factors.memory.get(job.task) if verdict.memory and verdict.gpu else None
        if factor is not None:
            verdict = _remembered(verdict, factor)
        speed = verdict.speed
        pace = None if speed is None else speed.value * replicas * (job.n_gpus or 1 if speed.per_gpu else 1)
        hours: Hours | None = None
        if self._errand.held_h is not None:
            hours = _exactly(self._errand.held_h)
        elif self._errand.amount is not None and speed is not None:
            hours = _scaled(hours_for(self._errand.amount, speed, job.n_gpus or 1), 1 / replicas)
            hours = _scaled(hours, self._factors.hours.get(job.task, 1.0))
        return _Suited(job, verdict, verdict.fits, hours, pace, replicas, factor)

    def _unmodelled(self, gpu: str, gpus: int) -> _Suited:
        """Rendering, whose time follows from a measured frame; and work of which only the hours may be known."""
        frames = self._errand.frames
        verdict = self._estimator.verdict(Job(task="render"), gpu)
        if verdict.gpu is None or not verdict.gpu.half_tflops:
            return _Suited(None, verdict, False, None, None)
        score = verdict.gpu.half_tflops * gpus
        if frames and verdict.speed:
            score = verdict.speed.value * gpus
        hours = None if self._errand.held_h is None else _exactly(self._errand.held_h)
        if frames is not None and frames.count and frames.frame_s:
            measured_on = self._estimator.known.gpu(frames.gpu)
            if measured_on is not None:
                all_of_them = render_hours(1, frames.frame_s, measured_on, verdict.gpu, self._estimator.known)
                hours = _scaled(all_of_them, frames.count / gpus)
        return _Suited(None, verdict, None, hours, score)


def layouts(errand: Errand, gpus: int) -> Iterator[tuple[Job, int]]:
    """The ways a job may use so many GPUs of one machine, the simplest first: a job for the estimator, and replicas."""
    job = errand.job
    assert job is not None, "only a job has a layout"
    if gpus == 1 or job.parallelism:
        yield replace(job, n_gpus=gpus), 1
        return
    if errand.splits:
        yield replace(job, n_gpus=1), gpus
    if job.task in TRAINING:
        for parallelism in _SHARDED:
            yield replace(job, n_gpus=gpus, parallelism=parallelism), 1
    elif not errand.splits or job.task == "batch-inference":
        yield replace(job, n_gpus=gpus), 1


def _on_this_card(suited: _Suited, vram_mb: int | None) -> bool | None:
    """The estimator's verdict, unless the provider tells of a card that is smaller than its name."""
    memory = suited.verdict.memory if suited.verdict else None
    gpu = suited.verdict.gpu if suited.verdict else None
    if not suited.fits or vram_mb is None or memory is None or gpu is None:
        return False if suited.job is not None and suited.fits is None else suited.fits
    smaller = vram_mb * 1e6 < NOMINAL * gpu.vram_gb * GIB * 15 / 16
    return not smaller or memory.device_high * 1000 <= vram_mb


def _remembered(verdict: Verdict, factor: Factor) -> Verdict:
    """A verdict after recorded runs that took more memory than predicted. They never make it smaller, so what does not
    fit never comes to fit; and the worst case is never less than what the worst of them took.
    """
    assert verdict.memory is not None and verdict.gpu is not None
    memory = verdict.memory.scaled(max(1.0, factor.applied))
    missing = max(0.0, factor.worst * verdict.memory.device_point - memory.device_high)
    memory = replace(memory, high=memory.high + missing, device_high=memory.device_high + missing)
    room = verdict.gpu.usable_bytes / GB
    fits = verdict.fits and memory.device_high <= room
    if memory == verdict.memory:
        return verdict
    reason = Reason.FITS if fits else Reason.MAY_FIT if memory.device_point <= room else Reason.TOO_LARGE
    return replace(verdict, memory=memory, fits=bool(fits), reason=reason, margin_gb=room - memory.device_high)


def _exactly(hours: float) -> Hours:
    return Hours(hours, hours, hours)


def _later(hours: Hours, by_h: float) -> Hours:
    return Hours(hours.point + by_h, hours.low + by_h, hours.high + by_h)


def _scaled(hours: Hours, factor: float) -> Hours:
    return Hours(hours.point * factor, hours.low * factor, hours.high * factor)
