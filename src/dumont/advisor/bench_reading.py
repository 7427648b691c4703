"""How well the rules read: stated fields exactly right, and fields invented, on a file of described readings."""

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dumont.advisor.reader.read import Reading, read

RIGHT_SHARE_MIN = 0.92
# Fields that the text states and the row leaves out, where other rows of the same file expect them. They are shown, and
# count neither as right nor as invented.
DISPUTED = {("P046", "framework"): "the text names vLLM, which E008 and E046 expect as the framework"}


@dataclass(frozen=True)
class Miss:
    """One field that was read otherwise than stated, not read (`got` None), or invented (`wanted` None)."""

    row: str
    name: str
    wanted: Any
    got: Any
    text: str


@dataclass
class Report:
    """Counts over all rows, by field, and each miss. `lang_wrong` are rows whose language was taken for the other."""

    rows: int = 0
    stated: int = 0
    right: int = 0
    by_field: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[Miss] = field(default_factory=list)
    invented: list[Miss] = field(default_factory=list)
    disputed: list[Miss] = field(default_factory=list)
    lang_wrong: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Stated fields that were read exactly, of all stated."""
        return self.right / self.stated if self.stated else 1.0

    @property
    def whole_rows(self) -> int:
        """Rows without any miss."""
        return self.rows - len({miss.row for miss in (*self.wrong, *self.invented)})

    @property
    def passed(self) -> bool:
        """Whether the promise holds: enough right, nothing invented."""
        return self.share >= RIGHT_SHARE_MIN and not self.invented


def score_reading(
    path: Path, reader: Callable[[str], Reading] = read, wanted: Callable[[str], bool] = lambda row: True
) -> Report:
    """Read each `text` of a JSON-lines file and compare with its `expect`; `wanted` picks rows by id.

    A task that `expect` leaves out counts as `unknown`. Raises OSError and ValueError for a file that can't be read.
    """
    report = Report()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and wanted(str((row := json.loads(line))["id"])):
            _score(report, row, reader(row["text"]))
    return report


def _score(report: Report, row: dict[str, Any], reading: Reading) -> None:
    expected, got = row["expect"], reading.workload.stated()
    report.rows += 1
    if "lang" in row and row["lang"] != reading.lang:
        report.lang_wrong.append(row["id"])
    for name, value in expected.items():
        counts = report.by_field.setdefault(name, Counter())
        counts["stated"] += 1
        report.stated += 1
        if got.get(name) == value:
            counts["right"] += 1
            report.right += 1
        else:
            report.wrong.append(Miss(row["id"], name, value, got.get(name), row["text"]))
    for name, value in got.items():
        if name in expected or value == "unknown":
            continue
        if (row["id"], name) in DISPUTED:
            report.disputed.append(Miss(row["id"], name, None, value, row["text"]))
        else:
            report.by_field.setdefault(name, Counter())["invented"] += 1
            report.invented.append(Miss(row["id"], name, None, value, row["text"]))


def rendered(report: Report) -> str:
    """The report as lines for a terminal: totals, fields with misses, and each miss with its text."""
    lines = [
        f"rows {report.rows}, whole rows right {report.whole_rows}",
        f"language wrong {len(report.lang_wrong)} {' '.join(report.lang_wrong)}",
        f"stated fields {report.stated}, right {report.right} ({report.share:.1%})",
        f"invented {len(report.invented)}, disputed {len(report.disputed)}",
    ]
    for name, counts in sorted(report.by_field.items()):
        if counts["right"] < counts["stated"] or counts["invented"]:
            lines.append(f"  {name}: {counts['right']}/{counts['stated']}, invented {counts['invented']}")
    for miss in report.disputed:
        lines.append(f"{miss.row} {miss.name}: disputed, {DISPUTED[(miss.row, miss.name)]}; got {miss.got!r}")
    for miss in (*report.wrong, *report.invented):
        lines.append(f"{miss.row} {miss.name}: wanted {miss.wanted!r}, got {miss.got!r} | {miss.text}")
    return "\n".join(lines)


def main() -> int:
    """Command line: a file of descriptions, and which half of it (`even` was developed on, `odd` was held out)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--half", choices=("all", "even", "odd"), default="all")
    half = parser.parse_args()
    parity = {"even": (0,), "odd": (1,), "all": (0, 1)}[half.half]
    report = score_reading(half.path, wanted=lambda row: int("0" + re.sub(r"\D", "", row)) % 2 in parity)
    print(rendered(report))  # noqa: T201 - printing is its work
    return 0 if report.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
