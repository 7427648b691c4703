"""`python -m dumont.market.bench`: replay the recordings, print the tables, write the results as data."""

import argparse
import json
import sys
from pathlib import Path

from dumont.errors import BadInput
from dumont.market.bench.estimates import bids, calibration, survival
from dumont.market.bench.programme import check, crowd, race, sensitivity, world
from dumont.market.bench.report import off_reference, page, tables
from dumont.market.bench.traces import read_traces

DATA = Path("../shared/data/spot")


def main(arguments: list[str] | None = None) -> int:
    """0 once everything was replayed; 1 when a reference value does not come out; 2 when there is nothing to replay."""
    parser = argparse.ArgumentParser(prog="python -m dumont.market.bench", description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=DATA, help="the folder of recorded capacity (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    parser.add_argument("--page", type=Path, help="a page whose tables are written anew")
    options = parser.parse_args(arguments)
    try:
        the = world(read_traces(options.data))
    except BadInput as problem:
        print(f"market bench: {problem}", file=sys.stderr)
        return 2
    results = {
        "checks": check(the),
        "race": race(the),
        "crowd": crowd(the),
        "sensitivity": sensitivity(the),
        "survival": survival(options.data),
        "calibration": calibration(the.nine.halves()[1]),
        "bids": bids(options.data.parent / "price"),
    }
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    if options.page:
        options.page.write_text(page(options.page.read_text(), results))
    print(tables(results))
    off = off_reference(results["checks"])
    for line in off:
        print(f"market bench: off its reference: {line}", file=sys.stderr)
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
