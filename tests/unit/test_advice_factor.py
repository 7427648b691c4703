"""Factors of recorded runs in the advice: only ever larger, never a card that held less, and shown."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumont.advisor.advice import Advice, Market, Settings, advise
from dumont.advisor.answer import answer
from dumont.advisor.candidate import Assessor, Candidate, Factor, Factors
from dumont.advisor.errand import errand_of
from dumont.advisor.estimate.verdict import Estimator
from dumont.advisor.exchange import rate_of
from dumont.advisor.grade import RUNS_MIN, Peak, Run, factors_of
from dumont.advisor.pricefile import dated_offers
from dumont.advisor.reader.read import read
from dumont.advisor.terms import terms_of
from dumont.advisor.workload import Workload
from dumont.market.cost import Stake
from dumont.market.placement import rank as price

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ESTIMATOR = Estimator()
TEXT = "LoRA fine-tuning of Llama 3 8B with 50k examples"


def candidates(factors: Factors) -> dict[tuple[str, int], Candidate]:
    """What LoRA on 8 billion parameters does on each type of machine of the price file."""
    offers = list({(one.gpu, one.gpus): one for one in dated_offers()}.values())
    workload = Workload.model_validate({"task": "llm-lora", "params_b": 8})
    terms = terms_of(workload, rate_of("USD"), NOW)
    priced = price(offers, terms.need, Market(offers=offers, now=NOW, live=True).beliefs, 0.0)
    return {one.hardware: one for one in Assessor(errand_of(workload), ESTIMATOR, factors, Stake()).all(priced)}


ALONE = candidates(Factors())


def taught(applied: float, worst: float, runs: int = RUNS_MIN) -> Factors:
    return Factors(memory={"lora": Factor(applied=applied, measured=applied, worst=worst, runs=runs)})


def runs_that_took(*shares: float) -> Factors:
    peaks = [Peak(gb=20.0 * share, card_gb=80.0) for share in shares]
    return factors_of(
        Run(workspace="w", task="llm-lora", job="lora", gpu="", over=True, memory_gb=20.0, peak=peak) for peak in peaks
    )


def asked(factors: Factors, *, explain: bool = True) -> tuple[Advice, dict[str, Any]]:
    market = Market(offers=dated_offers(), now=NOW, live=False)
    found = advise(read(TEXT), market, Settings(factors=factors), ESTIMATOR)
    return found, answer(found, explain=explain)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.05, 5.0), min_size=1, max_size=12))
def test_recorded_runs_never_make_a_job_fit_that_does_not(shares: list[float]) -> None:
    """However many runs took less: a card that was too small stays so, and the worst case is what was measured."""
    before, after = ALONE, candidates(runs_that_took(*shares))
    assert any(one.fits for one in before.values()) and not all(one.fits for one in before.values())
    for hardware, one in after.items():
        alone = before[hardware]
        assert alone.memory is not None and one.memory is not None
        assert not one.fits or alone.fits, hardware
        if one.job != alone.job:
            continue  # spread over the machine's cards another way, which takes less of each
        assert one.memory.device_high >= alone.memory.device_high
        if len(shares) >= RUNS_MIN:
            assert one.memory.device_high >= max(shares) * alone.memory.device_point - 1e-6
        else:
            assert one == alone, "a few runs teach nothing"


def test_without_the_floor_runs_that_took_less_would_make_small_cards_fit() -> None:
    """The control of the property above: a tenth of the memory would fit where the whole does not."""
    unfit = [one for one in ALONE.values() if one.memory and one.card_gb and not one.fits]
    assert any(one.memory.scaled(0.1).device_high <= one.card_gb for one in unfit if one.memory)
    taught_less = candidates(runs_that_took(*[0.1] * 50))
    assert not any(taught_less[one.hardware].fits for one in unfit)
    assert not any(candidates(taught(0.1, 0.1))[one.hardware].fits for one in unfit)


def test_a_factor_makes_small_cards_unfit() -> None:
    """Otherwise the property above would hold of a factor that does nothing."""
    before, after = candidates(Factors()), candidates(taught(2.0, 2.0))
    assert {name for name, one in after.items() if one.fits} < {name for name, one in before.items() if one.fits}


def test_one_run_that_took_far_more_raises_the_worst_case_alone() -> None:
    """The median stays what it is; who relies on the worst case is not told less than what was seen."""
    (hardware, alone), one = next(iter(candidates(Factors()).items())), candidates(taught(1.0, 3.0))
    before, after = alone.memory, one[hardware].memory
    assert before is not None and after is not None
    assert after.device_point == before.device_point
    assert after.device_high == pytest.approx(3 * before.device_point)


def test_a_factor_is_shown_where_it_is_applied() -> None:
    """Arithmetic one can check: the parts sum up, the factor is a line with its runs, and the product is the next."""
    alone, (_, found) = asked(Factors())[0], asked(taught(1.25, 1.4, runs=7))
    assert alone.ranked is not None
    for choice in found["choices"]:
        lines = {line["what"]: line for line in choice["explain"] if line["section"] == "memory"}
        assert (lines["recorded runs"]["amount"], lines["recorded runs"]["unit"]) == (1.25, "×")
        assert "7 recorded runs" in lines["recorded runs"]["formula"]
        assert lines["the worst of them"]["amount"] == 1.4
        names = [line["what"] for line in choice["explain"] if line["section"] == "memory"]
        summands = names[: names.index("sum")]
        assert lines["sum"]["amount"] == pytest.approx(sum(lines[name]["amount"] for name in summands), rel=1e-4)
        assert choice["memory_gb"]["point"] == pytest.approx(lines["seen on the card"]["amount"], rel=1e-3)
        assert choice["advised"]["memory_factor"] == 1.25
    assert found["calibration"] == {"lora": 1.25}
    assert any("1.25" in note and "7 recorded runs" in note for note in found["notes"])


@pytest.mark.parametrize("factors", [Factors(), taught(1.0, 1.0)])
def test_without_a_factor_nothing_is_said_of_one(factors: Factors) -> None:
    """A factor of one changes nothing; its runs are shown with the arithmetic, and nowhere else."""
    _, found = asked(factors)
    assert not any("recorded runs" in note for note in found["notes"])
    assert all("memory_factor" not in choice["advised"] for choice in found["choices"])
    shown = [line["what"] for choice in found["choices"] for line in choice["explain"]]
    assert ("recorded runs" in shown) == bool(factors.memory)
