"""What a cut-off primary must do, checked from outside: acknowledge nothing more, stand still, end, leave a branch."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from dumont.demo import faults, marks
from dumont.demo.acklog import Acked, parse
from dumont.demo.cloud import Cloud
from dumont.demo.report import Round
from dumont.errors import Corrupt, DumontError
from dumont.i18n import _

LEASE_S = 2.0
SLACK_S = 0.5
"""For the watchdog's tick, and for a machine whose cores are all busy."""

QUIET_S = 0.5
BRANCH_TIMEOUT_S = 90.0
POLL_EVERY_S = 0.25
DIARY = "train.log"


async def await_freeze(round_: Round, tree: Path, fault_at: float) -> None:
    """The workload writes a line every few milliseconds: the last one tells when it stood still."""
    await asyncio.sleep(max(0.0, fault_at + LEASE_S + SLACK_S + QUIET_S - time.time()))
    wrote_at = last_written_at(tree / DIARY)
    await asyncio.sleep(QUIET_S)
    stands = last_written_at(tree / DIARY) == wrote_at
    round_.checks["frozen_within_lease"] = stands and wrote_at <= fault_at + LEASE_S + SLACK_S
    if not round_.checks["frozen_within_lease"]:
        round_.notes.append(
            _("It wrote until {seconds:.2f} s after the cut.").format(seconds=last_written_at(tree / DIARY) - fault_at)
        )


def last_written_at(diary: Path) -> float:
    """The time stamp, in seconds since 1970, of the last whole line of the training's log; 0.0 when there is none."""
    with diary.open("rb") as source:
        source.seek(max(0, diary.stat().st_size - 4096))
        lines = source.read().split(b"\n")[:-1]
    words = lines[-1].split() if lines else []
    return float(words[1]) if len(words) == 3 else 0.0


def acked_inside(tree: Path) -> list[Acked]:
    """What the workload of a cut-off primary took for acknowledged, though nobody outside may have heard of it."""
    path = tree / "acked.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    acked = []
    for line in lines:
        try:
            acked.append(parse(b'{"kind": "step", ' + line.removeprefix(b"{")))
        except Corrupt:
            continue  # it was frozen in the middle of a line, and later another run went on there
    return acked


def check_acks(round_: Round, inside: Sequence[Acked], fault_at: float) -> None:
    """Behind a cut link nothing may be acknowledged once the next epoch has begun."""
    ended_at = fault_at + (round_.promoted_ms or 0) / 1000 + SLACK_S
    late = [ack for ack in inside if ack.at > ended_at]
    round_.checks["no_late_ack"] = round_.promoted_ms is not None and not late
    round_.notes += [_("Acknowledged too late: {token}").format(token=ack.token) for ack in late]


def diary_of(tree: Path) -> bytes:
    """What the training's log holds there now."""
    return (tree / DIARY).read_bytes()


def is_unmerged(old: bytes, promoted: bytes, now: bytes) -> bool:
    """Whether the new primary's log went on from what was promoted, without the lines that only the old one has.

    Where only one direction was cut, the standby may have received all that the old primary wrote.
    """
    divergent = set(old.splitlines()) - set(promoted.splitlines())
    return now.startswith(promoted) and not divergent & set(now.splitlines())


async def come_back(cloud: Cloud, round_: Round, fault_at: float, tree: Path) -> bytes:
    """Restore the link: the higher epoch must end the workload, and what it wrote alone must become a branch.

    Answers the training's log on the old machine.
    """
    diary = diary_of(tree)
    await faults.heal(cloud.home, round_.old_id)
    branch = marks.branch_of(marks.after(await cloud.events(), fault_at), round_.old_id)
    round_.checks["branch_listed"] = await _listed(cloud, branch)
    try:
        kept = await cloud.branch_content(branch, DIARY)
        round_.checks["branch_readable"] = kept == diary
    except DumontError as error:
        round_.checks["branch_readable"] = False
        round_.notes.append(str(error))
    round_.checks["ended"] = await _ended(cloud, round_.old_id, tree, diary)
    return diary


async def _listed(cloud: Cloud, branch: str) -> bool:
    deadline = time.monotonic() + BRANCH_TIMEOUT_S
    while branch and time.monotonic() < deadline:
        if any(kept.name == branch for kept in await cloud.branches()):
            return True
        await asyncio.sleep(POLL_EVERY_S)
    return False


async def _ended(cloud: Cloud, instance_id: str, tree: Path, diary: bytes) -> bool:
    """Its workload wrote nothing more, and the machine was let go once its branch was kept."""
    deadline = time.monotonic() + BRANCH_TIMEOUT_S
    while time.monotonic() < deadline:
        if (tree / DIARY).exists() and (tree / DIARY).stat().st_size != len(diary):
            return False
        if all(replica.id != instance_id or replica.state == "gone" for replica in (await cloud.shown()).replicas):
            return True
        await asyncio.sleep(POLL_EVERY_S)
    return False
