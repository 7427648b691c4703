"""The scorecard and the bench: errors are counted as they are, and a wrong "fits" can't hide."""

import csv
import json
from pathlib import Path

import pytest

from dumont.advisor import bench
from dumont.advisor.bench_ranking import MS_MAX
from dumont.advisor.catalogue import catalogue
from dumont.advisor.scorecard import Outcome, averaged, fit_check, grouped, scorecard, summary

MEMORY = {
    "id": "T1",
    "task": "inference",
    "model": "Llama-3.1-8B",
    "params_b": "8.03",
    "precision": "bf16",
    "quant": "",
    "optimizer": "",
    "seq_len": "2048",
    "batch": "1",
    "grad_ckpt": "",
    "attention": "",
    "framework": "HF transformers",
    "n_gpus": "1",
    "parallelism": "none",
    "gpu": "RTX 4090",
    "measured_gb_per_gpu": "16.5",
    "unit": "GB",
    "mem_metric": "peak",
    "group": "a",
    "outcome": "ok",
    "core": "1",
}
SPEED = {
    **{name: MEMORY[name] for name in MEMORY if name not in {"measured_gb_per_gpu", "mem_metric", "outcome"}},
    "value": "45",
    "unit": "tokens/s",
    "per_gpu": "n",
    "metric": "decode",
}


def outcome(error: float, group: str = "a", core: str = "1") -> Outcome:
    return Outcome(
        {"id": "x", "group": group, "core": core, "task": "t", "model": "m", "quant": "", "framework": ""},
        1 + error,
        1.0,
    )


def test_a_large_source_weighs_no_more_than_a_small_one() -> None:
    """Ninety easy rows of one table must not hide one bad row of another."""
    outcomes = [outcome(0.01, "large") for _ in range(90)] + [outcome(0.5, "small")]
    assert summary(outcomes).median == 0.01
    assert averaged(grouped(outcomes, lambda row: row["group"]).values()).median == pytest.approx(0.255)


def test_the_worst_rows_come_with_their_reason() -> None:
    """And a row nobody explained says so."""
    card = scorecard([outcome(0.1), outcome(-0.9)], {"a"}, {}, all_far=False)
    assert [row.error for row in card.worst] == [-0.9, 0.1]
    assert card.worst[0].reason == "not explained yet"
    assert (card.held.rows, card.developed.rows) == (2, 0)


def test_all_far_rows_are_listed_when_asked() -> None:
    """The bench meets its figures or shows the reason row by row."""
    outcomes = [outcome(0.31) for _ in range(15)] + [outcome(0.0)]
    assert len(scorecard(outcomes, set(), {}, all_far=True).worst) == 15
    assert len(scorecard(outcomes, set(), {}, all_far=False).worst) == 10


def test_a_wrong_fits_is_counted() -> None:
    """Negative control: a row that is said to have been measured far above its estimate is found on its card and
    others.
    """
    good, bad = fit_check([MEMORY], catalogue()), fit_check([{**MEMORY, "measured_gb_per_gpu": "40"}], catalogue())
    assert good.wrong_on_own_card == good.wrong_on_smaller_card == ()
    assert bad.wrong_on_own_card == bad.wrong_on_smaller_card == ("T1",)


def test_the_bench_writes_figures_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From files as published to data and a page, with what stood around the marks left alone."""
    for name, row in (("memory.csv", MEMORY), ("speed.csv", SPEED)):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, row)
            writer.writeheader()
            writer.writerow(row)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{bench.BEGIN}\nold\n{bench.END}\nafter\n")
    out = tmp_path / "figures.json"
    assert bench.main(["--data", str(tmp_path), "--out", str(out), "--page", str(page)]) == 0
    figures = json.loads(out.read_text())
    assert figures["memory"]["everything"]["rows"] == figures["speed"]["everything"]["rows"] == 1
    assert figures["memory"]["everything"]["median"] < 0.1
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| inference | 1 |" in capsys.readouterr().out


def test_the_bench_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The measurements are no part of the product."""
    assert bench.main(["--data", str(tmp_path)]) == 2
    assert "--data" in capsys.readouterr().err


def test_the_committed_figures_keep_what_is_promised() -> None:
    """The page is written by the bench from the same run; each far row has its reason."""
    root = Path(__file__).resolve().parents[2]
    figures = json.loads((root / "bench/results/advisor.json").read_text())
    assert figures["memory"]["everything"]["median"] <= 0.12
    assert figures["memory"]["everything"]["p90"] <= 0.30
    assert figures["memory"]["core"]["median"] <= 0.12
    assert figures["memory"]["core"]["p90"] <= 0.30
    assert figures["memory"]["held"]["median"] <= 0.12
    assert figures["memory"]["held"]["p90"] <= 0.30
    assert figures["speed"]["everything"]["median"] <= 0.25
    assert figures["speed"]["held"]["median"] <= 0.25
    assert figures["fits"]["wrong_on_own_card"] == []
    assert set(figures["fits"]["wrong_on_smaller_card"]) <= {"M023"}
    assert all(one["ms"] <= MS_MAX for one in figures["answers_over_5000_offers"])
    page = (root / "docs/advisor.md").read_text()
    assert f"| all | {figures['memory']['everything']['rows']} |" in page
    far = [row for row in figures["memory"]["worst"] if abs(row["error"]) > 0.3]
    assert all(row["reason"] != "not explained yet" and f"| {row['id']} |" in page for row in far)
