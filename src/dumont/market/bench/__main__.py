"""`python -m dumont.market.bench`: replay the recordings, print the tables, write the results as data."""

import argparse
import json
import sys
from pathlib import Path

from dumont.errors import BadInput
from dumont.market.bench.programme import check, race, sensitivity, world
from dumont.market.bench.report import tables
from dumont.market.bench.traces import read_traces

DATA = Path("../shared/data/spot")


def main(arguments: list[str] | None = None) -> int:
    """0 once everything was replayed; 2 when there is nothing to replay."""
    parser = argparse.ArgumentParser(prog="python -m dumont.market.bench", description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=DATA, help="the folder of recorded capacity (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="where to write the results as JSON")
    options = parser.parse_args(arguments)
    try:
        the = world(read_traces(options.data))
    except BadInput as problem:
        print(f"market bench: {problem}", file=sys.stderr)
        return 2
    results = {"checks": check(the), "race": race(the), "sensitivity": sensitivity(the)}
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(tables(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
