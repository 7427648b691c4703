"""Speed of jobs: bounds that no GPU can pass, directions that must hold, and money that is never understated."""

from dataclasses import replace

import pytest

from dumont.advisor.catalogue import Gpu, catalogue
from dumont.advisor.estimate.cost import cost_micros, hours_for, render_hours, tokens_of
from dumont.advisor.estimate.drawing import render_score
from dumont.advisor.estimate.part import Speed
from dumont.advisor.estimate.rate import product_tflops, vector_gbs
from dumont.advisor.estimate.speed import estimate_speed
from dumont.advisor.job import Job
from dumont.advisor.plan import plan_of
from dumont.errors import BadInput

TRAINING = Job(
    task="full-ft", model="Llama-3.1-8B", precision="bf16", seq_len=2048, batch=4, grad_ckpt="yes", framework="TRL"
)
DECODING = Job(task="inference", model="Llama-3.1-8B", precision="fp16", seq_len=1024, batch=1, framework="llama.cpp")


def gpu(name: str) -> Gpu:
    found = catalogue().gpu(name)
    assert found is not None
    return found


def speed(job: Job, name: str = "A100 SXM4 80GB") -> float:
    return estimate_speed(job, gpu(name)).value


def test_no_training_computes_faster_than_the_chip() -> None:
    """Model FLOPs over time stay below what products reach, on every card and for every recipe."""
    for card in catalogue().gpus:
        for task in ("full-ft", "lora", "pretrain"):
            rate = estimate_speed(replace(TRAINING, task=task), card).value
            passes = 2 if task == "lora" else 3
            assert rate * 2 * 7e9 * passes / 1e12 < product_tflops(card), (card.name, task)


def test_no_stream_decodes_faster_than_memory_can_be_read() -> None:
    """Each token of a single stream reads all weights once."""
    for card in catalogue().gpus:
        assert estimate_speed(DECODING, card).value * 15.0 < card.bandwidth, card.name


def test_an_interval_encloses_its_point() -> None:
    """And says what the seconds are spent on."""
    found = estimate_speed(TRAINING, gpu("RTX 4090"))
    assert found.low < found.value < found.high
    assert found.per_gpu
    seconds = sum(part.amount for part in found.parts)
    assert found.value == pytest.approx(4 * 2048 / seconds)


def test_frozen_weights_and_no_checkpointing_are_faster() -> None:
    """LoRA saves the gradients of weights, checkpointing costs a forward pass."""
    assert speed(replace(TRAINING, task="lora")) > speed(TRAINING)
    assert speed(replace(TRAINING, grad_ckpt="no")) > speed(TRAINING)


def test_quantised_training_is_slower_and_quantised_decoding_faster() -> None:
    """Training expands weights before each product; decoding waits for memory."""
    assert speed(replace(TRAINING, task="qlora", quant="nf4")) < speed(replace(TRAINING, task="lora"))
    assert speed(replace(DECODING, quant="Q4_K_M")) > 1.5 * speed(DECODING)


def test_python_sets_the_pace_of_small_steps() -> None:
    """An eager loop decodes a 0.6 B model no faster than its kernels are launched, however fast the card."""
    job = replace(DECODING, model="Qwen3-0.6B", framework="HF transformers")
    assert speed(job, "H100 SXM5") == pytest.approx(speed(job, "RTX 3090"))
    assert speed(replace(job, framework="vLLM"), "H100 SXM5") > 3 * speed(job, "H100 SXM5")


def test_experts_that_are_not_chosen_are_not_read() -> None:
    """A mixture decodes at the pace of its active parameters; a large batch reads nearly all of them."""
    dense, mixture = (
        replace(DECODING, model="Qwen3-32B", framework="vLLM"),
        replace(DECODING, model="Qwen3-30B-A3B", framework="vLLM"),
    )
    assert speed(mixture) > 3 * speed(dense)
    assert speed(replace(mixture, batch=64)) / speed(mixture) < speed(replace(dense, batch=64)) / speed(dense)


def test_splitting_layers_over_cards_does_not_speed_up_one_stream() -> None:
    """Layer after layer runs on card after card; tensor parallelism reads them at once."""
    split = replace(DECODING, n_gpus=2, parallelism="layer-split")
    assert speed(split) == pytest.approx(speed(DECODING))
    assert speed(replace(DECODING, n_gpus=2, parallelism="TP2", framework="vLLM")) > 1.2 * speed(
        replace(DECODING, framework="vLLM")
    )


