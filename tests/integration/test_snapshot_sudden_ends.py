"""`dumont snapshot` ended at random instants, all of it or one process: nothing is lost, nothing stays behind."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dumont.repository.repository import Repository, open_repository, read_config, unlock
from dumont.repository.upkeep.verify import Terms, verify
from dumont.store.directory import DirectoryStore
from tests.integration.test_snapshot_cli import RUN_S_MAX, Terminal, contents

pytestmark = pytest.mark.timeout(180)
KILLS = 26
FILE_BYTES = 3 * 2**20
SEED = 7


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    terminal = Terminal(tmp_path)
    (terminal.source / "deep").mkdir(parents=True)
    change(terminal, random.Random(0))
    return terminal


def change(terminal: Terminal, rng: random.Random) -> None:
    """Some large and small files become others."""
    for number in rng.sample(range(6), 3):
        (terminal.source / f"large-{number}").write_bytes(rng.randbytes(FILE_BYTES))
    for number in rng.sample(range(40), 20):
        (terminal.source / "deep" / f"{number}").write_bytes(rng.randbytes(rng.randrange(20_000)))


def group(leader: int) -> list[int]:
    """Processes of that process group that live, the leader first."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, pgrp = rest.split()[:3]
        if int(pgrp) == leader and state not in "ZX":
            found.append(int(name.split()[0]))
    return sorted(found, key=lambda pid: (pid != leader, pid))


def kill(process: "subprocess.Popen[str]", whom: str, rng: random.Random) -> None:
    """SIGKILL to all, to the coordinator alone, or to one of the others."""
    if whom == "all":
        os.killpg(process.pid, signal.SIGKILL)
    elif whom == "coordinator":
        process.kill()
    else:
        others = group(process.pid)[1:]
        if others:
            os.kill(rng.choice(others), signal.SIGKILL)


def outlive(leader: int) -> None:
    """Wait until nobody of the group lives: hands end by themselves, soon."""
    end = time.monotonic() + RUN_S_MAX
    while left := group(leader):
        assert time.monotonic() < end, f"processes {left} stay behind"
        time.sleep(0.01)


def seconds_of_a_save(terminal: Terminal) -> float:
    began = time.monotonic()
    terminal.save()
    return time.monotonic() - began


async def opened(terminal: Terminal) -> Repository:
    store = DirectoryStore(terminal.repo)
    config = await read_config(store)
    passphrase = terminal.environment["DUMONT_PASSPHRASE"].encode()
    return open_repository(store, config, unlock([config.slot], passphrase), os.urandom)


async def test_saves_killed_at_random_instants_lose_nothing_and_leave_nothing(terminal: Terminal) -> None:
    """A kill that asks nobody, at any instant: of everything, of a worker, of whoever they work for."""
    rng = random.Random(SEED)
    usual_s = seconds_of_a_save(terminal)
    first = contents(terminal.source)
    repo = await opened(terminal)
    killed, finished = 0, 1
    for number in range(KILLS):
        change(terminal, rng)
        whom = ("all", "coordinator", "hand")[number % 3]
        process = terminal.start("save", terminal.source, terminal.repo, start_new_session=True)
        time.sleep(rng.uniform(0.3, 1.0) * usual_s)
        kill(process, whom, rng)
        _, err = process.communicate(timeout=RUN_S_MAX)
        outlive(process.pid)
        assert "Traceback" not in err, err
        assert process.returncode in (0, 1, -signal.SIGKILL), (whom, err)
        killed += process.returncode != 0
        finished += process.returncode == 0
        verdict = await verify(repo, Terms(read_data=number % 4 == 0))
        assert verdict.is_good, (whom, verdict.damage)
    assert killed >= KILLS // 2
    assert len(list((terminal.repo / ".aside").iterdir())) <= 3 * killed
    told = terminal.save()
    assert (await verify(repo, Terms(read_data=True))).is_good
    for commit, want in (("1", first), (told["commit"], contents(terminal.source))):
        terminal.run("restore", terminal.repo, terminal.home / commit, "--commit", commit)
        assert contents(terminal.home / commit) == want


def test_a_worker_that_is_killed_is_told_in_words(terminal: Terminal) -> None:
    """The out-of-memory killer takes the largest process: the save must neither hang nor pretend."""
    for number in range(12):
        (terminal.source / f"more-{number}").write_bytes(os.urandom(8 * 2**20))
    process = terminal.start("save", terminal.source, terminal.repo, start_new_session=True)
    end = time.monotonic() + RUN_S_MAX
    while not terminal.packs():
        assert process.poll() is None and time.monotonic() < end
    kill(process, "hand", random.Random(SEED))
    _, err = process.communicate(timeout=RUN_S_MAX)
    assert process.returncode == 1
    assert "worker process ended" in err and "Traceback" not in err
    outlive(process.pid)
    kept = sum(path.stat().st_size for path in terminal.packs())
    told = terminal.save()
    assert told["stored_bytes"] <= told["plain_bytes"] - kept + 2 * 2**20


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_restore_that_is_ended_goes_on(terminal: Terminal, how: signal.Signals) -> None:
    """What is in place stays and is whole; nothing is left aside, and no process; Ctrl-C is told in words."""
    for number in range(12):
        (terminal.source / f"more-{number}").write_bytes(os.urandom(8 * 2**20))
    want = contents(terminal.source)
    whole = terminal.save()["plain_bytes"]
    target = terminal.home / "back"
    process = terminal.start("restore", terminal.repo, target, start_new_session=True)
    end = time.monotonic() + RUN_S_MAX
    while not list(target.glob("more-*")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.002)
    os.killpg(process.pid, how)
    _, err = process.communicate(timeout=RUN_S_MAX)
    outlive(process.pid)
    assert process.returncode == (130 if how is signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in err
    assert ("goes on" in err) == (how is signal.SIGINT)
    there = {name: body for name, (_, _, body) in contents(target).items() if body is not None}  # type: ignore[misc]
    assert all(body == want[name][2] for name, body in there.items())  # type: ignore[index]
    if how is signal.SIGINT:
        assert left_aside(terminal) == []
    told = terminal.json("restore", terminal.repo, target)
    assert told["fetched_bytes"] <= whole - sum(len(body) for name, body in there.items() if "more" in name) + 2**20
    assert contents(target) == want
    assert left_aside(terminal) == []


def left_aside(terminal: Terminal) -> list[str]:
    return [path.name for path in terminal.home.iterdir() if ".restoring-" in path.name]
