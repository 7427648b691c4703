"""A round: one fault at a random instant, told to nobody, and all that is then measured and checked from outside."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from dumont.client.results import Replica, WorkspaceShown
from dumont.demo import faults, fenced, marks
from dumont.demo.acklog import NONCE, STEP, AckReader, Found, acked_bytes, commits, lost
from dumont.demo.address import Address
from dumont.demo.cloud import Cloud, TookTooLong, is_healthy
from dumont.demo.firstbyte import first_byte
from dumont.demo.merkle import root
from dumont.demo.report import CUT_OFF, KILLED, Round
from dumont.demo.risk import at_risk_bytes, take
from dumont.demo.walker import describe, differences
from dumont.demo.witness import Outside
from dumont.i18n import _

CALM_TIMEOUT_S = 120.0
PROMOTION_TIMEOUT_S = 30.0
RESUME_TIMEOUT_S = 30.0
EVENT_TIMEOUT_S = 3.0
RETURN_TIMEOUT_S = 180.0
BASE = "library"
FAULT_AFTER_S = (0.3, 2.0)
POLL_EVERY_S = 0.05
DIRECTIONS: tuple[faults.Direction, ...] = ("both", "in", "out")


@dataclass
class Stage:
    """What every round plays on. `beacon` is the command that runs `beacon.py`; past rounds counted `counted` acks."""

    cloud: Cloud
    address: Address
    acks: AckReader
    outside: Outside
    rng: Random
    beacon: str
    returns: bool
    counted: int = 0
    rounds: list[Round] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What was broken and when: `at` in seconds since 1970, `monotonic` by the clock of that name.

    `tree` is the broken instance's. `resumes` starts of the workload had been noted before, `run` was the last.
    """

    before: WorkspaceShown
    tree: Path
    at: float
    monotonic: float
    resumes: int
    run: str


async def play(stage: Stage, round_: Round) -> None:
    """One round, written into `round_` as it goes. Raises TookTooLong or CommandFailed when it can't be finished."""
    with _witness_begins_again(stage):
        fault = await _strike(stage, round_)
        slot = stage.acks.last(NONCE)
        assert slot is not None, "a calm workspace has acknowledged a nonce"
        answer = await first_byte(stage.address, slot.slot, round_.old_id, fault.monotonic)
        if answer is None:
            round_.notes.append(_("Nobody answered at the address after the fault."))
        else:
            round_.first_byte_ms = answer.after_ms
        promoted = await _promoted(stage, round_, fault)
        tree = faults.tree_of(stage.cloud.home, promoted.id)
        await _compare(stage, round_, promoted, tree)
        promoted_diary = fenced.diary_of(tree)
        if round_.kind == CUT_OFF:
            await fenced.await_freeze(round_, fault.tree, fault.at)
        await _compare_base(round_, fault.tree, tree)
        round_.at_risk_bytes = await asyncio.to_thread(at_risk_bytes, fault.tree, tree)
        found = await _resumed(stage, fault)
        _judge(stage, round_, fault, found)
    await _went_on(stage, round_, fault)
    if round_.kind == KILLED:
        await asyncio.to_thread(shutil.rmtree, fault.tree)
    else:
        old_diary = await fenced.come_back(stage.cloud, round_, fault.at, fault.tree)
        round_.checks["not_merged"] = fenced.is_unmerged(old_diary, promoted_diary, fenced.diary_of(tree))
    if stage.returns:
        await _return(stage, round_, fault)


@contextlib.contextmanager
def _witness_begins_again(stage: Stage) -> Iterator[None]:
    """While trees are compared the witness writes nothing; at the end it may, whatever happened."""
    try:
        yield
    finally:
        stage.outside.pause.unlink(missing_ok=True)


