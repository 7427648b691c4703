"""Whatever people type, the reader answers: it raises nothing, invents no type, and no text makes it slow."""

import json
import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dumont.advisor.grounding import grounded
from dumont.advisor.reader.read import read
from dumont.advisor.workload import Workload, workload_of

DATA = Path(__file__).parent.parent / "data" / "advisor_sentences.jsonl"
WORDS = sorted(
    {word for line in DATA.read_text(encoding="utf-8").splitlines() for word in json.loads(line)["text"].split()}
)
PIECES = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(
        ["8x", "1.2.3", "R$", "24gb", "a100", "llama", "x x x", "--", "1e999", "9" * 30, "½", "٣", "\ue000"]
    ),
    st.text(max_size=8),
    st.integers(-(10**12), 10**18).map(str),
)
BYTES_MAX = 10_000
PROCESSOR_S_MAX = 1.0  # a tenth of it is never reached; what this catches is a pattern that backtracks for ever


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PIECES, max_size=60).map(" ".join))
def test_any_text_gives_a_valid_workload(text: str) -> None:
    """The fields come back through the same validation that a stranger's would."""
    reading = read(text)
    assert workload_of(reading.workload.model_dump()) == reading.workload
    assert json.loads(json.dumps(reading.workload.stated())) == reading.workload.stated()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.one_of(PIECES, st.text(min_size=1, max_size=3)), min_size=1, max_size=6),
    st.sampled_from(["", " ", ","]),
)
def test_no_repetition_makes_the_reader_slow(pieces: list[str], between: str) -> None:
    """Catastrophic patterns show on repeated pieces. Processor time, so that a busy machine decides nothing."""
    unit = between.join(pieces) + between
    text = (unit * (BYTES_MAX // max(1, len(unit)) + 1))[:BYTES_MAX]
    before = time.process_time()
    read(text)
    assert time.process_time() - before < PROCESSOR_S_MAX


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=20).map(" ".join), st.integers(1, 10**6), st.text(min_size=1, max_size=20))
def test_grounding_only_takes_away(text: str, number: int, name: str) -> None:
    """It may drop a field of a reading and never changes or adds one."""
    said = Workload(task="llm-lora", n_gpus=min(number, 9), model="".join(c for c in name if c.isprintable()) or "m")
    held, dropped = grounded(said, text, "en")
    before, after = said.stated(), held.stated()
    assert all(after[field] == before[field] for field in after if field != "task")
    assert set(before) - set(after) == set(dropped)
