"""A verdict: what a job takes on one type of GPU, whether it fits, and how fast it runs; remembered per type of GPU."""

from dataclasses import dataclass, field
from enum import StrEnum

from dumont.advisor.catalogue import Catalogue, Gpu, catalogue
from dumont.advisor.estimate.memory import fits, memory_of
from dumont.advisor.estimate.part import Memory, Speed
from dumont.advisor.estimate.speed import speed_of
from dumont.advisor.job import Job
from dumont.advisor.plan import Plan, plan_of
from dumont.errors import BadInput

REMEMBERED_MAX = 10_000


class Reason(StrEnum):
    """What decided whether a job fits; a shell says it in the user's language, `Verdict.why` in English."""

    FITS = "fits"
    TOO_LARGE = "too large"
    MAY_FIT = "may fit"
    SEVERAL_CARDS = "several cards"
    UNKNOWN_GPU = "unknown gpu"
    UNKNOWN_MODEL = "unknown model"
    SCENE = "scene"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fits` is None when it can't be known. `margin_gb` is what stays free of the card at the worst."""

    memory: Memory | None
    fits: bool | None
    reason: Reason
    why: str
    speed: Speed | None
    gpu: Gpu | None = None
    margin_gb: float | None = None


@dataclass
class Estimator:
    """Verdicts over one catalogue. Five thousand offers are a few dozen types of GPU: each type is computed once per
    job.
    """

    known: Catalogue = field(default_factory=catalogue)
    _plans: dict[Job, Plan | str] = field(default_factory=dict, repr=False)
    _memories: dict[Job, Memory] = field(default_factory=dict, repr=False)
    _verdicts: dict[tuple[Job, str], Verdict] = field(default_factory=dict, repr=False)

    def verdict(self, job: Job, gpu: str) -> Verdict:
        """What `job` does on the GPU that the text `gpu` names (any spelling); never raises."""
        key = (job, gpu)
        if key not in self._verdicts:
            if len(self._verdicts) >= REMEMBERED_MAX:
                self._verdicts.clear()
                self._plans.clear()
                self._memories.clear()
            self._verdicts[key] = self._judge(job, gpu)
        return self._verdicts[key]

    def plan(self, job: Job) -> Plan:
        """The job with its assumptions.

        Raises:
            BadInput: neither a model nor a size is known.
        """
        base = job.on("")
        found = self._plans.get(base)
        if found is None:
            try:
                found = plan_of(base, self.known)
            except BadInput as error:
                found = str(error)
            self._plans[base] = found
        if isinstance(found, str):
            raise BadInput(found)
        return found

    def _judge(self, job: Job, gpu: str) -> Verdict:
        try:
            plan = self.plan(job)
        except BadInput as error:
            return Verdict(None, None, Reason.UNKNOWN_MODEL, str(error), None)
        memory = None if plan.task == "render" else self._memory(plan)
        parts = self.known.gpus_named(gpu)
        likeliest = self.known.gpu(gpu)
        decided, reason, why = _fitting(memory, parts, gpu)
        speed = None
        if likeliest is not None and likeliest.half_tflops:
            speed = speed_of(plan, likeliest, self.known)
        margin = None
        if memory is not None and likeliest is not None:
            margin = likeliest.usable_bytes / 1e9 - memory.device_high
        return Verdict(memory, decided, reason, why, speed, likeliest, margin)

    def _memory(self, plan: Plan) -> Memory:
        """A job takes the same memory on every card."""
        if plan.job not in self._memories:
            self._memories[plan.job] = memory_of(plan)
        return self._memories[plan.job]


def _fitting(memory: Memory | None, parts: tuple[Gpu, ...], text: str) -> tuple[bool | None, Reason, str]:
    """True when the smallest card a name may mean surely holds the job, False when even the largest surely does not."""
    if memory is None:
        return None, Reason.SCENE, "the scene decides: measure one frame"
    if not parts:
        return None, Reason.UNKNOWN_GPU, f"no GPU is known by the name {text!r}" if text else "no GPU is named"
    answers = {fits(memory, gpu) for gpu in parts}
    needed = f"about {memory.device_point:.1f} GB, at worst {memory.device_high:.1f} GB"
    smallest, largest = (edge(gpu.usable_bytes for gpu in parts) / 1e9 for edge in (min, max))
    if answers == {True}:
        return True, Reason.FITS, f"{needed}; the card holds {smallest:.1f} GB"
    if answers == {False}:
        return False, Reason.TOO_LARGE, f"{needed}; the card holds {largest:.1f} GB"
    if answers == {None}:
        return None, Reason.MAY_FIT, f"{needed}; the card holds {smallest:.1f} GB: it may fit"
    sizes = ", ".join(f"{size:g}" for size in sorted({gpu.vram_gb for gpu in parts}))
    return None, Reason.SEVERAL_CARDS, f"{needed}; {text} exists with {sizes} GB"
