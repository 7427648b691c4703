"""Outages of what is not the primary: a server that dies, freezes or starves, a standby and an engine that end."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import pytest

import dumont
from dumont.client import Blocking, Home
from dumont.client.results import WorkspaceShown
from dumont.demo import faults
from dumont.demo.acklog import Acked
from dumont.errors import BadInput
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
    with edited(cloud, "upgraded", "__init__.py", {f'version__ = "{dumont.__version__}"': 'version__ = "7.0.0"'}):
        cloud.dumont("up")
        with Blocking(Home(cloud.home)) as sdk:
            assert sdk.health().version == "7.0.0"
        check_completion(cloud, before)


@contextmanager
def edited(cloud: Cloud, name: str, file: str, edits: Mapping[str, str]) -> Iterator[None]:
    """A server started in the block runs a copy of our program, with some texts of one file replaced by others."""
    top = cloud.home / name
    shutil.copytree(ROOT / "src" / "dumont", top / "dumont", ignore=shutil.ignore_patterns("__pycache__"))
    path = top / "dumont" / file
    text = path.read_text()
    for before, after in edits.items():
        assert text.count(before) == 1, f"{before!r} stands {text.count(before)} times in {file}"
        text = text.replace(before, after)
    path.write_text(text)
    cloud.environment["PYTHONPATH"] = str(top)
    try:
        yield
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
    assert cloud.epoch() == before.epoch, cloud.events(since)


def disagreements(cloud: Cloud) -> list[str]:
    """Machines that the database doesn't know or calls gone, and records without a machine."""
    records = dict(cloud.rows("SELECT id, state FROM instance"))
    machines = {path.name for path in (cloud.home / "instances").iterdir() if not path.name.startswith(".")}
    found = [f"{one} runs, and is {records.get(one)}" for one in machines if records.get(one) != "rented"]
    return found + [f"{one} is {state}" for one, state in records.items() if state != "gone" and one not in machines]


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
    return max(after - before for before, after in itertools.pairwise(instants))


def test_a_frozen_server_troubles_nobody(cloud: Cloud) -> None:
    """Data and leases flow between the replicas; and when it wakes it must not take its own sleep for their silence."""
    with untroubled(cloud):
        faults.freeze_pid(cloud.server_pid)
        time.sleep(10.0)
        faults.thaw_pid(cloud.server_pid)


def test_a_failover_would_be_seen(cloud: Cloud) -> None:
    """The negative control of these checks: here the primary really dies while the server is frozen."""
    with pytest.raises(AssertionError, match="promoted"):
        kill_while_frozen(cloud)


def kill_while_frozen(cloud: Cloud) -> None:
    with untroubled(cloud) as calm:
        faults.freeze_pid(cloud.server_pid)
        cloud.kill(cloud.rows("SELECT primary_id FROM workspace")[0][0])
        faults.thaw_pid(cloud.server_pid)
        cloud.until("a promotion", lambda shown: serves(shown, calm.epoch + 1), COMPLETES_S_MAX)


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
    engine = faults.pids_of(cloud.home, before.primary)["engine"]
    began = time.monotonic()
    os.kill(engine, signal.SIGKILL)
    wait_until("another engine runs", lambda: engine_of(cloud, before.primary) not in (engine, 0), 10)
    cloud.settle(20)
    took_s = time.monotonic() - began
    assert "failover" not in cloud.kinds(since), cloud.events(since)
    assert cloud.shown().primary == before.primary
    assert took_s < 15
    assert cloud.lost() == []


def engine_of(cloud: Cloud, instance_id: str) -> int:
    try:
        return faults.pids_of(cloud.home, instance_id)["engine"]
    except (BadInput, KeyError):
        return 0


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
