"""Which processes are the workload: from made-up process lists, and from one's own."""

import os
import threading
from pathlib import Path

from dumont.agent.processes import FOREIGN_S, Family, Process, is_still, read, read_pids, state, workload_pids


class Proc:
    """A directory that looks like /proc."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        for pid, parent in ((1, 0), (2, 0), (10, 1)):
            self.add(pid, parent)

    def add(self, pid: int, parent: int, name: str = "sleep", threads: int = 1) -> None:
        fields = ["S", str(parent)] + ["0"] * 15 + [str(threads), "0", str(pid * 100)] + ["0"] * 30
        (self.path / str(pid)).mkdir(exist_ok=True)
        (self.path / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")

    def remove(self, pid: int) -> None:
        (self.path / str(pid) / "stat").unlink()
        (self.path / str(pid)).rmdir()

    def family(self) -> Family:
        return Family(10, clock=lambda: self.now, proc=str(self.path))


def pids(generations: list[list[Process]]) -> list[list[int]]:
    return [[process.pid for process in generation] for generation in generations]


def test_generations_are_counted_from_the_head(tmp_path: Path) -> None:
    """Parents must be stopped, and seen to stand, before their children."""
    proc = Proc(tmp_path)
    for pid, parent in ((20, 10), (5, 20), (6, 5), (21, 10), (30, 1), (31, 30)):
        proc.add(pid, parent)
    assert pids(proc.family().generations()) == [[20, 21], [5], [6]]


def test_our_own_processes_are_not_workload_but_their_children_are(tmp_path: Path) -> None:
    """The session is the parent of every shell."""
    proc = Proc(tmp_path)
    for pid, parent in ((20, 10), (21, 20), (22, 21), (23, 10)):
        proc.add(pid, parent)
    assert pids(proc.family().workload({10, 20, 23})) == [[21], [22]]


def test_a_name_may_hold_anything(tmp_path: Path) -> None:
    """Fields are counted from the last parenthesis: a program is free to be called `) S 1 (`."""
    proc = Proc(tmp_path)
    proc.add(20, 10, name=") S 1 (x\n")
    assert read(20, str(tmp_path)) == Process(20, 10, "S", 1, 2000)
    assert pids(proc.family().generations()) == [[20]]


def test_an_orphan_of_a_parent_that_ended_during_the_scan_is_found(tmp_path: Path) -> None:
    """Its line still named the dead parent; read again, it names the watchdog, a subreaper."""
    proc = Proc(tmp_path)
    proc.add(20, 10)
    family = proc.family()
    found = {20: Process(20, 10, "S", 1, 2000), 22: Process(22, 21, "S", 1, 2200)}
    proc.add(22, 10)
    depths = {10: 0}
    family._place(22, found, depths)
    assert depths[22] == 1


def test_one_that_is_taken_away_while_we_read_makes_no_stranger_of_its_child(tmp_path: Path) -> None:
    """The kernel says 0 for its parent then; its child would be taken for one of ours by nobody, and run on."""
    proc = Proc(tmp_path)
    proc.add(21, 0, threads=0)
    assert read(21, str(tmp_path)) is None
    family = proc.family()
    found = {22: Process(22, 21, "S", 1, 2200)}
    proc.add(22, 10)
    depths = {10: 0}
    family._place(22, found, depths)
    assert depths[22] == 1
    assert pids(family.generations()) == [[22]]


def test_who_ended_during_the_scan_is_nobody(tmp_path: Path) -> None:
    """A parent and its child both gone: no endless search, no error."""
    proc = Proc(tmp_path)
    family = proc.family()
    depths = {10: 0}
    family._place(22, {22: Process(22, 21, "S", 1, 2200)}, depths)
    assert depths == {10: 0}


def test_strangers_are_read_once_a_second(tmp_path: Path) -> None:
    """A freeze has milliseconds, and a host may run thousands of processes; but numbers come round again."""
    proc = Proc(tmp_path)
    proc.add(40, 1)
    family = proc.family()
    assert family.generations() == []
    proc.add(40, 10)
    proc.now = FOREIGN_S / 2
    assert family.generations() == []
    proc.now = FOREIGN_S
    assert pids(family.generations()) == [[40]]


def test_a_newcomer_is_seen_at_once(tmp_path: Path) -> None:
    """The freezer looks again until nobody new appears."""
    proc = Proc(tmp_path)
    family = proc.family()
    assert family.generations() == []
    proc.add(41, 10)
    assert pids(family.generations()) == [[41]]
    proc.remove(41)
    assert family.generations() == []


def test_a_head_that_is_the_first_process_of_its_jail(tmp_path: Path) -> None:
    """A watchdog may be process 1 of a namespace; then everything is below it."""
    proc = Proc(tmp_path)
    proc.add(20, 10)
    family = Family(1, clock=lambda: 0.0, proc=str(tmp_path))
    assert pids(family.generations()) == [[10], [20]]


def test_a_running_process_does_not_stand_still() -> None:
    """We run while we ask; each of our threads counts."""
    ourselves = read(os.getpid())
    assert ourselves is not None
    assert not is_still(ourselves)
    wait = threading.Event()
    thread = threading.Thread(target=wait.wait)
    thread.start()
    now = read(os.getpid())
    assert now is not None
    assert now.threads > 1
    assert not is_still(now)
    wait.set()
    thread.join()


def test_another_process_of_the_same_number_is_not_waited_for() -> None:
    """The one that was meant has ended, and ended ones stand still."""
    ourselves = read(os.getpid())
    assert ourselves is not None
    assert is_still(ourselves._replace(started=ourselves.started - 1, threads=1))


def test_there_is_no_such_process() -> None:
    """Process numbers stay below 2**22."""
    assert read(2**22 + 1) is None
    assert state(2**22 + 1) == ""
    assert workload_pids(2**22 + 1, ()) == []


def test_the_list_of_our_processes_may_be_missing(tmp_path: Path) -> None:
    """An engine that starts faster than the watchdog writes knows nobody yet."""
    assert read_pids(tmp_path / "agent.pids") == {}
    (tmp_path / "agent.pids").write_text('{"watchdog": 10')
    assert read_pids(tmp_path / "agent.pids") == {}
    (tmp_path / "agent.pids").write_text('{"watchdog": 10, "engine": 11}')
    assert read_pids(tmp_path / "agent.pids") == {"watchdog": 10, "engine": 11}
