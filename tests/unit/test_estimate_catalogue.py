"""The catalogue: names that people write find their part, and every row says where it comes from and of when it is."""

import csv
import re
from importlib import resources
from itertools import pairwise

import pytest

from dumont.advisor.catalogue import catalogue
from dumont.advisor.job import task_named
from dumont.advisor.notation import Frame, frame_in, number, params_in_name
from dumont.advisor.numerics import optimizer, precision, quantisation
from dumont.advisor.parallel import parallel
from dumont.advisor.shape import shape_of_config, shape_of_size
from dumont.errors import BadInput


@pytest.mark.parametrize("name", ["gpus.csv", "models.csv", "pipelines.csv", "vision.csv", "render_scores.csv"])
def test_every_row_has_a_source_and_a_date(name: str) -> None:
    """A figure without them is a rumour."""
    text = resources.files("dumont.advisor").joinpath("data", name).read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) > 15
    for row in rows:
        assert row["source"], row
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", row["as_of"]), row


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100 SXM4 80GB"),
        ("A100 40GB PCIe", "A100 PCIe 40GB"),
        ("RTX_3090", "RTX 3090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("rtx3090ti", "RTX 3090 Ti"),
        ("RTX 4070S Ti", "RTX 4070 Ti SUPER"),
        ("RTX 6000 Ada 48GB", "RTX 6000 Ada"),
        ("RTX A6000", "RTX A6000"),
        ("Quadro RTX 6000", "Quadro RTX 6000"),
        ("H100", "H100 SXM5"),
        ("H100 NVL", "H100 NVL"),
        ("Tesla T4", "Tesla T4"),
        ("L40S 48GB", "L40S"),
        ("T4", "Tesla T4"),
        ("RTX PRO 6000 Max-Q 300W", "RTX PRO 6000 Blackwell Max-Q"),
        ("MI300X", "MI300X"),
        ("RTX 4090 Laptop", "RTX 4090 Laptop"),
    ],
)
def test_a_gpu_is_found_by_the_names_people_and_markets_write(text: str, name: str) -> None:
    """Markets, drivers and people spell the same card differently."""
    found = catalogue().gpu(text)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("text", ["", "foo", "RTX", "RTX 3080 Laptop Ada", "not stated", "GPU", "24"])
def test_an_unknown_gpu_is_not_guessed(text: str) -> None:
    """A wrong card would be a wrong answer with a right look."""
    assert catalogue().gpu(text) is None


def test_a_stated_size_overrides_the_sheet() -> None:
    """Modified cards exist, and "24GB class" is a card of which only the memory is known."""
    modified, some = catalogue().gpu("RTX 4090 48GB mod"), catalogue().gpu("24GB class")
    assert modified is not None
    assert modified.vram_gb == 48
    assert some is not None
    assert (some.vram_gb, some.half_tflops) == (24, 0)


def test_inline_ecc_takes_a_sixteenth_of_server_cards() -> None:
    """nvidia-smi shows 22.5 GiB on an L4, 24 on an RTX 3090; stacked memory has ECC of its own."""
    usable = {name: catalogue().gpu(name).usable_bytes / 2**30 for name in ("L4", "RTX 3090", "V100 16GB")}  # type: ignore[union-attr]
    assert usable == {"L4": pytest.approx(22.1), "RTX 3090": pytest.approx(23.6), "V100 16GB": pytest.approx(15.6)}


def test_numbers_are_read_as_people_write_them() -> None:
    """Text, thousands, suffixes; never infinities or words."""
    assert [number(value) for value in ("8.03", "1,024", "8k", "7B", 3, "1_000")] == [8.03, 1024, 8000, 7e9, 3, 1000]
    assert [number(value) for value in ("", "?", "many", None, True, "1e999", float("nan"), 10**400, [1])] == [None] * 9


def test_sizes_are_read_from_names() -> None:
    """ "8x7B" is not 56: attention is shared."""
    names = ("Llama-3-8B", "Qwen3-30B-A3B", "SmolLM2-135M", "Mixtral-8x7B", "bert-large", "phi-2")
    assert [params_in_name(name) for name in names] == [8, 30, 0.135, pytest.approx(46.7, rel=0.01), None, None]


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("QLoRA fine-tuning", "qlora"),
        ("llm-lora", "lora"),
        ("llm-ft-unspecified", "lora"),
        ("llm-full-ft", "full-ft"),
        ("llm-pretrain", "pretrain"),
        ("llm-serving", "inference-serving"),
        ("llm-chat-single", "inference"),
        ("llm-batch-inference", "batch-inference"),
        ("nlp-finetune", "nlp-train"),
        ("embedding", "batch-inference"),
        ("embedding-finetune", "nlp-train"),
        ("diffusion-full-ft", "diffusion full-ft"),
        ("diffusion-lora", "diffusion lora"),
        ("diffusion-inference", "diffusion"),
        ("video-gen", "video"),
        ("video-lora", "diffusion lora"),
        ("asr-batch", "whisper"),
        ("asr-finetune", "full-ft"),
        ("cv-inference", "cv-inference"),
        ("render-blender", "render"),
        ("image classification", "cv-train"),
        ("fine-tuning", "full-ft"),
        ("", ""),
        ("something", ""),
    ],
)
def test_tasks_are_read_from_both_vocabularies(text: str, task: str) -> None:
    """The published tables and the reader of sentences name tasks differently."""
    assert task_named(text) == task


