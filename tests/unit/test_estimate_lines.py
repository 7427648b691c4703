"""Workload lines: one in, one out, whatever is in them."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dumont.advisor.catalogue import catalogue
from dumont.advisor.estimate.verdict import Estimator
from dumont.advisor.job import Job
from dumont.advisor.line import answer_line, answer_lines

COLUMNS = (
    "task",
    "model",
    "params_b",
    "precision",
    "quant",
    "optimizer",
    "seq_len",
    "batch",
    "grad_ckpt",
    "attention",
    "framework",
    "n_gpus",
    "parallelism",
    "gpu",
    "mem_metric",
    "unit",
    "config",
    "metric",
)
WORDS = (
    "lora",
    "qlora",
    "full-ft",
    "pretrain",
    "inference",
    "inference-serving",
    "diffusion",
    "video",
    "whisper",
    "cv-train",
    "render",
    "Llama-3-8B",
    "Qwen3-30B-A3B",
    "FLUX.1-dev",
    "ResNet-50",
    "bert-large",
    "8b",
    "nf4",
    "AWQ",
    "fp8",
    "ZeRO-3",
    "FSDP8xTP8xPP8",
    "TP0",
    "A100",
    "RTX 4090",
    "24GB class",
    "GiB",
    "1024px 50 steps",
    "720x480x49f",
    "eager",
    "vLLM 0.5",
    "DeepSpeed",
    "unsloth",
    "0",
    "-1",
    "1e999",
    "1e300",
    "NaN",
    "∞",
    "",
    "?",
    "99999999999999999999",
)
VALUES = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=20),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.lists(st.integers()),
    st.dictionaries(
        st.sampled_from(["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"]), st.integers()
    ),
)


def answer(**row: object) -> dict[str, object]:
    return answer_line(json.dumps(row), Estimator())


@given(row=st.dictionaries(st.sampled_from(COLUMNS), VALUES))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_row_gets_an_answer_that_is_json(row: dict[str, object]) -> None:
    """One bad line must not cost the other answers; what comes back must be readable by a strict parser."""
    text = next(answer_lines([json.dumps(row)]))
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert {"memory_gb", "fits", "speed"} <= set(read)
    assert read["fits"] in (True, False, None)
    if read["memory_gb"] is not None:
        assert read["memory_gb"] > 0


@given(line=st.text())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_gets_an_answer(line: str) -> None:
    """Neither broken JSON nor a list may end the file."""
    for text in answer_lines([line]):
        json.loads(text)


@pytest.mark.parametrize("line", ["{", "[1]", '"text"', "3", "null", "[" * 100_000, '{"task": "lora", "params_b": -1}'])
def test_a_bad_line_is_answered_with_an_error(line: str) -> None:
    """The reason is in the answer, and the next line is read."""
    first, second = (
        json.loads(text) for text in answer_lines([line, json.dumps({"task": "lora", "model": "Llama-3-8B"})])
    )
    assert first["error"]
    assert first["memory_gb"] is None
    assert second["memory_gb"] > 16


def test_blank_lines_are_skipped_and_ids_kept() -> None:
    """Answers are matched to questions by order, or by id."""
    texts = list(answer_lines(["", "  \n", json.dumps({"id": "M1", "model": "Llama-3-8B"}), '{"id": 7}']))
    assert [json.loads(text)["id"] for text in texts] == ["M1", 7]


def test_the_same_model_has_many_names() -> None:
    """A user writes what the hub shows, a fine-tune's name or just the size."""
    names = (
        "Llama-3-8B",
        "meta-llama/Meta-Llama-3-8B-Instruct",
        "llama 3 8b",
        "unsloth/llama-3-8b-bnb-4bit",
        "LLAMA3-8B",
    )
    found = {answer(task="inference", model=name, seq_len=2048, batch=1)["memory_gb"] for name in names}
    assert len(found) == 1
    sized = answer(task="inference", model="my-own-model-8B", seq_len=2048, batch=1)["memory_gb"]
    assert isinstance(sized, float)
    assert sized == pytest.approx(found.pop(), rel=0.05)


def test_an_unknown_gpu_is_neither_yes_nor_no() -> None:
    """Memory is still told, and why the rest is not."""
    told = answer(task="inference", model="Llama-3-8B", gpu="Quantum 9000")
    assert told["fits"] is None
    assert told["speed"] is None
    assert "no GPU is known" in str(told["why"])


def test_a_name_of_several_cards_fits_only_if_it_fits_the_smallest() -> None:
    """ "A100" is sold with 40 and 80 GB."""
    assert answer(task="inference", model="Llama-3-8B", gpu="A100")["fits"] is True
    assert answer(task="inference", model="Qwen2.5-32B", gpu="A100")["fits"] is None
    assert answer(task="inference", model="Qwen2.5-32B", gpu="A100 80GB")["fits"] is True
    assert answer(task="inference", model="Llama-3.1-70B", gpu="A100")["fits"] is False


def test_a_config_of_the_hub_describes_any_model() -> None:
    """Its dimensions count, whatever the model is called."""
    config = {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
        "model_type": "llama",
    }
    own = answer(task="inference", model="nobody/knows", config=config, seq_len=2048)
    known = answer(task="inference", model="Llama-3.1-8B", seq_len=2048)
    assert own["memory_gb"] == pytest.approx(known["memory_gb"], rel=0.01)


def test_each_type_of_gpu_is_computed_once() -> None:
    """Five thousand offers are a few dozen types: the second time is a look-up."""
    estimator = Estimator()
    job = Job(task="qlora", model="Llama-3-8B")
    first = {gpu.name: estimator.verdict(job, gpu.name) for gpu in catalogue().gpus}
    assert all(estimator.verdict(job, name) is verdict for name, verdict in first.items())
    assert estimator.verdict(Job(task="lora", model="Llama-3-8B"), "L4") is not first["L4"]
