"""Pace of a server under load: how many sequences run at once, and how fast all of them are written together."""

import re
from dataclasses import dataclass, replace

from dumont.advisor.catalogue import GIB, Gpu
from dumont.advisor.estimate.decoding import prompt_seconds, step_seconds
from dumont.advisor.estimate.inference import cache_bytes_per_token
from dumont.advisor.estimate.part import Part
from dumont.advisor.numerics import quantisation
from dumont.advisor.plan import Plan

SHARE_GPT = (220, 200)
SATURATED = 1024
CARD_SHARE, RESERVE_GB = 0.9, 2.0
HOST_MS_OLD, HOST_MS = 18.0, 4.0
_LENGTHS = re.compile(r"(\d[\d,]*)\s*(?:/|\+|in.{0,12}?)\s*(\d[\d,]*)")
_VERSION = re.compile(r"vllm\s*v?0\.(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Load:
    """A request's tokens: those of its prompt, and those written."""

    prompt: int
    output: int


def load_of(plan: Plan) -> Load:
    """ "1024/128" is prompt and output; one stated length is split in the middle; unstated ones are ShareGPT's means
    as serving benchmarks cut them.
    """
    found = _LENGTHS.search(plan.job.data)
    if found:
        prompt, output = (int(text.replace(",", "")) for text in found.groups())
        return Load(max(1, prompt), max(1, output))
    if plan.job.seq_len:
        return Load(max(1, plan.job.seq_len // 2), max(1, plan.job.seq_len // 2))
    return Load(*SHARE_GPT)


def concurrent_streams(plan: Plan, gpu: Gpu, load: Load) -> float:
    """Sequences that run at once: those asked for, or what fits in 90 % of the card after the weights and 2 GB of
    working set.

    A finite set of requests that starts together thins out as short answers end: a quarter of many runs on average.
    Without a stated number a server is taken as saturated.
    """
    parallel = plan.parallel
    split = parallel.tensor * parallel.pipeline
    width = plan.quant.bits / 8 if plan.quant.active else plan.precision.weight_bytes
    free = CARD_SHARE * gpu.vram_gb * GIB * split - plan.transformer.params * width - RESERVE_GB * 1e9 * split
    room = max(1.0, free / max(1.0, cache_bytes_per_token(plan) * (load.prompt + load.output / 2)))
    if plan.job.batch is None:
        return min(room, float(SATURATED))
    asked = float(plan.batch)
    return min(room, asked / 4 if asked > 100 and "prompt" in plan.job.data else asked)


def serving_tokens_per_second(plan: Plan, gpu: Gpu) -> tuple[float, tuple[Part, ...]]:
    """Output tokens per second: steps of all running sequences, prompts of the arriving ones, and the scheduler's own
    time (vLLM before 0.6 about 18 ms per step, v0.6.0 performance notes; about 4 ms since).
    """
    load = load_of(plan)
    plan = replace(plan, seq_len=2 * load.prompt + load.output)  # half of it is the mean depth of the cache
    too_large = plan.transformer.params * plan.precision.weight_bytes > 0.85 * gpu.vram_gb * GIB * plan.parallel.gpus
    if too_large and plan.job.quant and not plan.quant.active:
        plan = replace(plan, quant=quantisation("AWQ"))  # "best of tested" on a small card: only a quantised model ran
    streams = concurrent_streams(plan, gpu, load)
    parts = step_seconds(plan, gpu, streams)
    version = _VERSION.search(plan.job.framework)
    host = (HOST_MS_OLD if version and int(version.group(1)) < 6 else HOST_MS) / 1e3
    if plan.parallel.tensor > 1:
        host *= 1.5
    arriving = streams / load.output * prompt_seconds(plan, gpu, load.prompt)
    extra = (
        Part("scheduler", host, "per step", "vLLM v0.6.0 performance notes"),
        Part("prompts", arriving, f"{load.prompt} tokens per {load.output} written", "roofline"),
    )
    total = sum(part.amount for part in (*parts, *extra))
    return streams / total, (*parts, *extra)
