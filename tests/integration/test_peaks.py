"""From a card's memory to a grade: real meters, links, server, database and command line; only the card is written."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dumont.agent.gpus import Use
from dumont.client import Blocking, Home
from dumont.client.results import Launch
from tests.integration.fake_agent import write_gpus
from tests.integration.stage import Stage

GB = 10**9
PATIENCE_S = 60.0
ADVISED = {"task": "llm-lora", "job": "lora", "gpu": "RTX 4090", "memory_gb": 20.0, "hours": 1.0}
QUESTION = "LoRA fine-tuning of Llama 3 8B with 50k examples"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(Path(tempfile.mkdtemp(prefix="dt-")))
    try:
        stage.start()
        stage.dumont("up")
        yield stage
    finally:
        stage.stop()
        shutil.rmtree(stage.path, ignore_errors=True)


def use(card: str, used: float, total: float) -> Use:
    return Use(f"GPU-{card}", card, round(total * GB), round(used * GB), None)


def run_dir(stage: Stage, instance: str) -> Path:
    (boot,) = [path for path in stage.path.rglob("boot.json") if instance in path.read_text()]
    return boot.parent


def until(what: str, true: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + PATIENCE_S
    while not (found := true()):
        assert time.monotonic() < give_up, what
        time.sleep(0.1)
    return found


def measured(sdk: Blocking, name: str) -> list[float]:
    return [event.facts.get("memory_gb") for event in sdk.events(name) if event.kind == "measured"]  # type: ignore[misc]


def graded(stage: Stage) -> Any:
    found = stage.json("advise", "--calibration")
    return found if all(run["over"] for run in found["runs"]) else None


@pytest.mark.timeout(240)
def test_a_cards_memory_becomes_a_grade_and_a_factor(stage: Stage) -> None:
    """Three advised runs, one of which loses its machine and goes on on a larger card: the error by task, the factor,
    and what the next advice makes of it. One server start is dear, so it is one story.
    """
    with Blocking(Home(stage.path)) as sdk:
        for name in ("tune", "tune-2", "tune-3"):
            sdk.launch(Launch(name=name, advised=ADVISED))
        for name, used in (("tune", 18.0), ("tune-2", 24.0), ("tune-3", 25.0)):
            first = stage.until(name, seconds=PATIENCE_S)
            write_gpus(run_dir(stage, first.primary), use("A100", used, 40.0))
            until(f"{name} is measured", lambda name=name: measured(sdk, name))  # type: ignore[misc]
        shown = sdk.workspace("tune")
        (meters,) = [one.meters for one in shown.replicas if one.id == shown.primary]
        assert meters.gpu_peak is not None and meters.gpu_peak.bytes == 18 * GB
        assert stage.json("advise", "--calibration")["tasks"] == [], "what goes on is not graded"
        lost = shown.primary
        assert sdk.drill("tune").ok
        back = until("it is on a GPU again", lambda: _on_another_gpu(sdk, lost))
        write_gpus(run_dir(stage, back), use("H100", 22.0, 80.0))
        until("the second machine is measured", lambda: 22.0 in measured(sdk, "tune"))
        for name in ("tune", "tune-2", "tune-3"):
            sdk.remove(name)
        found = until("all runs are over", lambda: graded(stage))
        runs = {run["workspace"]: run for run in found["runs"]}
        assert (runs["tune"]["memory_gb_measured"], runs["tune"]["memory_card"]) == (22.0, "H100")
        assert (runs["tune-2"]["memory_gb_measured"], runs["tune-2"]["memory_card"]) == (24.0, "A100")
        assert {(run["memory_scope"], run["memory_every_s"]) for run in found["runs"]} == {("device", 1.0)}
        assert not runs["tune-2"]["memory_at_least"]
        (grade,) = found["tasks"]
        assert (grade["task"], grade["runs"], grade["hours_runs"]) == ("llm-lora", 3, 3)
        assert grade["memory_error"] == pytest.approx(1 - 20 / 24)
        assert grade["memory_runs"] == 3
        (factor,) = found["factors"]
        assert (factor["job"], factor["runs"]) == ("lora", 3)
        assert (factor["applied"], factor["worst"]) == (pytest.approx(1.2), pytest.approx(1.25))
    told(stage)


def _on_another_gpu(sdk: Blocking, lost: str) -> str:
    shown = sdk.workspace("tune")
    leads = shown.machine == "gpu" and shown.primary != lost and shown.state == "running"
    return shown.primary if leads else ""


def told(stage: Stage) -> None:
    """What a person sees, in both languages, and what the next advice says of it."""
    english = stage.dumont("advise", "--calibration")
    assert "llm-lora" in english
    assert "17 % (3)" in english
    assert "22.0 GB (H100, all in use on the card, read every 1 s)" in english
    assert "Memory of lora jobs is counted × 1.20: 3 runs" in english
    advice = stage.json("advise", QUESTION, "--explain")
    assert advice["calibration"] == {"lora": 1.2}
    lines = [line for line in advice["choices"][0]["explain"] if line["what"] == "recorded runs"]
    assert [(line["amount"], line["unit"]) for line in lines] == [(1.2, "×")]
    assert "GPU memory" in stage.dumont("events", "tune", "--limit", "200")
