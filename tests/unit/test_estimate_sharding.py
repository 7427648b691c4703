"""Memory of sharded training: what is gathered, staged and set aside, worked out by hand from the code that does it."""

from dataclasses import replace

import pytest

from dumont.advisor.catalogue import catalogue
from dumont.advisor.estimate.memory import estimate_memory
from dumont.advisor.estimate.sharding import buckets, gathered_layers, kept_for_gathering, loading, root_unit
from dumont.advisor.estimate.training import trainable, weight_part
from dumont.advisor.job import Job
from dumont.advisor.plan import Plan, plan_of
from dumont.advisor.shape import Shape

LLAMA = Job(
    task="full-ft",
    model="Llama-3.1-70B",
    precision="bf16",
    seq_len=2048,
    batch=1,
    grad_ckpt="yes",
    framework="TRL",
    n_gpus=8,
    parallelism="FSDP2",
)
LAYER_GB = 2 * 0.8556  # 70.55 B without embedding and head of 128,256 × 8,192 each, in 80 layers of 16 bit
HEAD_GB = 2 * 128_256 * 8192 / 1e9


def planned(**fields: object) -> tuple[Plan, Shape]:
    plan = plan_of(replace(LLAMA, **fields), catalogue())
    return plan, plan.transformer


@pytest.mark.parametrize(
    ("task", "parallelism", "layers"),
    [
        ("full-ft", "FSDP2", 4),
        ("full-ft", "FSDP", 3),
        ("full-ft", "ZeRO-3", 3),
        ("lora", "FSDP2", 2),
        ("lora", "FSDP", 2),
    ],
)
def test_a_block_has_as_many_layers_beside_it_as_its_sharding_keeps(task: str, parallelism: str, layers: int) -> None:
    """In use and prefetched; a gradient when all weights are trained; FSDP2 reduces from a copy of it."""
    assert gathered_layers(*planned(task=task, parallelism=parallelism)).amount == pytest.approx(
        layers * LAYER_GB, rel=0.005
    )


def test_what_one_stream_keeps_is_reserved_and_not_allocated() -> None:
    """FSDP2 gathers two layers ahead in the forward pass; only who asks the allocator for what it holds sees it."""
    plan, _ = planned()
    assert kept_for_gathering(plan) == pytest.approx(LAYER_GB, rel=0.005)
    assert kept_for_gathering(planned(parallelism="FSDP")[0]) == 0
    assert kept_for_gathering(planned(parallelism="ZeRO-3")[0]) == 0
    assert kept_for_gathering(planned(n_gpus=1, parallelism="none")[0]) == 0
    reserved, allocated = (
        estimate_memory(replace(LLAMA, mem_metric=metric)).point for metric in ("max reserved", "max allocated")
    )
    assert reserved == pytest.approx(1.05 * allocated + LAYER_GB, rel=0.001)


def test_the_root_unit_stays_until_the_end_of_the_backward_pass() -> None:
    """Embedding, head and the head's gradient; adapters train neither. Units of their own and ZeRO-3 let them go."""
    whole = root_unit(*planned(), at_loss=False).amount
    assert whole == pytest.approx(3 * HEAD_GB, rel=0.001)
    assert root_unit(*planned(task="lora"), at_loss=False).amount == pytest.approx(2 * HEAD_GB, rel=0.001)
    assert root_unit(*planned(framework="torchtune"), at_loss=False).amount == 0
    assert root_unit(*planned(framework="torchtune"), at_loss=True).amount == pytest.approx(2 * HEAD_GB, rel=0.001)
    assert root_unit(*planned(parallelism="ZeRO-3"), at_loss=False).amount == 0
    assert root_unit(*planned(n_gpus=1, parallelism="none"), at_loss=True).amount == 0


def test_offloaded_shards_pass_over_the_card() -> None:
    """Two on their way in and a gradient on its way out: three eighths of a layer on eight GPUs."""
    held = gathered_layers(*planned()).amount
    offloaded = gathered_layers(*planned(parallelism="FSDP2+cpu-offload")).amount
    assert offloaded - held == pytest.approx(3 / 8 * LAYER_GB, rel=0.005)


def test_offloading_weighs_less_than_keeping() -> None:
    """Whatever passes over the card, weights, states and gradients are in the host's memory."""
    assert (
        estimate_memory(replace(LLAMA, parallelism="FSDP2+cpu-offload")).point < estimate_memory(LLAMA).point - 3 * 17
    )


@pytest.mark.parametrize(
    ("framework", "parallelism", "elements"),
    [
        ("PEFT", "ZeRO-3", 5e8),
        ("axolotl", "ZeRO-2", 5e8),
        ("axolotl", "ZeRO-3", 8192**2),
        ("PEFT", "FSDP", 0),
        ("PEFT", "none", 0),
    ],
)
def test_deepspeed_sets_a_bucket_aside(framework: str, parallelism: str, elements: float) -> None:
    """As many elements as wide as the weights, whether adapters fill it or not; hidden² when it is "auto"."""
    plan, _ = planned(framework=framework, parallelism=parallelism, task="lora")
    assert buckets(plan).amount == pytest.approx(2 * elements / 1e9)


def test_four_bit_weights_are_whole_on_each_card_before_axolotl_divides_them() -> None:
    """A card that holds a quarter of them is no use if it can't load them; without quantisation none is whole."""
    plan, _ = planned(task="qlora", framework="axolotl", quant="nf4", parallelism="FSDP", n_gpus=4)
    shard = weight_part(plan)
    (whole,) = loading(plan, shard)
    assert whole.amount == pytest.approx(4 * shard.amount)
    assert estimate_memory(plan.job).point > whole.amount
    for other in (
        planned(task="lora", framework="axolotl", parallelism="FSDP", n_gpus=4),
        planned(task="qlora", framework="TRL", quant="nf4", parallelism="FSDP", n_gpus=4),
        planned(task="qlora", framework="axolotl", quant="nf4", parallelism="none", n_gpus=1),
    ):
        assert loading(other[0], weight_part(other[0])) == []


def test_axolotls_fsdp2_does_not_widen_trained_weights() -> None:
    """Accelerate's own preparation raises them to fp32."""
    narrow = weight_part(planned(framework="axolotl")[0]).amount
    assert weight_part(planned(framework="TRL")[0]).amount == pytest.approx(2 * narrow)
    assert weight_part(planned(framework="axolotl", parallelism="FSDP")[0]).amount == pytest.approx(2 * narrow)


def test_a_head_that_is_untied_is_trained_too() -> None:
    """LitGPT holds Gemma's tied embedding twice, and the second copy gets a gradient and states."""
    tied = plan_of(Job(task="full-ft", model="Gemma-2B", framework="TRL"), catalogue())
    untied = plan_of(Job(task="full-ft", model="Gemma-2B", framework="LitGPT"), catalogue())
    assert trainable(untied).params - trainable(tied).params == tied.transformer.head == 256_000 * 2048