async def _strike(stage: Stage, round_: Round) -> Fault:
    """Wait for calm, arm the workload's hold, then break the primary's instance at a random instant under load."""
    before = await calm(stage)
    armed = await stage.address.ask(f"{stage.beacon} arm")
    if not armed["ok"]:
        raise TookTooLong(f"a barrier of a calm workspace is unknown: {armed['reason']}")
    resumes = len((await find(stage)).resumed)
    home, round_.old_id = stage.cloud.home, before.primary
    tree = faults.tree_of(home, round_.old_id)
    await asyncio.sleep(stage.rng.uniform(*FAULT_AFTER_S))
    stage.acks.read()
    step = stage.acks.last(STEP)
    assert step is not None, "a calm workspace has acknowledged a step"
    round_.step_acked = step.step
    stage.outside.pause.touch()
    if round_.kind == CUT_OFF:
        round_.direction = stage.rng.choice(DIRECTIONS)
        monotonic = await faults.cut(home, round_.old_id, round_.direction)
    else:
        monotonic = await faults.kill(home, round_.old_id)
        tree = take(tree, stage.outside.path / f"dead-{round_.number}")
    at = time.time() - (time.monotonic() - monotonic)
    return Fault(before=before, tree=tree, at=at, monotonic=monotonic, resumes=resumes, run=step.run)


async def calm(stage: Stage) -> WorkspaceShown:
    """The workspace once it is healthy, and barriers of its epoch return OK, the workload's and the witness's."""
    shown = await stage.cloud.until(_("a primary and a standby in step"), is_healthy, CALM_TIMEOUT_S)
    try:
        async with asyncio.timeout(CALM_TIMEOUT_S):
            while True:
                stage.acks.read()
                newest = [stage.acks.last(kind) for kind in (NONCE, STEP)]
                if is_healthy(shown) and all(ack is not None and ack.commit[0] >= shown.epoch for ack in newest):
                    return shown
                await asyncio.sleep(POLL_EVERY_S)
                shown = await stage.cloud.shown()
    except TimeoutError:
        raise TookTooLong(
            f"an acknowledged barrier at epoch {shown.epoch}: not within {CALM_TIMEOUT_S:.0f} s"
        ) from None


async def _promoted(stage: Stage, round_: Round, fault: Fault) -> Replica:
    """The new primary as it first says that it serves, before its workload goes on."""

    def serves(shown: WorkspaceShown) -> bool:
        return any(_leads(replica, shown, fault.before.epoch) for replica in shown.replicas)

    shown = await stage.cloud.until(_("a promotion"), serves, PROMOTION_TIMEOUT_S)
    deadline = time.monotonic() + EVENT_TIMEOUT_S
    while True:
        told = marks.after(await stage.cloud.events(), fault.at)
        if marks.landed(told, "failover") or time.monotonic() > deadline:
            break
        await asyncio.sleep(POLL_EVERY_S)
    promoted = marks.promoted(told, reason="failover")
    round_.detected_ms = marks.detected_ms(told, fault.at)
    round_.promoted_ms = promoted.after_ms if promoted else None
    replica = next(replica for replica in shown.replicas if _leads(replica, shown, fault.before.epoch))
    round_.new_id = replica.id
    return replica


def _leads(replica: Replica, shown: WorkspaceShown, old_epoch: int) -> bool:
    return replica.id == shown.primary and replica.ready and (replica.epoch or 0) > old_epoch and bool(replica.root)


async def _compare(stage: Stage, round_: Round, promoted: Replica, tree: Path) -> None:
    """The promoted tree, hashed again by `merkle`, must have the root of the commit that the new primary stands on.

    When a barrier told the outside the root of that very commit, the three must agree.
    """
    stage.acks.read()
    told = {".".join(map(str, ack.commit)): ack.root for ack in stage.acks.all[stage.counted :] if ack.root}
    seen = await asyncio.to_thread(root, tree, await stage.cloud.chunk_key())
    wanted = {promoted.root} | ({told[promoted.head]} if promoted.head in told else set())
    round_.tree_equal = wanted == {seen}
    if not round_.tree_equal:
        expected = ", ".join(sorted(str(name)[:16] for name in wanted))
        round_.notes.append(
            _("The promoted tree's root is {seen}, but commit {commit} has {wanted}.").format(
                seen=seen[:16], commit=promoted.head, wanted=expected
            )
        )


async def _compare_base(round_: Round, dead: Path, promoted: Path) -> None:
    """Files that nobody wrote since the start must be on both machines' disks alike, whatever commits say of them."""
    mine, theirs = await asyncio.gather(*(asyncio.to_thread(describe, tree / BASE) for tree in (dead, promoted)))
    found = differences(mine, theirs)
    if found:
        round_.tree_equal = False
        round_.notes += [_("Not as on the old machine: {what}").format(what=what) for what in found[:3]]