def test_pictures_are_read_from_texts() -> None:
    """Size, frames and steps in the forms of the published tables."""
    assert frame_in("1024px 28-50 steps") == Frame(1024, 1024, 1, 28)
    assert frame_in("720x1280x129f") == Frame(720, 1280, 129, 0)
    assert frame_in("49f 720x480 50 steps") == Frame(720, 480, 49, 50)
    assert frame_in("2048") is None


def test_numeric_schemes_are_read_from_texts() -> None:
    """Bits with their block constants; where optimizer states live."""
    bits = {
        text: quantisation(text).bits for text in ("nf4", "nf4-dq", "AWQ int4 g128", "GPTQ-int8", "Q4_K_M", "fp8", "")
    }
    assert bits == {
        "nf4": 4.5,
        "nf4-dq": 4.127,
        "AWQ int4 g128": 4.16,
        "GPTQ-int8": 8.16,
        "Q4_K_M": 4.89,
        "fp8": 8,
        "": 16,
    }
    assert quantisation("int8 KV cache") == quantisation("kv int8")
    assert not quantisation("int8 KV cache").active
    assert precision("fp16-amp").mixed
    assert precision("bf16-true").weight_bytes == 2
    assert optimizer("PagedAdamW8bit/fused-in-bwd") == optimizer("PagedAdamW8bit/fused-in-bwd")
    assert optimizer("PagedAdamW (bnb, fp32 states)").paged
    assert optimizer("adamw (8bit w/o offload)").offloaded is False


def test_parallelism_is_read_from_texts() -> None:
    """Degrees next to each other, with and without an x between them."""
    whole = parallel("FSDP8xTP8xPP8 interleaved", 512, training=True)
    assert (whole.tensor, whole.pipeline, whole.stage, whole.shards) == (8, 8, 3, 8)
    assert (parallel("TP4PP4CP2", 64, training=True).context, parallel("ZeRO-2", 4, training=True).stage) == (2, 2)
    assert parallel("none (ZeRO-2 cfg)", 1, training=True).gradients == 1
    assert parallel("", 2, training=False).tensor == 2


def test_a_config_is_counted_as_published() -> None:
    """Parameters from dimensions come within 3 % of the published ones, for old and new field names and for experts."""
    gpt2 = {
        "model_type": "gpt2",
        "n_embd": 1600,
        "n_layer": 48,
        "n_head": 25,
        "vocab_size": 50257,
        "tie_word_embeddings": True,
    }
    mixtral = {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 32000,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }
    nested = {"text_config": {**mixtral, "num_local_experts": None}}
    assert shape_of_config(gpt2).params == pytest.approx(1.558e9, rel=0.03)
    assert shape_of_config(mixtral).params == pytest.approx(46.7e9, rel=0.01)
    assert shape_of_config(mixtral).active == pytest.approx(12.9e9, rel=0.01)
    assert shape_of_config(nested).params == pytest.approx(7.24e9, rel=0.01)
    with pytest.raises(BadInput, match="hidden_size"):
        shape_of_config({"hidden_size": 12})


def test_the_catalogues_shapes_hold_their_own_parameters() -> None:
    """Dimensions that do not add up to the stated size would spoil cache and activations."""
    for model in catalogue().models:
        shape = model.shape
        if shape is None or shape.experts or shape.two_stacks or model.family in {"vlm", "encoder"}:
            continue
        matrices = 3 if shape.gated else 2
        counted = shape.embedding + shape.layers * (shape.attention_params + matrices * shape.hidden * shape.ffn)
        assert counted == pytest.approx(shape.params, rel=0.16), model.name


def test_a_size_alone_gives_a_plausible_shape() -> None:
    """Wider and deeper with size, and as many parameters as stated."""
    shapes = [shape_of_size(size) for size in (0.3, 1, 3, 7, 13, 30, 70, 180, 400)]
    assert [shape.params / 1e9 for shape in shapes] == [0.3, 1, 3, 7, 13, 30, 70, 180, 400]
    assert all(a.hidden * a.layers < b.hidden * b.layers for a, b in pairwise(shapes))
