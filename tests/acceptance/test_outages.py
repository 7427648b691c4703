"""Outages of what is not the primary: a server that dies, freezes or starves, a standby and an engine that end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import pytest

from dumont.client import Blocking, Home
from dumont.client.results import WorkspaceShown
from dumont.demo import faults
from dumont.demo.acklog import Acked
from tests.acceptance.cloud import NAME, ROOT, Cloud, now, serves, standby_of, wait_until

pytestmark = pytest.mark.timeout(180)

COMPLETES_S_MAX = 30.0
GAP_S_MAX = 4.0
"""Between two barriers that return OK, on a machine that does much else; an untroubled one needs 0.2 s."""


# --- the server dies


def as_the_gpu_dies(cloud: Cloud, epoch: int) -> None:
    """Nothing is detected yet."""


def once_the_epoch_is_written(cloud: Cloud, epoch: int) -> None:
    """The database names the new primary; hardly anybody was told."""
    wait_until("the new epoch is in the database", lambda: cloud.epoch() > epoch, 15, every_s=0.001)


@pytest.mark.parametrize("instant", [as_the_gpu_dies, once_the_epoch_is_written])
def test_a_failover_is_completed_by_the_server_started_next(
    cloud: Cloud, instant: Callable[[Cloud, int], None]
) -> None:
    """Whatever a server began stands in the database, and the next one goes on from there."""
    before = cloud.settle()
    cloud.kill(before.primary)
    instant(cloud, before.epoch)
    cloud.kill_server()
    cloud.dumont("up")
    check_completion(cloud, before)


def test_a_failover_is_completed_by_another_version(cloud: Cloud) -> None:
    """Upgrades happen when something is wrong: what the old version began, the new one finishes."""
    before = cloud.settle()
    cloud.kill(before.primary)
    once_the_epoch_is_written(cloud, before.epoch)
    cloud.kill_server()
    upgraded = cloud.home / "upgraded"
    shutil.copytree(ROOT / "src" / "dumont", upgraded / "dumont", ignore=shutil.ignore_patterns("__pycache__"))
    package = upgraded / "dumont" / "__init__.py"
    version = 'version__ = "7.0.0"'
    package.write_text(package.read_text().replace(f'version__ = "{running_version()}"', version))
    cloud.environment["PYTHONPATH"] = str(upgraded)
    try:
        cloud.dumont("up")
        with Blocking(Home(cloud.home)) as sdk:
            assert sdk.health().version == "7.0.0"
        check_completion(cloud, before)
    finally:
        del cloud.environment["PYTHONPATH"]


def check_completion(cloud: Cloud, before: WorkspaceShown) -> None:
    """The standby of before leads at a higher epoch, behind the same address, with everything acknowledged."""
    member = standby_of(before).id
    after = cloud.until("the failover completes", lambda shown: serves(shown, before.epoch + 1), COMPLETES_S_MAX)
    assert after.primary == member, "only who was in the ack set holds everything"
    assert cloud.lost() == []
    cloud.settle()
    assert cloud.lost() == []


@pytest.mark.parametrize("file", ["machine.json", "started"])
def test_no_machine_is_forgotten_when_the_server_dies_while_renting(cloud: Cloud, file: str) -> None:
    """It was written down before it was asked for, so whatever came of it is found again (I4)."""
    name = f"x-{file.partition('.')[0]}"
    since = now()
    before = cloud.settle()
    rented = {path.parent.name for path in (cloud.home / "instances").glob("*/machine.json")}
    cloud.kill(standby_of(before).id)  # another standby has to be rented

    def is_asked() -> bool:
        return any(path.parent.name not in rented for path in (cloud.home / "instances").glob(f"*/{file}"))

    wait_until(f"a new {file}", is_asked, 30, every_s=0.0005)
    cloud.kill_server()
    cloud.dumont("up")
    cloud.settle()
    wait_until("machines and records agree", lambda: disagreements(cloud) == [], 30)
    assert cloud.epoch() == before.epoch, f"{name}: {cloud.kinds(since)}"


def disagreements(cloud: Cloud) -> list[str]:
    """Machines that the database doesn't know or calls gone, and records without a machine."""
    records = dict(cloud.rows("SELECT id, state FROM instance"))
    machines = {path.name for path in (cloud.home / "instances").iterdir() if not path.name.startswith(".")}
    found = [f"{one} runs, and is {records.get(one)}" for one in machines if records.get(one) != "rented"]
    return found + [f"{one} is {state}" for one, state in records.items() if state != "gone" and one not in machines]


def running_version() -> str:
    source = (ROOT / "src" / "dumont" / "__init__.py").read_text()
    return source.partition('version__ = "')[2].partition('"')[0]


