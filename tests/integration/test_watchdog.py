"""The watchdog on real process trees: it starts, restarts, stops, continues and ends; and outlives the engine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dumont.agent.freeze import Freezer
from dumont.agent.processes import read, state
from dumont.replication.lease import LEASE_S
from tests.integration.household import SOURCES, Household, household, states, within

TREE = f"""
(sleep 1000 & sleep 1001 & wait) &
(setsid sleep 1002 &)
setsid bash -c 'sleep 1003 & exec sleep 1004' &
{sys.executable} -c '
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1005)
    os._exit(0)
os.wait()' &
while true; do echo $EPOCHREALTIME >> "$0.out"; sleep 0.01; done
"""
STOPPED = {"T", "Z"}
"""The loop's sleeper may end before it is stopped, and be collected later by a parent that is."""
ENDED = {"", "Z"}


@pytest.fixture
def house(short_dir: Path) -> Iterator[Household]:
    with household(short_dir) as house:
        yield house


def grown(house: Household) -> list[int]:
    """Have the tree started and wait until those stand that last: five sleepers and Python's double fork."""
    house.ask(TREE, 1)
    within(5.0, lambda: len(lasting(house)) == 6, "the tree has grown")
    return lasting(house)


def lasting(house: Household) -> list[int]:
    """The sleepers, and the daemon once its parents have ended and the watchdog is its parent."""
    found = []
    for pid in house.workload():
        with suppress(FileNotFoundError, ProcessLookupError):
            process = read(pid)
            called = Path(f"/proc/{pid}/cmdline").read_bytes().decode().strip("\0").split("\0")
            asleep = called[0] == "sleep" and called[1].startswith("100")
            daemon = called[0] == sys.executable and process is not None and process.parent == house.watchdog.pid
            if asleep or daemon:
                found.append(pid)
    return found


def size(house: Household) -> int:
    return os.path.getsize(house.run.path / "asked" / "0.sh.out")


def test_a_lapsed_lease_stops_every_process_within_a_tenth_of_a_second(house: Household) -> None:
    """Daemons and process sessions of their own too: a stale primary that keeps writing only makes a larger branch."""
    workload = grown(house)
    house.orders.lead(1)
    led_at = time.time()
    within(LEASE_S + 1, lambda: states(house.workload()) <= STOPPED, "all stand still")
    last_write = float((house.run.path / "asked" / "0.sh.out").read_text().split()[-1].replace(",", "."))
    assert LEASE_S - 0.5 <= last_write - led_at <= LEASE_S + 0.1
    assert house.run.lapsed.exists()
    assert set(workload) <= set(house.workload())
    assert not states(list(house.pids().values())) & STOPPED, "our own processes are not the workload"
    written = size(house)
    time.sleep(0.2)
    assert size(house) == written, "a stopped workload wrote"


def test_a_workload_runs_on_when_the_lease_comes_back(house: Household) -> None:
    """A server and a standby that were both away for a while must not cost a training run."""
    workload = grown(house)
    house.orders.lead(1)
    within(LEASE_S + 1, lambda: states(house.workload()) <= STOPPED, "all stand still")
    written = size(house)
    house.orders.renew(1, time.monotonic())
    within(0.2, lambda: states(workload) == {"S"}, "all run")
    assert not house.run.lapsed.exists()
    within(1.0, lambda: size(house) > written, "it writes")


def test_renewals_keep_a_workload_running_and_stale_ones_do_not(house: Household) -> None:
    """Only the instant of the question counts: an answer may have waited in a buffer for long."""
    workload = grown(house)
    house.orders.lead(1)
    asked_at = time.monotonic()
    while time.monotonic() < asked_at + LEASE_S - 0.3:
        house.orders.renew(1, time.monotonic())
        time.sleep(0.1)
    last = time.monotonic()
    house.orders.renew(1, last)
    while time.monotonic() < last + LEASE_S - 0.2:
        house.orders.renew(1, asked_at)
        assert states(workload) == {"S"}
        time.sleep(0.05)
    within(0.5, lambda: states(house.workload()) <= STOPPED, "all stand still")


