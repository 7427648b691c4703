"""How long an answer takes: sentences over 5,000 offers, read by the rules and ranked, in processor time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dumont.advisor.advice import Market, Settings, advise
from dumont.advisor.answer import answer
from dumont.advisor.estimate.verdict import Estimator
from dumont.advisor.reader.read import read
from dumont.market.names import gpus
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Offer

OFFERS = 5000
MS_MAX = 200.0
NOW = datetime(2026, 11, 24, 13, 0, tzinfo=UTC)
SENTENCES = (
    "quero fazer fine-tuning LoRA do Llama 3 8B com 50 mil exemplos até sexta, no máximo R$ 300",
    "full fine-tune of mistral 7b, 20k examples, under $100",
    "servir qwen 2.5 14b para 20 usuários com 8k de contexto",
    "transcrever 600 horas de áudio com whisper large-v3",
    "generate 1000 images with SDXL at 1024x1024",
    "render 300 frames in Blender, 4 min per frame on RTX 3090, by tomorrow, under $20",
    "fine tune a llm",
)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Processor milliseconds of one answer: reading, ranking, questions and sentences, nothing remembered before."""

    sentence: str
    ms: float


def market() -> Market:
    """5,000 offers of every known GPU, 1 to 8 a machine, spot by bid, spot and on demand, with reliabilities."""
    names = sorted(gpus())
    return Market(offers=[_offer(at, names) for at in range(OFFERS)], now=NOW, live=True)


def _offer(at: int, names: Sequence[str]) -> Offer:
    kind = (Interruption.OUTBID, Interruption.PREEMPTED, Interruption.NEVER)[at % 3]
    gpu, count = gpus()[names[at % len(names)]], (1, 1, 1, 2, 4, 8)[at // 7 % 6]
    micros = round(gpu.tflops * 3000 * count * (1 + at % 17 / 10)) + 50_000
    return Offer(
        id=f"offer-{at}",
        provider=("vast", "gce")[kind is Interruption.PREEMPTED],
        machine=Machine.GPU,
        name="machine",
        price_micros_per_hour=micros,
        compute_micros_per_hour=micros,
        min_bid_micros_per_hour=micros * 7 // 10 if kind is Interruption.OUTBID else None,
        spot=kind is not Interruption.NEVER,
        interruption=kind,
        gpu=gpu.name,
        gpus=count,
        vram_mb=gpu.usable_mb,
        region=("BR", "US", "DE", "SE")[at % 4],
        host=f"host-{at // 3}",
        domain=f"host-{at // 3}",
        reliability=0.9 + at % 10 / 100,
    )


def timings() -> list[Timing]:
    """One timing for each sentence, after one answer that reads the data files."""
    offered = market()
    _answered(SENTENCES[-1], offered)
    return [Timing(sentence=sentence, ms=_answered(sentence, offered)) for sentence in SENTENCES]


def _answered(sentence: str, offered: Market) -> float:
    began = time.process_time()
    answer(advise(read(sentence), offered, Settings(), Estimator()))
    return round((time.process_time() - began) * 1e3, 1)


def rendered(found: Sequence[Timing]) -> list[str]:
    """Timings as Markdown."""
    lines = ["### Ranking", "", f"Answers over {OFFERS:,} offers without a language model, in processor time:", ""]
    return [*lines, "| sentence | ms |", "|---|---|", *(f"| {one.sentence} | {one.ms:g} |" for one in found), ""]
