"""Memory of jobs: figures worked out by hand, directions that must hold for every job, and caution about what fits."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dumont.advisor.catalogue import catalogue
from dumont.advisor.estimate.inference import cache_bytes_per_token
from dumont.advisor.estimate.memory import estimate_memory, fits, in_unit, rounded_up_to_card
from dumont.advisor.estimate.training import layer_bytes, trainable
from dumont.advisor.job import Job, job_from_row
from dumont.advisor.plan import plan_of
from dumont.errors import BadInput

LLAMA = Job(
    task="lora", model="Llama-3.1-8B", precision="bf16", seq_len=2048, batch=1, grad_ckpt="yes", framework="TRL"
)


def part(job: Job, name: str) -> float:
    return sum(part.amount for part in estimate_memory(job).parts if part.name == name)


def test_the_parts_add_up_to_the_estimate() -> None:
    """Otherwise the arithmetic that a person is shown is not the one that decided."""
    for task in ("lora", "qlora", "full-ft", "inference", "pretrain"):
        memory = estimate_memory(replace(LLAMA, task=task))
        assert sum(item.amount for item in memory.parts) == pytest.approx(memory.point)
        assert all(item.formula and item.source for item in memory.parts)
        assert memory.low <= memory.point <= memory.high <= memory.device_high


def test_weights_take_two_bytes_a_parameter_in_sixteen_bit() -> None:
    """8.03 billion × 2 bytes, plus adapters."""
    assert part(replace(LLAMA, task="full-ft", optimizer="SGD"), "weights") == pytest.approx(16.06, rel=0.01)


def test_a_mixed_precision_adam_holds_sixteen_bytes_a_parameter() -> None:
    """ZeRO's count (arXiv:1910.02054): 2 + 2 for weights and gradients, 12 for master weights and two states."""
    job = Job(task="full-ft", model="Qwen-1.8B", framework="DeepSpeed", seq_len=256, batch=1, grad_ckpt="yes")
    held = sum(part(job, name) for name in ("weights", "gradients", "optimizer states"))
    assert held == pytest.approx(16 * 1.84, rel=0.01)


def test_zero_divides_states_then_gradients_then_weights() -> None:
    """Each stage shards one thing more (arXiv:1910.02054, figure 1)."""
    whole = Job(
        task="full-ft", model="Llama-2-7b", framework="DeepSpeed", seq_len=512, batch=1, grad_ckpt="yes", n_gpus=8
    )
    staged = [replace(whole, parallelism=f"ZeRO-{stage}") for stage in (1, 2, 3)]
    for job, sharded in zip(staged, (1, 2, 3), strict=True):
        for index, name in enumerate(("optimizer states", "gradients", "weights"), start=1):
            divisor = 8 if index <= sharded else 1
            assert part(job, name) == pytest.approx(part(whole, name) / divisor, rel=0.01), (name, sharded)


def test_grouped_heads_shrink_the_cache() -> None:
    """Llama 2 7B keeps 512 KiB per token, Llama 3 8B with a quarter of the heads 128 KiB, half of it in 8 bit."""
    plans = {
        name: plan_of(Job(task="inference", model=name, quant=quant), catalogue())
        for name, quant in (("Llama-2-7b", ""), ("Llama-3.1-8B", ""))
    }
    assert cache_bytes_per_token(plans["Llama-2-7b"]) == 512 * 1024
    assert cache_bytes_per_token(plans["Llama-3.1-8B"]) == 128 * 1024
    eighth = plan_of(Job(task="inference", model="Llama-3.1-8B", quant="int8 KV cache"), catalogue())
    assert cache_bytes_per_token(eighth) == 64 * 1024


def test_latent_attention_keeps_its_latents_only() -> None:
    """DeepSeek-V3 keeps 512 + 64 values per layer and token, not 128 heads of them (arXiv:2412.19437)."""
    plan = plan_of(Job(task="inference", model="DeepSeek-V3"), catalogue())
    assert cache_bytes_per_token(plan) == pytest.approx(61 * 576 * 2, rel=0.01)


def test_an_adapter_has_rank_times_both_ends() -> None:
    """Rank 8 on query and value of 32 layers with 4096 wide heads: 32 × 8 × 4 × 4096 parameters (arXiv:2106.09685)."""
    plan = plan_of(Job(task="lora", model="Llama-2-7b", framework="LitGPT"), catalogue())
    assert trainable(plan).params == 32 * 8 * 4 * 4096


def test_four_bit_weights_leave_embeddings_whole() -> None:
    """AWQ packs the blocks' linear layers; 2 × 32,000 × 4,096 entries stay in 16 bit. LitGPT packs the head too."""
    packed, whole = 6.74e9 - 2 * 32000 * 4096, 2 * 32000 * 4096
    job = Job(task="inference", model="Llama-2-7b", quant="AWQ int4 g128")
    assert part(job, "weights") == pytest.approx((packed * 4.16 / 8 + whole * 2) / 1e9, rel=0.001)
    own = replace(job, quant="nf4", framework="LitGPT")
    assert part(own, "weights") == pytest.approx(((packed + whole / 2) * 4.5 / 8 + whole) / 1e9, rel=0.001)