def test_a_higher_epoch_ends_the_workload_for_good(house: Household) -> None:
    """The stopped and the running alike; and a restarted watchdog, told to lead the old epoch, does not revive it."""
    workload = grown(house)
    house.orders.lead(4)
    within(LEASE_S + 1, lambda: states(house.workload()) <= STOPPED, "all stand still")
    house.orders.end(5)
    within(0.3, lambda: states(workload) <= ENDED and not house.workload(), "all ended")
    within(1.0, lambda: house.run.ended.exists() and not house.run.lapsed.exists(), "it is written down")
    house.watchdog.kill()
    house.watchdog.wait()
    house.start()
    house.orders.lead(4)
    (house.run.path / "asked" / "1.sh").write_text("sleep 1000")
    within(3.0, lambda: not house.workload(), "nothing may run")
    house.orders.lead(5)
    house.ask("sleep 1001", 1)


def test_before_any_lead_nothing_is_stopped(house: Household) -> None:
    """A standby's shell helpers, or a primary whose assignment is on its way, hold no lease yet."""
    workload = house.ask("sleep 1000", 1)
    house.orders.end(7)
    house.orders.renew(7, 0.0)
    time.sleep(0.3)
    assert states(workload) == {"S"}


def test_the_workload_outlives_an_engine_that_is_killed(house: Household) -> None:
    """The engine may crash; who trains for days must not notice."""
    workload = grown(house)
    house.orders.lead(1)
    engine = house.pids()["engine"]
    os.kill(engine, signal.SIGKILL)
    within(1.0, lambda: house.pids().get("engine", engine) != engine, "another engine runs")
    assert states(workload) == {"S"}
    house.orders.renew(1, time.monotonic())
    within(LEASE_S + 0.2, lambda: states(house.workload()) <= STOPPED, "the lease still stops it")


def test_a_process_that_ends_at_once_is_restarted_ever_more_rarely(house: Household) -> None:
    """A broken installation must not burn a core that somebody pays for."""
    seen = []
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        pid = house.pids().get("pulse", 0)
        if pid and pid not in seen:
            seen.append(pid)
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    assert 4 <= len(seen) <= 6, "0.1 + 0.2 + 0.4 + 0.8 s of waiting are 5 starts in 2.5 s"


