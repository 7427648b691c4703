"""The advisor's bench: estimates against the published measurements, written as data and as a page."""

import argparse
import csv
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from dumont.advisor.bench_ranking import rendered as ranking_lines
from dumont.advisor.bench_ranking import timings
from dumont.advisor.bench_reading import Report, score_reading
from dumont.advisor.catalogue import Catalogue, catalogue
from dumont.advisor.estimate.verdict import Estimator
from dumont.advisor.job import job_from_row
from dumont.advisor.scorecard import (
    FitCheck,
    Scorecard,
    Summary,
    fit_check,
    memory_outcomes,
    scorecard,
    speed_outcomes,
)

HELD_MEMORY = {"qwen3-docs", "peft-readme", "torchtitan", "autoawq", "axolotl", "faster-whisper"}
HELD_SPEED = {
    "nemo-24.07", "torchtitan", "autoawq", "web-misc", "nvidia-dle", "karpathy", "fsdp_qlora", "lambda-sd",
    "diffusers-docs", "insanely-fast-whisper",
}  # fmt: skip
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
OFFERS = 5000


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m dumont.advisor.bench`: 0 when it ran, 2 when the measurements are not there."""
    parser = argparse.ArgumentParser(prog="python -m dumont.advisor.bench", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/advisor"), help="folder of the measurements")
    parser.add_argument("--reasons", type=Path, default=Path("bench/advisor_reasons.csv"), help="why rows are far off")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--page", type=Path, help="write the tables into this Markdown page, between its bench marks")
    chosen = parser.parse_args(arguments)
    if not (chosen.data / "memory.csv").is_file():
        sys.stderr.write(f"no measurements in {chosen.data}: name the folder that holds memory.csv with --data\n")
        return 2
    known = catalogue()
    reasons = {row["id"]: row["reason"] for row in _rows(chosen.reasons)} if chosen.reasons.is_file() else {}
    memory_rows = _rows(chosen.data / "memory.csv")
    memory = scorecard(memory_outcomes(memory_rows), HELD_MEMORY, reasons, all_far=True)
    outcomes, left = speed_outcomes(_rows(chosen.data / "speed.csv"), known)
    speed = scorecard(outcomes, HELD_SPEED, reasons, all_far=False)
    check, milliseconds = fit_check(memory_rows, known), ranking_ms(known)
    answered = timings()
    reading = (
        score_reading(chosen.data / "descriptions.jsonl") if (chosen.data / "descriptions.jsonl").is_file() else None
    )
    text = page(memory, speed, check, milliseconds)
    text += "\n".join(["", *ranking_lines(answered), *(_reading_lines(reading) if reading else [])])
    if chosen.out:
        figures = {
            "memory": asdict(memory), "speed": asdict(speed) | {"left_out": left}, "fits": asdict(check),
            "verdicts_for_5000_offers_cpu_ms": milliseconds,
            "answers_over_5000_offers": [asdict(one) for one in answered],
            "reading": _reading_figures(reading) if reading else None,
        }  # fmt: skip
        chosen.out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if chosen.page:
        chosen.page.write_text(between_marks(chosen.page.read_text(encoding="utf-8"), text), encoding="utf-8")
    sys.stdout.write(text)
    return 0


def _reading_figures(report: Report) -> dict[str, float]:
    return {"rows": report.rows, "stated": report.stated, "right": report.right, "invented": len(report.invented)}


def _reading_lines(report: Report) -> list[str]:
    share = f"{report.right} of {report.stated} stated fields read exactly ({report.share:.1%})"
    return ["### Reading", "", f"{report.rows} descriptions: {share}, {len(report.invented)} invented.", ""]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ranking_ms(known: Catalogue) -> float:
    """Processor milliseconds for verdicts over 5,000 offers of all types of GPU, with nothing remembered before."""
    job = job_from_row({"task": "qlora", "model": "Llama-3-8B", "seq_len": "2048", "batch": "2"})
    estimator = Estimator(known)
    offers = [known.gpus[index % len(known.gpus)].name for index in range(OFFERS)]
    began = time.process_time()
    for gpu in offers:
        estimator.verdict(job, gpu)
    return round((time.process_time() - began) * 1e3, 1)


def between_marks(text: str, new: str) -> str:
    """A page with what stands between its bench marks replaced; a page without marks gets them at its end."""
    if BEGIN not in text or END not in text:
        return f"{text.rstrip()}\n\n{BEGIN}\n{new}{END}\n"
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{new}{END}{rest.partition(END)[2]}"


def page(memory: Scorecard, speed: Scorecard, check: FitCheck, milliseconds: float) -> str:
    """The tables as Markdown."""
    smaller = f"{len(check.wrong_on_smaller_card)} rows ({', '.join(check.wrong_on_smaller_card) or 'none'})"
    lines = [*_section("Memory", memory), *_section("Speed", speed), "### Fits", ""]
    lines += [f"- {name}: {count} rows" for name, count in check.said.items()]
    lines += [
        f'- said "fits" for a row measured larger than its own card: {len(check.wrong_on_own_card)}',
        f"- the same for every smaller card of the catalogue ({check.smaller_pairs:,} pairs): {smaller}",
        f'- said "fits" where the row does fit: {check.said_where_true:.0%} of the pairs',
        "",
        f"Verdicts for {OFFERS:,} offers: {milliseconds:g} ms of processor time.",
        "",
    ]
    return "\n".join(lines)


def _section(title: str, card: Scorecard) -> list[str]:
    whole = {
        "all": card.everything, "core": card.core, "core, mean over sources": card.macro,
        "developed on": card.developed, "held back": card.held, "held back: core, mean over sources": card.macro_held,
    }  # fmt: skip
    lines = [
        f"### {title}",
        "",
        *_table("rows", whole),
        *_table("task", card.by_task),
        *_table("source", card.by_group),
    ]
    lines += ["| worst rows | what | published | estimated | error | reason |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.id} | {row.what} | {row.published:g} | {row.estimated:g} | {row.error:+.0%} | {row.reason} |"
        for row in card.worst
    ]
    return [*lines, ""]


def _table(name: str, figures: Mapping[str, Summary]) -> list[str]:
    lines = [f"| {name} | n | median error | 90th percentile | bias |", "|---|---|---|---|---|"]
    lines += [
        f"| {key} | {value.rows} | {value.median:.1%} | {value.p90:.1%} | {value.bias:+.1%} |"
        for key, value in figures.items()
    ]
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())