def test_every_expert_is_held_though_few_are_used() -> None:
    """Mixtral computes with 13 billion parameters and holds 47."""
    assert part(Job(task="inference", model="Mixtral-8x7B", precision="bf16"), "weights") == pytest.approx(
        93.4, rel=0.01
    )


def test_a_paged_or_offloaded_optimizer_is_not_on_the_card() -> None:
    """Unified memory is not counted by the allocator, offloaded states are in the host's."""
    assert part(replace(LLAMA, task="full-ft", optimizer="PagedAdamW"), "optimizer states") == 0
    offloaded = replace(LLAMA, task="full-ft", n_gpus=8, parallelism="FSDP2+cpu-offload")
    assert part(offloaded, "optimizer states") == part(offloaded, "weights") == 0


def test_a_step_fused_into_the_backward_pass_keeps_no_gradients() -> None:
    """Only one layer's gradients live at a time."""
    plain = estimate_memory(replace(LLAMA, task="full-ft", framework="torchtune"))
    fused = estimate_memory(replace(LLAMA, task="full-ft", framework="torchtune", optimizer="AdamW fused in backward"))
    assert fused.point < plain.point - 10


UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MORE = st.integers(min_value=1, max_value=8)


@given(
    seq=st.sampled_from([128, 512, 2048, 8192]),
    batch=MORE,
    more=MORE,
    task=st.sampled_from(["lora", "full-ft", "inference"]),
)
@UNTIMED
def test_more_tokens_never_take_less_memory(seq: int, batch: int, more: int, task: str) -> None:
    """A larger batch or a longer sequence can only add."""
    small = replace(LLAMA, task=task, seq_len=seq, batch=batch)
    assert estimate_memory(replace(small, batch=batch + more)).point >= estimate_memory(small).point
    assert estimate_memory(replace(small, seq_len=seq * 2)).point >= estimate_memory(small).point


@given(model=st.sampled_from(["Llama-2-7b", "Qwen2.5-14B", "Mixtral-8x7B-v0.1"]), gpus=st.sampled_from([2, 4, 8]))
@UNTIMED
def test_sharding_never_takes_more_per_gpu(model: str, gpus: int) -> None:
    """Tensor parallelism and FSDP exist to hold less."""
    alone = Job(task="inference", model=model, precision="bf16", seq_len=4096, batch=4)
    assert estimate_memory(replace(alone, n_gpus=gpus, parallelism=f"TP{gpus}")).point < estimate_memory(alone).point
    trained = replace(alone, task="full-ft", grad_ckpt="yes", framework="torchtitan")
    assert estimate_memory(replace(trained, n_gpus=gpus, parallelism="FSDP2")).point < estimate_memory(trained).point


@pytest.mark.parametrize(("less", "more"), [("yes", "selective"), ("selective", "no")])
def test_checkpointing_trades_memory_for_time(less: str, more: str) -> None:
    """Full checkpointing keeps least, none keeps most (arXiv:1604.06174)."""
    job = replace(LLAMA, task="full-ft", seq_len=8192, batch=2)
    assert estimate_memory(replace(job, grad_ckpt=less)).point < estimate_memory(replace(job, grad_ckpt=more)).point


def test_unfused_attention_grows_with_the_square_of_the_length() -> None:
    """Scores of every head are stored; flash attention stores none."""
    job = Job(task="full-ft", model="bert-large", precision="fp32", seq_len=512, batch=4, grad_ckpt="no")
    assert (
        estimate_memory(replace(job, attention="eager")).point
        > 1.3 * estimate_memory(replace(job, attention="sdpa")).point
    )


def test_what_is_shown_depends_on_who_looks() -> None:
    """The allocator's peak is below what it reserves, and that below what nvidia-smi shows."""
    allocated, reserved, device = (
        estimate_memory(replace(LLAMA, mem_metric=metric)).point
        for metric in ("max allocated", "max reserved", "nvidia-smi")
    )
    assert allocated < reserved < device


def test_fits_is_said_of_the_worst_case_only() -> None:
    """A card that holds the expected case but not the worst is answered with neither yes nor no; a smaller one with
    no.
    """
    memory = estimate_memory(LLAMA)
    base = catalogue().gpu("RTX 4090")
    assert base is not None
    sized = {
        answer: replace(base, vram_gb=gigabytes * 1e9 / 2**30 + 0.5)
        for answer, gigabytes in (
            (True, memory.device_high),
            (None, (memory.device_high + memory.device_point) / 2),
            (False, memory.device_point - 1),
        )
    }
    assert {answer: fits(memory, gpu) for answer, gpu in sized.items()} == {True: True, None: None, False: False}