def test_what_an_engine_froze_before_it_died_runs_again(house: Household) -> None:
    """SIGKILL may hit in the middle of a cut; a workload left frozen would be an outage that nobody ends."""
    workload = grown(house)
    script = (
        "import sys, os, pathlib, signal\n"
        "from dumont.agent.boot import RunDir\nfrom dumont.agent.freeze import Freezer\n"
        f"assert Freezer(RunDir(pathlib.Path({str(house.run.path)!r}))).freeze(1.0)\n"
        f"assert all(open(f'/proc/{{pid}}/stat').read().split()[2] == 'T' for pid in {workload})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(SOURCES)}, check=False)
    assert died.returncode == -signal.SIGKILL
    within(0.3, lambda: states(workload) == {"S"}, "all run again")


def test_an_engine_that_hangs_while_it_froze_the_workload_is_ended(house: Household) -> None:
    """Ending the engine is always safe; a workload that stands still for minutes is not what was promised."""
    workload = grown(house)
    engine = house.pids()["engine"]
    freezer = Freezer(house.run)
    assert freezer.freeze(1.0)
    within(3.0, lambda: state(engine) in ENDED, "the engine is ended")
    freezer.thaw()
    within(0.2, lambda: states(workload) == {"S"}, "all run again")
    freezer.close()


def test_a_thaw_does_not_continue_what_the_watchdog_holds(house: Household) -> None:
    """A cut that is under way when the lease lapses must not let a stale workload run on."""
    workload = grown(house)
    freezer = Freezer(house.run)
    house.orders.lead(1)
    time.sleep(LEASE_S - 0.1)
    assert freezer.freeze(1.0)
    within(1.0, house.run.lapsed.exists, "the lease lapsed")
    freezer.thaw()
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        assert states(workload) <= STOPPED
    house.orders.renew(1, time.monotonic())
    within(0.2, lambda: states(workload) == {"S"}, "all run again")
    freezer.close()


def test_a_job_that_its_user_stopped_stays_stopped(house: Household) -> None:
    """Ctrl-Z is the user's own; neither a freeze nor a lapse may undo it."""
    (sleeper,) = house.ask("exec sleep 1000", 1)
    # Stopped between vfork and exec, it would keep its parent in the kernel, where nobody can be frozen.
    within(1.0, lambda: b"sleep" in Path(f"/proc/{sleeper}/cmdline").read_bytes().split(b"\0")[0], "it was started")
    os.kill(sleeper, signal.SIGSTOP)
    within(1.0, lambda: state(sleeper) == "T", "it is stopped")
    freezer = Freezer(house.run)
    assert freezer.freeze(1.0)
    freezer.thaw()
    house.orders.lead(1)
    within(LEASE_S + 1, house.run.lapsed.exists, "the lease lapsed")
    house.orders.renew(1, time.monotonic())
    within(1.0, lambda: not house.run.lapsed.exists(), "the lease is back")
    assert state(sleeper) == "T"
    freezer.close()


def test_a_terminated_watchdog_leaves_nobody_behind(house: Household) -> None:
    """Whoever ends an instance must not have to hunt for its daemons."""
    everybody = grown(house) + list(house.pids().values())
    house.watchdog.terminate()
    assert house.watchdog.wait(4.0) == 0
    assert states(everybody) <= ENDED


def test_a_killed_watchdog_takes_our_processes_along_and_its_successor_the_workload(house: Household) -> None:
    """A workload that no watchdog watches could run on without a lease, beside the one that is started next."""
    (house.run.path / "asked" / "0.sh").write_text(f"export DUMONT_SOCKET={house.run.agent_socket}\nsleep 1000 & wait")
    within(3.0, lambda: len(house.workload()) == 2, "it runs")
    ours = list(house.pids().values())
    workload = house.workload()
    sleeper = workload[1]
    (house.run.path / "asked" / "0.sh").unlink()
    house.watchdog.kill()
    house.watchdog.wait()
    within(1.0, lambda: states(ours) <= ENDED, "our processes ended")
    house.start()
    within(1.0, lambda: state(sleeper) in ENDED, "its workload is over")
    os.kill(workload[0], signal.SIGKILL)


def test_orders_that_make_no_sense_are_passed_over(house: Household) -> None:
    """The socket lies in a directory that the user's programs can reach."""
    for datagram in (b"", b"\xff", b"[]", b'{"say": "renew"}', b'{"say": "end", "epoch": "9"}', b"[" * 4000):
        house.orders._socket.sendto(datagram, str(house.run.watchdog_socket))
    workload = house.ask("sleep 1000", 1)
    house.orders.lead(1)
    within(LEASE_S + 1, lambda: states(workload) <= STOPPED, "it still listens")


def test_it_starts_within_a_tenth_of_a_second(short_dir: Path) -> None:
    """It is the first thing on a new machine, and on the path of every wake. Counted in time of the processor,
    which a busy neighbour on the same core makes longer and nobody shorter: the best of five counts.
    """
    code = "import dumont.agent.watchdog, time, sys; sys.stdout.write(str(time.process_time()))"
    command = [sys.executable, "-S", "-c", code]
    took_s = []
    for _ in range(5):
        out = subprocess.run(command, env={"PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=True)
        took_s.append(float(out.stdout))
    assert min(took_s) < 0.1


def test_it_needs_nothing_but_the_standard_library(short_dir: Path) -> None:
    """Whatever breaks in an installation, the parent of all must not break with it."""
    code = "import dumont.agent.watchdog, sys; print([name for name in sys.modules if '/site-packages/' in str("
    code += "getattr(sys.modules[name], '__file__', ''))])"
    command = [sys.executable, "-S", "-c", code]
    out = subprocess.run(command, env={"PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_it_costs_next_to_nothing_while_all_is_well(house: Household) -> None:
    """Fifty looks a second, on a machine that is paid for other work."""
    house.orders.lead(1)
    before = used_s(house.watchdog.pid)
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        house.orders.renew(1, time.monotonic())
        time.sleep(0.1)
    print(f"{(used_s(house.watchdog.pid) - before) / 1.5:.2%} of a core")
    assert used_s(house.watchdog.pid) - before <= 0.05 * 1.5


def used_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