def test_a_slow_link_costs_more_than_a_fast_one() -> None:
    """Sharded training gathers weights in every pass: a card without peer access waits for them."""
    sharded = replace(TRAINING, n_gpus=8, parallelism="FSDP", batch=1, seq_len=512)
    linked, alone = gpu("A100 SXM4 80GB"), replace(gpu("A100 SXM4 80GB"), nvlink=0.0)
    assert estimate_speed(sharded, alone).value < 0.7 * estimate_speed(sharded, linked).value


def test_an_a100_decodes_below_its_memorys_rate_and_a_geforce_does_not() -> None:
    """What a multiprocessor can have in flight bounds the many gigabytes per second of stacked memory."""
    plan = plan_of(replace(DECODING, framework="vLLM"), catalogue())
    assert vector_gbs(gpu("A100 SXM4 80GB"), plan) < 0.65 * 2039
    assert vector_gbs(gpu("RTX 4090"), plan) == pytest.approx(0.85 * 1008)


@pytest.mark.parametrize(
    ("job", "unit"),
    [
        (Job(task="diffusion", model="SDXL", unit="it/s"), "it/s"),
        (Job(task="diffusion", model="FLUX.1-dev"), "s per batch"),
        (Job(task="video", model="Wan2.1-T2V-1.3B"), "s per batch"),
        (Job(task="whisper", model="whisper-large-v3"), "x real time"),
        (Job(task="cv-train", model="ResNet-50", batch=64), "images/s"),
        (Job(task="cv-inference", model="YOLO11n", unit="ms/image"), "ms/image"),
        (Job(task="nlp-train", model="bert-large", unit="sequences/s"), "sequences/s"),
        (Job(task="render", model="Blender"), "samples/min"),
        (Job(task="inference-serving", model="Llama-3-8B", batch=64), "output tokens/s"),
        (Job(task="lora", model="phi-2", unit="minutes per 1000 iterations"), "minutes per 1000 iterations"),
    ],
)
def test_each_kind_of_job_has_its_unit(job: Job, unit: str) -> None:
    """A speed in the wrong unit is a wrong price."""
    found = estimate_speed(job, gpu("L40S"))
    assert found.unit == unit
    assert 0 < found.low < found.value < found.high


def test_a_faster_card_is_never_slower() -> None:
    """An H100 beats an A100 and that an RTX 3090, whatever the job."""
    jobs = [
        TRAINING,
        DECODING,
        Job(task="diffusion", model="SDXL"),
        Job(task="cv-train", model="ResNet-50"),
        Job(task="video", model="CogVideoX-5B"),
        Job(task="inference-serving", model="Llama-3-8B", batch=32),
    ]
    for job in jobs:
        rates = [estimate_speed(job, gpu(name)) for name in ("RTX 3090", "A100 SXM4 80GB", "H100 SXM5")]
        order = [rate.value if "/s" in rate.unit else 1 / rate.value for rate in rates]
        assert order == sorted(order), job


def test_a_card_without_a_score_renders_like_its_kin() -> None:
    """Published scores are looked up; others follow from the architecture's samples per TFLOPS."""
    own, published = render_score(gpu("RTX 4090"), catalogue())
    estimated, looked_up = render_score(gpu("RTX 4090"), catalogue(), without_own=True)
    assert (own, published, looked_up) == (11065.4, True, False)
    assert estimated == pytest.approx(own, rel=0.35)


def test_a_sample_frame_tells_the_time_of_a_film() -> None:
    """Ten frames of a minute each on an RTX 3060 take a fifth of that on a card five times as fast."""
    hours = render_hours(10, 60.0, gpu("RTX 3060"), gpu("RTX 4090"), catalogue())
    assert hours.point == pytest.approx(10 / 60 * 2155.2 / 11065.4)
    assert hours.low < hours.point < hours.high


def test_hours_follow_from_work_and_money_is_rounded_up() -> None:
    """Integer micro-units, never below what will be billed."""
    found = Speed(2000.0, "tokens/s", 1600.0, 2400.0, per_gpu=True)
    hours = hours_for(tokens_of(50_000, 300, epochs=3), found, gpus=2)
    assert hours.point == pytest.approx(45e6 / 4000 / 3600)
    assert hours.low < hours.point < hours.high
    assert hours_for(100, Speed(6.0, "s per batch", 5.0, 8.0)).high == pytest.approx(800 / 3600)
    assert cost_micros(1.0000001, 300_000, machines=2) == 600_001
    with pytest.raises(BadInput, match="score"):
        hours_for(1, Speed(1.0, "samples/min", 1.0, 1.0))


def test_a_gpu_of_which_only_the_memory_is_known_has_no_speed() -> None:
    """ "24GB class" names no chip."""
    with pytest.raises(BadInput, match="unknown"):
        estimate_speed(DECODING, gpu("24GB class"))