def test_unstated_checkpointing_counts_against_fitting() -> None:
    """A job that does not say may run without; saying so makes the worst case smaller. Negative control of the
    caution.
    """
    unstated = estimate_memory(replace(LLAMA, grad_ckpt=""))
    assert unstated.point == pytest.approx(estimate_memory(LLAMA).point)
    assert unstated.device_high > estimate_memory(LLAMA).device_high + 5


def test_every_known_model_and_pipeline_has_an_estimate() -> None:
    """A row of the data files that breaks the arithmetic would break a user's answer."""
    for model in catalogue().models:
        if model.shape is not None:
            task = "whisper" if model.family == "asr" else "inference"
            assert estimate_memory(Job(task=task, model=model.name)).point > 0, model.name
    for pipeline in catalogue().pipelines:
        task = "video" if pipeline.kind == "video" else "diffusion"
        assert estimate_memory(Job(task=task, model=pipeline.name)).point > pipeline.denoiser_b, pipeline.name
    for vision in catalogue().visions:
        assert estimate_memory(Job(task="cv-train", model=vision.name, batch=8)).point > 0, vision.name


def test_nothing_is_estimated_for_nothing() -> None:
    """Without a model or a size there is no number to give."""
    with pytest.raises(BadInput, match="model is unknown"):
        estimate_memory(Job(task="lora"))


def test_units_are_those_of_the_row() -> None:
    """7 % lie between GB and GiB, as much as many errors."""
    assert in_unit(1.073741824, "GiB") == pytest.approx(1.0)
    assert in_unit(1.073741824, "GiB (MB/1024)") == pytest.approx(1.0)
    assert in_unit(2.0, "GB") == in_unit(2.0, "tokens/s") == 2.0
    assert rounded_up_to_card(17.2) == 20
    assert rounded_up_to_card(1000.5) == 1001


def test_a_row_reads_like_the_published_tables() -> None:
    """Numbers may be text, blanks and question marks mean unknown."""
    job = job_from_row(
        {
            "task": "QLoRA fine-tuning",
            "model": "Llama-2-7B",
            "params_b": "6.74",
            "seq_len": "4,096",
            "batch": "?",
            "grad_ckpt": "y",
            "n_gpus": 2.0,
            "gpu": "",
        }
    )
    assert (job.task, job.params_b, job.seq_len, job.batch, job.grad_ckpt, job.n_gpus, job.gpu) == (
        "qlora",
        6.74,
        4096,
        None,
        "yes",
        2,
        "",
    )


def test_every_adapter_of_peft_drops_its_own_input() -> None:
    """Five inputs of the hidden size, attention's output and the feed-forward's inside: a mask byte and a 16-bit copy
    each; LitGPT drops once for query, key and value; full fine-tuning has no adapters.
    """
    shape = plan_of(LLAMA, catalogue()).transformer
    kept = {
        name: layer_bytes(plan_of(replace(LLAMA, framework=name), catalogue()), shape) for name in ("TRL", "LitGPT")
    }
    attention, inside = shape.heads * shape.head_dim, shape.ffn
    assert kept["TRL"] - kept["LitGPT"] == 3 * (5 * shape.hidden + attention + inside) - 5 * shape.hidden


def test_flash_attention_keeps_grouped_heads_as_they_are() -> None:
    """Other kernels get keys and values repeated for every query head: 32 instead of 8, of 128, twice, in 16 bit."""
    shape = plan_of(LLAMA, catalogue()).transformer
    kept = [
        layer_bytes(plan_of(replace(LLAMA, attention=name), catalogue()), shape) for name in ("sdpa", "flash2", "eager")
    ]
    assert kept[0] - kept[1] == 2 * 2 * (32 - 8) * 128
    assert kept[2] > kept[0]


def test_the_loss_peaks_in_its_backward_pass() -> None:
    """Log-probabilities and two gradients in fp32 for each of 128,256 entries; a chunked loss keeps less."""
    job = replace(LLAMA, task="pretrain", framework="torchtitan", seq_len=8192, batch=2, n_gpus=8, parallelism="FSDP2")
    assert part(job, "logits") == pytest.approx(16_384 * 128_256 * 12 / 1e9)
    assert part(replace(job, framework="torchtune"), "logits") < 16_384 * 128_256 * 4 / 1e9


def test_tensor_parallelism_gathers_the_heads_input() -> None:
    """Blocks keep an eighth of the tokens' hidden values, the head all of them."""
    job = replace(LLAMA, task="pretrain", framework="torchtitan", seq_len=8192, batch=4, n_gpus=8, parallelism="TP8")
    assert part(job, "gathered input of the head") == pytest.approx(4 * 8192 * 4096 * 2 / 1e9)
    assert part(replace(job, n_gpus=1, parallelism="none"), "gathered input of the head") == 0
