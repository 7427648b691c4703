"""The demo's own programs, run for real against an agent that is played by this test."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

import dumont
from dumont.demo import firstbyte, harness
from dumont.demo.acklog import NONCE, STEP, AckLog, AckReader
from dumont.demo.address import Address, Answer, run_local, started
from dumont.demo.fenced import acked_inside, last_written_at
from dumont.demo.risk import at_risk_bytes, take
from dumont.demo.walker import describe, differences
from dumont.demo.witness import sort

np = pytest.importorskip("numpy", reason="needs the `demo` extra")
pytest.importorskip("sklearn", reason="needs the `demo` extra")


@dataclass
class Workspace:
    """A directory with the demo's programs, and an agent that answers barriers as it is told to."""

    tree: Path
    run: Path
    seq: int = 0
    answers_ok: bool = True
    asked: list[dict[str, Any]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        package = self.run / "python" / "dumont"
        package.mkdir(parents=True, exist_ok=True)
        shutil.copy(dumont.__file__, package / "__init__.py")
        path = os.environ.get("PATH", "/usr/bin:/bin")
        sockets = {"DUMONT_SOCKET": str(self.run / "agent.sock"), "DUMONT_ROLE": "gpu"}
        return {"PATH": path, "PYTHONPATH": str(self.run / "python"), **sockets}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(json.loads(await reader.readline()))
        self.seq += 1
        told: dict[str, Any] = {"outcome": "unknown", "reason": "told so"}
        if self.answers_ok:
            told = {"outcome": "ok", "token": f"1.{self.seq}", "commit": [1, self.seq], "root": "ab"}
        writer.write(json.dumps(told).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async def python(self, *words: str, timeout_s: float = 60.0) -> str:
        """Run one of the programs to its end; what it printed."""
        ended = await run_local([sys.executable, str(self.tree / words[0]), *words[1:]], timeout_s, self.environment())
        assert ended.status == 0, ended.errors
        return ended.output


@pytest.fixture
async def workspace(short_dir: Path) -> AsyncIterator[Workspace]:
    made = Workspace(short_dir / "tree", short_dir / "run")
    made.tree.mkdir()
    made.run.mkdir()
    shutil.copy(harness.WORKLOAD, made.tree / "train.py")
    shutil.copy(harness.BEACON, made.tree / "beacon.py")
    server = await asyncio.start_unix_server(made.answer, made.run / "agent.sock")
    yield made
    server.close()


async def test_training_goes_on_exactly_where_its_checkpoint_stands(workspace: Workspace) -> None:
    """The demo's claim that work survives rests on weights, momentum and chance all being in the checkpoint."""
    await workspace.python("train.py", "--steps", "75")
    await workspace.python("train.py", "--steps", "100")
    first, second = [json.loads(line) for line in (workspace.tree / "resume.jsonl").read_text().splitlines()]
    assert (first["step"], second["step"]) == (0, 75)
    assert second["loss"] == second["loss_again"]
    assert second["integrity"] == "ok"
    acked = [json.loads(line) for line in (workspace.tree / "acked.jsonl").read_text().splitlines()]
    assert [line["step"] for line in acked] == [25, 50, 75, 100]
    assert acked[-1]["loss"] < acked[0]["loss"], "it learns"
    assert acked[2]["written"]["bytes"] > acked[0]["written"]["bytes"]

    at_once = workspace.tree.with_name("again")
    shutil.copytree(workspace.tree, at_once, ignore=shutil.ignore_patterns("checkpoint*", "state*", "load"))
    workspace.tree = at_once
    await workspace.python("train.py", "--steps", "100")
    again = [json.loads(line) for line in (at_once / "acked.jsonl").read_text().splitlines()]
    assert again[-1]["loss"] == acked[-1]["loss"], "interrupted or not, the same training"


async def test_a_step_whose_barrier_is_unknown_is_not_acknowledged(workspace: Workspace) -> None:
    """Unknown may be lost; a log that holds it would accuse Dumont of losing what it never promised."""
    workspace.answers_ok = False
    await workspace.python("train.py", "--steps", "50")
    assert len(workspace.asked) == 2
    assert not (workspace.tree / "acked.jsonl").exists()


async def test_a_killed_workload_leaves_books_that_balance(workspace: Workspace) -> None:
    """The database must pass its check after SIGKILL on this file system already, or the demo measures SQLite."""
    for _ in range(2):
        async with started([sys.executable, str(workspace.tree / "train.py")], workspace.environment()) as process:
            await _until(lambda: _steps(workspace) > 60)
            process.send_signal(signal.SIGKILL)
        (workspace.tree / "train.log").unlink()
    await workspace.python("train.py", "--steps", "1")
    resumes = [json.loads(line) for line in (workspace.tree / "resume.jsonl").read_text().splitlines()]
    assert [resume["integrity"] for resume in resumes] == ["none", "ok", "ok"]
    with contextlib.closing(sqlite3.connect(workspace.tree / "state.db")) as books:
        assert books.execute("SELECT count(*) > 10, sum(amount) FROM entry").fetchone() == (1, 0)


async def test_half_a_transaction_is_found(workspace: Workspace) -> None:
    """A negative control: a check that can't fail proves nothing."""
    await workspace.python("train.py", "--steps", "30")
    with contextlib.closing(sqlite3.connect(workspace.tree / "state.db")) as books, books:
        books.execute("DELETE FROM entry WHERE id = (SELECT max(id) FROM entry)")
    await workspace.python("train.py", "--steps", "1")
    last = json.loads((workspace.tree / "resume.jsonl").read_text().splitlines()[-1])
    assert last["integrity"].startswith("half a transaction")


async def test_a_held_workload_writes_nothing(workspace: Workspace) -> None:
    """The promoted tree is compared with its commit while the hold is on."""
    await workspace.python("beacon.py", "arm")
    before = _listing(workspace.tree)
    async with started([sys.executable, str(workspace.tree / "train.py")], workspace.environment()):
        await asyncio.sleep(1.0)
        assert _listing(workspace.tree) == before
        await workspace.python("beacon.py", "go")
        await _until(lambda: _steps(workspace) > 0)


async def test_the_witness_logs_what_the_beacon_was_told(workspace: Workspace) -> None:
    """Nonces and steps reach the outside; an unknown barrier is logged apart."""
    outside = workspace.run
    acks, unknown = AckLog(outside / "acked.jsonl"), AckLog(outside / "unknown.jsonl")
    train = [sys.executable, str(workspace.tree / "train.py")]
    beacon = [sys.executable, str(workspace.tree / "beacon.py"), "run"]
    async with started(beacon, workspace.environment()) as hand, started(train, workspace.environment()):
        assert hand.stdout is not None
        reader = AckReader(acks.path)
        async with asyncio.timeout(30):
            while not reader.last(STEP) or not reader.last(NONCE):
                sort(await hand.stdout.readline(), acks, unknown)
                reader.read()
            workspace.answers_ok = False
            while not unknown.path.exists():
                sort(await hand.stdout.readline(), acks, unknown)
    shown = json.loads(await workspace.python("beacon.py", "show"))
    nonces = [ack for ack in reader.all if ack.kind == NONCE]
    assert {ack.text for ack in nonces} <= set(shown["lines"])
    assert shown["slots"][nonces[-1].slot].split()[0] == nonces[-1].text.split()[0]
    assert len({len(line) for line in shown["lines"]}) == 1, "changes in place need texts of one length"
    assert acked_inside(workspace.tree)[0].written["bytes"] > 0
    assert last_written_at(workspace.tree / "train.log") > 1.7e9


async def test_the_first_byte_command_prints_four_lines(workspace: Workspace) -> None:
    """It is run by a shell that we do not choose."""
    (workspace.run / "boot.json").write_text(json.dumps({"join_token": "x", "instance_id": "cpu-7", "host": "h"}))
    (workspace.run / "epoch").write_text("12")
    (workspace.tree / "slot").write_text("the text\n")
    command = firstbyte.command("nonce", str(workspace.tree / "slot"))
    answer = await run_local(["sh", "-c", command], 10, workspace.environment())
    assert firstbyte.parse(answer, "nonce", "gpu-1") == ("cpu-7", 12, "the text")


def test_bytes_at_risk_are_blocks_that_the_promoted_tree_lacks(tmp_path: Path) -> None:
    """A renamed file is safe, a new one and the changed block of a large one are not."""
    dead, promoted = tmp_path / "dead", tmp_path / "promoted"
    large = os.urandom(3 * 65536)
    for tree, changed in ((dead, b"x" * 65536), (promoted, large[:65536])):
        tree.mkdir()
        (tree / "large").write_bytes(changed + large[65536:])
        (tree / "holes").write_bytes(bytes(100_000))
    (promoted / "old name").write_bytes(b"kept")
    (dead / "new name").write_bytes(b"kept")
    (dead / "new").write_bytes(b"not kept")
    (dead / "link").symlink_to("new")
    assert at_risk_bytes(dead, promoted) == 65536 + len(b"not kept")


def test_a_tree_taken_out_survives_its_machine(tmp_path: Path) -> None:
    """The provider lets a dead machine go while the harness still counts what was at risk."""
    dead = tmp_path / "dead"
    (dead / "below").mkdir(parents=True)
    (dead / "below" / "file").write_text("content")
    before = describe(dead)
    taken = take(dead, tmp_path / "taken")
    assert not dead.exists()
    assert differences(before, describe(taken)) == []


def _steps(workspace: Workspace) -> int:
    log = workspace.tree / "train.log"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _listing(tree: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in [tree, *tree.rglob("*")]}


async def _until(holds: Any) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.02)


class Rented(Address):
    """An address behind which the first attempts get stuck, as behind a dead primary, and the third is answered."""

    asked: ClassVar[list[str]] = []

    async def run(self, command: str, timeout_s: float = 30.0) -> Answer:
        self.asked.append(command)
        if len(self.asked) < 3:
            await asyncio.sleep(timeout_s)
        return Answer(0, f"{command.split()[2]}\ncpu-1\n2\nthe text\n", "")


async def test_a_stuck_attempt_hides_no_first_byte() -> None:
    """A connection to a machine that is cut off hangs for seconds; the next one, begun meanwhile, is answered."""
    began = time.monotonic()
    found = await firstbyte.first_byte(Rented(Path("config"), "demo"), "slot", "gpu-1", began)
    assert found is not None
    assert (found.instance_id, found.epoch, found.text, found.attempts) == ("cpu-1", 2, "the text", 3)
    assert 200 <= found.after_ms < 2000