async def _resumed(stage: Stage, fault: Fault) -> Found:
    """Let the workload go on, and wait until it said what it found."""
    await stage.address.ask(f"{stage.beacon} go")
    deadline = time.monotonic() + RESUME_TIMEOUT_S
    while True:
        found = await find(stage)
        if len(found.resumed) > fault.resumes or time.monotonic() > deadline:
            return found
        await asyncio.sleep(POLL_EVERY_S)


async def find(stage: Stage) -> Found:
    """What the workspace holds now, asked over its address."""
    told: dict[str, Any] = await stage.address.ask(f"{stage.beacon} show")
    return Found(tuple(told["lines"]), told["slots"], tuple(told["resumed"]))


def _judge(stage: Stage, round_: Round, fault: Fault, found: Found) -> None:
    """Compare what the outside was told with what the new primary holds."""
    stage.acks.read()
    inside = fenced.acked_inside(fault.tree) if round_.kind == CUT_OFF else []
    acked, stage.counted = stage.acks.all[stage.counted :], len(stage.acks.all)
    missing = lost([*stage.acks.all, *inside], found)
    round_.acked_commits, round_.acked_bytes, round_.acked_lost = commits(acked), acked_bytes(acked), len(missing)
    round_.notes += [_("Lost: {ack}").format(ack=f"{ack.kind} {ack.token} {ack.text or ack.step}") for ack in missing]
    if round_.kind == CUT_OFF:
        fenced.check_acks(round_, inside, fault.at)
    if len(found.resumed) <= fault.resumes:
        round_.notes.append(_("The workload did not start again."))
        return
    resumed = found.resumed[-1]
    round_.step_resumed, round_.loss_resumed = int(resumed["step"]), float(resumed["loss"])
    same_loss = resumed["loss"] == resumed["loss_again"]
    whole = resumed["integrity"] == "ok"
    round_.training_resumed = same_loss and whole and round_.step_resumed >= round_.step_acked
    if not round_.training_resumed:
        round_.notes.append(_("Training found: {found}").format(found=resumed))


async def _went_on(stage: Stage, round_: Round, fault: Fault) -> None:
    """Training went on only if a later step than the resumed one is acknowledged again, by another run."""
    deadline = time.monotonic() + CALM_TIMEOUT_S
    while time.monotonic() < deadline:
        stage.acks.read()
        step = stage.acks.last(STEP)
        if step and step.run != fault.run and step.step > round_.step_resumed:
            return
        await asyncio.sleep(POLL_EVERY_S)
    round_.training_resumed = False
    round_.notes.append(_("No later step was acknowledged."))


async def _return(stage: Stage, round_: Round, fault: Fault) -> None:
    """Wait until the workspace is back on a GPU, and measure the pause as the outside saw it."""
    await stage.cloud.until(
        _("the return to a GPU"), lambda shown: is_healthy(shown) and on_gpu(shown), RETURN_TIMEOUT_S
    )
    told = marks.after(await stage.cloud.events(), fault.at)
    rented, joined = marks.rented_gpu(told), marks.joined(told)
    round_.rented_ms = rented.after_ms if rented else None
    round_.caught_up_ms = joined.after_ms if joined else None
    shown = await calm(stage)
    if shown.epoch == fault.before.epoch:
        return
    nonces = [ack for ack in stage.acks.all if ack.kind == NONCE]
    first = next(index for index, ack in enumerate(nonces) if ack.commit[0] >= shown.epoch)
    round_.switchover_ms = round((nonces[first].at - nonces[first - 1].at) * 1000) if first else None
    step = stage.acks.last(STEP)
    settled = [ack for ack in stage.acks.all if ack.kind == NONCE or (step and ack.run != step.run)]
    missing = lost(settled, await find(stage))
    round_.acked_lost += len(missing)
    round_.notes += [_("Lost at the switchover: {ack}").format(ack=ack.token) for ack in missing]


def on_gpu(shown: WorkspaceShown) -> bool:
    """Whether a GPU machine is the primary."""
    return any(replica.id == shown.primary and replica.machine == "gpu" for replica in shown.replicas)
