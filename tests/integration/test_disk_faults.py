"""What a standby's disk does when the machine fails under it: killed, full, or refusing to fsync."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.demo.merkle import root as walked_root
from dumont.demo.walker import describe, differences
from dumont.errors import DiskFull
from dumont.snapshot.disk import Limits, WorkspaceDisk
from tests.integration.author import Author, follow, journal

PROJECT = Path(__file__).resolve().parents[2]
FOLLOWER = """
import asyncio, os, random, sys
from pathlib import Path
from dumont.errors import DumontError
from dumont.snapshot.disk import Limits, WorkspaceDisk
from dumont.snapshot.kept import Promise
from tests.integration.author import Author, journal
from tests.trees import VERBS, change

class Hasty(WorkspaceDisk):
    async def sync(self):
        self._journal.flush()

async def main(top, seed, commits):
    chance = random.Random(seed)
    author = Author(top / "primary")
    author.root.mkdir()
    kind = Hasty if os.environ.get("HASTY") else WorkspaceDisk
    disk = kind(top / "standby", top / "data", Limits(segment_bytes=2**19))
    await disk.load()
    await disk.promise(Promise(1))
    for number in range(commits):
        change(author.root, [(chance.choice(VERBS), chance.randrange(48), chance.randrange(48), chance.randrange(1000))
                             for _ in range(20)])
        blobs, message = author.commit()
        for attempt in range(3):
            try:
                await journal(disk, blobs, message)
                break
            except DumontError as error:
                print("refused", type(error).__name__, flush=True)
        else:
            return
        print("acked", message.commit.id.seq, message.commit.root.hex(), flush=True)
        await disk.apply(message)
        print("applied", message.commit.id.seq, flush=True)
    await disk.close()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT}"}


def follower(top: Path, seed: int, commits: int) -> list[str]:
    return [sys.executable, "-c", FOLLOWER, str(top), str(seed), str(commits)]


def needs_strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: apt-get install strace")


async def test_a_killed_standby_has_every_acknowledged_commit_whole(tmp_path: Path) -> None:
    """SIGKILL at random instants of journaling, applying and checkpointing; the walker hashes what load leaves."""
    chance = random.Random()
    later = 0
    for number in range(10):
        top = tmp_path / f"{number}"
        top.mkdir()
        process = await asyncio.create_subprocess_exec(
            *follower(top, number, 1000), stdout=asyncio.subprocess.PIPE, env=environment()
        )
        assert process.stdout is not None
        lines = [await process.stdout.readline() for _ in range(chance.randrange(1, 40))]
        await asyncio.sleep(chance.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        rest = await process.stdout.read()
        lines += rest[: rest.rfind(b"\n") + 1].splitlines()  # the last line may be torn
        await process.wait()
        acked = {int(words[1]): words[2].decode() for line in lines if (words := line.split())[0] == b"acked"}
        kept = await WorkspaceDisk(top / "standby", top / "data").load()
        assert kept.head is not None
        seq, last = kept.head.id.seq, max(acked)
        assert last <= seq <= last + 1
        assert seq == last + 1 or kept.head.root.hex() == acked[seq]
        assert walked_root(top / "standby") == kept.head.root.hex()
        later += seq > 3
    assert later, "every standby died too early to show anything"


@pytest.mark.parametrize("hasty", [False, True])
def test_what_is_acknowledged_was_fsynced_before(tmp_path: Path, hasty: bool) -> None:
    """The page cache survives a kill, so only the order of system calls can show it: write, fdatasync, then the ack.

    The control: a disk whose `sync` does nothing has to be caught.
    """
    needs_strace()
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-o", str(trace), "-e", "trace=write,pwrite64,fdatasync", "-e", "signal=none"]
    env = {**environment(), "HASTY": "1" if hasty else ""}
    subprocess.run([*command, *follower(tmp_path, 3, 3)], check=True, env=env, stdout=subprocess.DEVNULL)
    acked, too_early = acks(trace.read_text().splitlines())
    assert acked == 3
    assert too_early == (3 if hasty else 0)


def acks(trace: list[str]) -> tuple[int, int]:
    """How many acknowledgements a trace shows, and how many came before what they cover was fsynced."""
    acked = too_early = 0
    durable = True
    for line in trace:
        if "pwrite64" in line and ".segment>" in line:
            durable = False
        elif "fdatasync" in line and ".segment>" in line:
            durable = True
        elif "write(1" in line and '"acked' in line:
            acked += 1
            too_early += not durable
    return acked, too_early


def test_a_failed_fsync_is_never_acknowledged_or_retried(tmp_path: Path) -> None:
    """Injected by strace into the real system call: every later call is refused, though its fsync would succeed."""
    needs_strace()
    inject = ["strace", "-f", "-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=4"]
    done = subprocess.run(
        [*inject, *follower(tmp_path, 3, 5)], check=True, env=environment(), capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    refused = lines.index("refused NotDurable")
    assert lines[refused:] == ["refused NotDurable"] * 3
    assert (tmp_path / "data" / "failed").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs may be mounted here: run as root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


async def test_a_full_disk_is_a_refusal_and_never_half_a_commit(tmp_path: Path, small_disk: Path) -> None:
    """What does not fit is refused before it is acknowledged; when there is room again, everything goes on."""
    author = Author(tmp_path / "primary")
    author.root.mkdir()
    (author.root / "file").write_bytes(os.urandom(2**20))
    disk = WorkspaceDisk(small_disk / "standby", small_disk / "data", Limits(2**20, 2**20))
    await disk.load()
    first = await follow(disk, author)
    before = describe(author.root)
    for size in (11 * 2**20, 40 * 2**20):  # fits into the journal only; fits nowhere
        (author.root / "big").write_bytes(os.urandom(size))
        tree, head = author.tree, author.head
        blobs, message = author.commit()
        with pytest.raises(DiskFull):
            await journal(disk, blobs, message)
        await disk.drop_partial()
        assert disk.pending_bytes == 0
        author.tree, author.head = tree, head
    assert differences(before, describe(small_disk / "standby")) == []
    (author.root / "big").write_bytes(os.urandom(3 * 2**20))
    second = await follow(disk, author)
    assert second.commit.parent == first.commit.id
    assert differences(describe(author.root), describe(small_disk / "standby")) == []
    await disk.close()
    assert (await WorkspaceDisk(small_disk / "standby", small_disk / "data").load()).head == second.commit
