"""An earlier result, taken up again: what of it still counts, so that an interrupted bench need not begin anew.

Only what was measured on the same machine, with the same tools and on the same data, may stand in one table.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dumont.errors import BadInput
from dumont.standalone.bench.bystanders import Disturbance
from dumont.standalone.bench.datasets import Dataset
from dumont.standalone.bench.figures import Findings
from dumont.standalone.bench.race import Tally

PASSING = frozenset({"load_before"})
"""What may differ from one run to the next on the same machine."""


def read_result(path: Path) -> dict[str, Any] | None:
    """A result that was written before; None when there is none. Raises BadInput when it can't be read."""
    try:
        result = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no result of a bench, so nothing can be added to it: {error}") from error
    if not isinstance(result, dict) or "parts" not in result:
        raise BadInput(f"{path} does not say which of its parts are done: leave --resume out to measure all of them")
    return result


def require_alike(result: Mapping[str, Any], facts: Mapping[str, Any], scale: float, *, quick: bool) -> None:
    """Raises BadInput, naming what differs, when `result` was measured in other circumstances."""
    then, now = _stable(result["machine"]), _stable(facts["machine"])
    differs = [f"{name}: {then.get(name)} → {now.get(name)}" for name in sorted(then.keys() | now.keys())
               if then.get(name) != now.get(name)]  # fmt: skip
    for name in sorted(result["peers"].keys() & facts["peers"].keys()):
        if result["peers"][name] != facts["peers"][name]:
            differs.append(f"{name}: {result['peers'][name]} → {facts['peers'][name]}")
    if result["scale"] != scale or result["quick"] != quick:
        differs.append(f"scale: {result['scale']} → {scale}")
    if differs:
        raise BadInput(
            f"the earlier result can't be gone on with, for since then has changed {'; '.join(differs)}: "
            "leave --resume out to measure everything anew"
        )


def taken_up(result: Mapping[str, Any], races_of: Mapping[str, tuple[str, ...]]) -> Findings:
    """The findings of the parts that `result` has whole. `races_of` a part are those that belong to it."""
    found = Findings(parts=dict(result["parts"]))
    for part in found.parts:
        for race in races_of.get(part, ()):
            if race not in result["races"]:
                continue
            found.tallies[race] = {peer: Tally.of(kept) for peer, kept in result["races"][race].items()}
            found.rounds[race] = result["rounds"][race]
            found.others[race] = [_disturbance(one) for one in result["others"].get(race, [])]
    found.datasets = {
        name: Dataset(name, Path(), one["bytes"], one["files"], one["made"])
        for name, one in result["datasets"].items()
    }  # fmt: skip
    found.limits = dict(result["limits_gb_per_s"])
    if line := result["line_bytes_per_s"]:
        found.line = float(line[0]), float(line[1])
    found.changed_bytes = result["checkpoint_changed_bytes"]
    return found


def _stable(machine: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in machine.items() if name not in PASSING}


def _disturbance(kept: Mapping[str, Any]) -> Disturbance:
    known = {one.name for one in fields(Disturbance)}
    return Disturbance(**{name: value for name, value in kept.items() if name in known})
