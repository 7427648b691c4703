"""What a barrier that returned OK promises of writes that the kernel tells little of, checked on the promoted tree."""

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dumont.demo import faults
from dumont.demo.walker import Facts, describe, differences
from tests.acceptance.cloud import NAME, Clouds, serves, standby_of

pytestmark = pytest.mark.timeout(180)

FILES = 20_000
UNHEARD = 7_000
"""So many are created while the engine stands still: with three hints each, more than the 16,384 that are queued."""
SCRIPT = f"""
import json, mmap, os, sys, time
import dumont

def say(told):
    print(json.dumps(told), flush=True)

def told(answer):
    return {{"ok": answer.ok, "fuzzy": answer.fuzzy, "reason": answer.reason, "commit": answer.commit}}

def mapped(name, size):
    with open(name, "wb") as file:
        file.truncate(size)
    with open(name, "r+b") as file:
        return mmap.mmap(file.fileno(), size)

def create(first, end):
    for number in range(first, end):
        with open(f"truth/many/{{number}}", "wb") as file:
            file.write(b"%d" % number)

os.makedirs("truth/many")
with open("truth/in-place", "wb") as file:
    file.write(b"before" * 1000)
small, large = mapped("truth/mapped", 100_000), mapped("truth/mapped-large", 9_000_000)
create(0, {FILES} - {UNHEARD})
say(told(dumont.barrier(timeout_s=30.0)))
sys.stdin.readline()  # the engine stands still from here on, so that the kernel has to drop hints

create({FILES} - {UNHEARD}, {FILES})
before = os.stat("truth/in-place")
with open("truth/in-place", "r+b") as file:
    file.write(b"after!" * 1000)
os.utime("truth/in-place", ns=(before.st_atime_ns, before.st_mtime_ns))
say({{"mtime_kept": os.stat("truth/in-place").st_mtime_ns == before.st_mtime_ns}})
sys.stdin.readline()  # and goes on from here

give_up = time.monotonic() + 45
small[70_000:70_003] = b"yes"
large[8_000_000:8_000_003] = b"yes"
answer = dumont.barrier(timeout_s=30.0)
while not answer.ok and time.monotonic() < give_up:
    answer = dumont.barrier(timeout_s=30.0)
say(told(answer))
sys.stdin.readline()
"""


@dataclass
class Aftermath:
    """The barrier's answer, and the tree on the dead machine's disk beside the promoted one, as a walker sees them."""

    answer: dict[str, Any]
    first: dict[str, Any]
    mtime_kept: bool
    dead: dict[bytes, Facts]
    promoted: dict[bytes, Facts]
    tree: Path

    def differing(self, *names: bytes) -> list[str]:
        """Differences in these names, and in what is below them."""

        def among(facts: dict[bytes, Facts]) -> dict[bytes, Facts]:
            return {path: one for path, one in facts.items() if path.partition(b"/")[0] in names}

        return differences(among(self.dead), among(self.promoted))


@pytest.fixture(scope="module")
def aftermath(clouds: Clouds) -> Aftermath:
    """A program writes, a barrier returns OK, the machine under it dies at that instant, the standby is promoted."""
    cloud = clouds.whole()
    before = cloud.settle()
    argv = ["ssh", "-F", str(cloud.config), f"{NAME}.dumont", f"{shlex.quote(sys.executable)} -c {shlex.quote(SCRIPT)}"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        try:
            first = heard(program)
            engine = faults.pids_of(cloud.home, before.primary)["engine"]
            faults.freeze_pid(engine)
            try:
                said(program)
                mtime_kept = heard(program)["mtime_kept"]
            finally:
                faults.thaw_pid(engine)
            cloud.outside.pause.touch()
            said(program)
            answer = heard(program)
            cloud.kill(before.primary)
            assert answer["ok"], answer
        finally:
            program.kill()
    dead = cloud.take_disk(before.primary)
    after = cloud.until("a promotion", lambda shown: serves(shown, before.epoch + 1), 45)
    assert after.primary == standby_of(before).id
    tree = faults.tree_of(cloud.home, after.primary) / "truth"
    found = Aftermath(answer, first, mtime_kept, describe(dead / "truth"), describe(tree), tree)
    cloud.outside.pause.unlink()
    return found


def heard(program: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """The program's next line."""
    assert program.stdout
    told: dict[str, Any] = json.loads(program.stdout.readline())
    return told


def said(program: "subprocess.Popen[bytes]") -> None:
    """Let the program go on."""
    assert program.stdin
    program.stdin.write(b"\n")
    program.stdin.flush()


def test_the_barrier_said_ok(aftermath: Aftermath) -> None:
    """Otherwise the tests below would say nothing."""
    assert aftermath.first["ok"], aftermath.first
    assert aftermath.answer["ok"], aftermath.answer


def test_twenty_thousand_creates_are_all_in_the_commit(aftermath: Aftermath) -> None:
    """The kernel queues 16,384 hints and then drops them; whoever ignores that loses the rest of the files."""
    assert aftermath.differing(b"many") == []
    names = {path for path in aftermath.promoted if path.startswith(b"many/")}
    assert names == {b"many/%d" % number for number in range(FILES)}
    assert all((aftermath.tree / "many" / str(number)).read_text() == str(number) for number in range(0, FILES, 997))


def test_a_change_in_place_with_its_mtime_put_back_is_in_the_commit(aftermath: Aftermath) -> None:
    """Size and mtime are as before: only ctime tells, and hints of it were dropped."""
    assert aftermath.mtime_kept
    assert aftermath.differing(b"in-place") == []
    assert (aftermath.tree / "in-place").read_bytes() == b"after!" * 1000


def test_an_mmapped_write_is_covered_or_named(aftermath: Aftermath) -> None:
    """It raises no event and changes no time. A small file is read again at the barrier, a large one named at least."""
    assert (aftermath.tree / "mapped").read_bytes()[70_000:70_003] == b"yes"
    named = set(aftermath.answer["fuzzy"])
    held = (aftermath.tree / "mapped-large").read_bytes()[8_000_000:8_000_003] == b"yes"
    assert held or "truth/mapped-large" in named, named


def test_a_file_that_differs_is_found(aftermath: Aftermath) -> None:
    """The negative control of the comparison itself: one byte in one of twenty thousand files."""
    changed = {**aftermath.promoted, b"many/123": {**aftermath.promoted[b"many/123"], "sha256": "0"}}
    assert len(differences(aftermath.dead, changed)) > len(differences(aftermath.dead, aftermath.promoted))
