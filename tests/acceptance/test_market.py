"""The market as a person sees it: a real server that rents from emulated clouds, asked through the command line."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from dumont.demo.emulated import emulated

COMMAND_S_MAX = 120.0
Dumont = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
async def dumont() -> AsyncIterator[Dumont]:
    """The command line of a home whose server rents from emulated clouds."""
    with tempfile.TemporaryDirectory(prefix="dm-") as path:
        environment = {**os.environ, "DUMONT_HOME": path, "LANG": "C.UTF-8"}

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "dumont.main", *words]
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=COMMAND_S_MAX, check=False
            )

        async with emulated(Path(path)):
            assert run("up").returncode == 0
            yield run
            run("down", "--all", "--yes")


def answer(ran: subprocess.CompletedProcess[str]) -> Any:
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.timeout(240)
async def test_offers_of_all_providers_are_shown_by_what_they_really_cost(dumont: Dumont) -> None:
    """One server start is dear here, so the sentences of the market are asked of one."""
    found = answer(dumont("offers", "gpu=RTX 4090 price<2", "--json"))
    assert found["offers"], found
    for offer in found["offers"]:
        assert offer["gpu"] == "RTX 4090"
        assert offer["price_micros_per_hour"] < 2_000_000
        assert sum(offer["parts"].values()) == offer["cost_micros_per_hour"] >= offer["price_micros_per_hour"]
        assert offer["hazard"]["low"] <= offer["hazard"]["per_hour"] <= offer["hazard"]["high"]
    costs = [offer["cost_micros_per_hour"] for offer in found["offers"]]
    assert costs == sorted(costs)
    assert all(one["as_of"] and one["source"] for one in found["references"] if one["micros_per_hour"] is not None)
    standbys = answer(dumont("offers", "machine=cpu", "--json"))
    assert "gce" in {offer["provider"] for offer in standbys["offers"]}
    shown = dumont("offers", "gpu=RTX 4090", "--explain", "--limit", "2")
    assert "expected cost" in shown.stdout
    wrong = dumont("offers", "colour=red")
    assert wrong.returncode == 1
    assert "colour" in wrong.stderr
    checked = answer(dumont("provider", "check", "--json"))
    assert set(checked) == {"vast", "gce"}
    assert all(finding["ok"] is not False for findings in checked.values() for finding in findings), checked