# --- the server, or the whole machine, is busy or away, and nothing else is wrong


@dataclass
class Calm:
    """What is seen while something goes on that must trouble nobody."""

    epoch: int
    since: str
    began: float
    ended: float = 0.0


@contextmanager
def untroubled(cloud: Cloud) -> Iterator[Calm]:
    """Afterwards the epoch is what it was, and barriers returned OK all the time."""
    before = cloud.settle()
    calm = Calm(before.epoch, now(), time.time())
    yield calm
    calm.ended = time.time()
    gap_s = longest_gap_s(cloud.nonces(), calm)
    after = cloud.settle()
    time.sleep(1.0)  # whoever takes its own absence for the primary's does so now
    assert (cloud.epoch(), after.primary) == (calm.epoch, before.primary), cloud.events(calm.since)
    assert not {"promoted", "fenced", "ack_set"} & set(cloud.kinds(calm.since)), cloud.events(calm.since)
    assert gap_s < GAP_S_MAX, f"for {gap_s:.1f} s no barrier returned OK: {cloud.unknown()[-3:]}"


def longest_gap_s(acked: list[Acked], calm: Calm) -> float:
    """The longest time, in seconds, in which no barrier returned OK."""
    instants = [calm.began, *(ack.at for ack in acked if calm.began < ack.at < calm.ended), calm.ended]
    return max(after - before for before, after in zip(instants, instants[1:], strict=False))


def test_a_frozen_server_troubles_nobody(cloud: Cloud) -> None:
    """Data and leases flow between the replicas; and when it wakes it must not take its own sleep for their silence."""
    with untroubled(cloud):
        faults.freeze_pid(cloud.server_pid)
        time.sleep(10.0)
        faults.thaw_pid(cloud.server_pid)


def test_a_dead_server_troubles_nobody(cloud: Cloud) -> None:
    """The same, with every connection closed."""
    with untroubled(cloud):
        cloud.kill_server()
        time.sleep(5.0)
        cloud.dumont("up")


def test_saturated_cores_trouble_nobody(cloud: Cloud) -> None:
    """A machine that has much to do is not dead: twice as many busy loops as cores, for ten seconds."""
    with untroubled(cloud):
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
        try:
            time.sleep(10.0)
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()


# --- parts of an instance, and the standby


def test_an_engine_that_dies_alone_costs_nothing(cloud: Cloud) -> None:
    """Its watchdog starts it again: the machine lives, the tree is there, only barriers wait."""
    before = cloud.settle()
    since = now()
    os.kill(faults.pids_of(cloud.home, before.primary)["engine"], signal.SIGKILL)
    began = time.monotonic()
    cloud.settle(20)
    took_s = time.monotonic() - began
    assert "failover" not in cloud.kinds(since), cloud.events(since)
    assert cloud.shown().primary == before.primary
    assert took_s < 15
    assert cloud.lost() == []


def test_without_a_standby_no_barrier_returns_ok_and_another_one_is_rented(cloud: Cloud) -> None:
    """One copy is no safety; it is said loudly, with since when, and repaired."""
    before = cloud.settle()
    standby = standby_of(before).id
    cloud.kill(standby)
    killed_at = time.time()
    degraded = cloud.until("it is degraded", lambda shown: shown.state == "degraded", 15)
    assert degraded.single_copy_since
    assert degraded.copies == 1
    told = json.loads(cloud.dumont("show", NAME, "--json"))
    assert told["single_copy_since"] or told["copies"] == 2
    answers = cloud.settle()
    assert standby not in {replica.id for replica in answers.replicas if replica.in_ack_set}
    assert (answers.epoch, answers.primary) == (before.epoch, before.primary)
    assert answers.single_copy_since is None
    joined_at = min(ack.at for ack in cloud.nonces() if ack.at > killed_at + 1.0)
    refused = [told for told in cloud.unknown() if killed_at < told["at"] < joined_at and told["kind"] == "nonce"]
    assert refused
    assert all(told["reason"] for told in refused)
    assert any("single copy" in told["reason"] for told in refused), refused
    check_nobody_acknowledged(cloud, killed_at)
    assert cloud.lost() == []


def check_nobody_acknowledged(cloud: Cloud, killed_at: float) -> None:
    """No OK between the standby's death and the newcomer's place in the ack set. 0.3 s: an answer may be under way."""
    growths = [event for event in cloud.events() if event.kind == "ack_set" and event.facts["members"]]
    grown_at = max(stamp(event.at) for event in growths)
    early = [ack for ack in cloud.nonces() if killed_at + 0.3 < ack.at < grown_at]
    assert early == []


def stamp(at: str) -> float:
    """Seconds since 1970 of an event's instant."""
    return datetime.fromisoformat(at).timestamp()
