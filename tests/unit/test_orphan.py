"""An orphan ends its machine when nobody depends on it, and never when it may hold the only copy."""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
from msgspec.structs import replace as changed

from dumont.agent.orphan import AGAIN_S, Fate, Hands, Orphanhood, Standing, fate
from dumont.errors import Refused
from dumont.model.instance import Machine, Role
from dumont.replication.barrier import Answer
from dumont.wire.control import Peer
from tests.simulation.pair import Stage, passes, play
from tests.simulation.two import HERE, Two, both

DAY_S = 86_400.0
SPARE = Standing(machine=Machine.GPU, role=Role.NONE, holds_files=False)
LEADER = Standing(machine=Machine.GPU, role=Role.PRIMARY, holds_files=True, kept=True)
RETURNING = Standing(machine=Machine.GPU, role=Role.STANDBY, holds_files=True, hears_primary=True)


@pytest.mark.parametrize(
    ("standing", "what"),
    [
        (SPARE, Fate.END),
        (replace(SPARE, machine=Machine.CPU), Fate.END),
        (replace(SPARE, holds_files=True), Fate.STAY),
        (RETURNING, Fate.END),
        (replace(RETURNING, hears_primary=False), Fate.STAY),
        (replace(RETURNING, machine=Machine.CPU), Fate.STAY),
        (LEADER, Fate.RETIRE),
        (replace(LEADER, kept=False), Fate.STAY),
        (replace(LEADER, machine=Machine.CPU), Fate.STAY),
    ],
)
def test_what_becomes_of_an_orphan(standing: Standing, what: Fate) -> None:
    """A machine that may hold the only copy stays, whatever it costs."""
    assert fate(standing)[0] is what


def test_of_a_pair_one_side_at_most_ever_goes() -> None:
    """Else both could go in one moment, each relying on the other. No clock is asked for that."""
    for primary, standby in itertools.product(Machine, Machine):
        leads = replace(LEADER, machine=primary, kept=standby is Machine.CPU)
        follows = replace(RETURNING, machine=standby)
        going = [what for what in (fate(leads)[0], fate(follows)[0]) if what is not Fate.STAY]
        assert len(going) <= 1, (primary, standby)


@dataclass
class Machinery:
    """What a watch sees of its machine, and what it did with it."""

    stage: Stage
    standing: Standing = SPARE
    heard_at: float = 0.0
    hears_end: bool = True
    answers: list[Answer] = field(default_factory=list)
    did: list[str] = field(default_factory=list)

    def silent_s(self) -> float:
        return self.stage.clock.monotonic() - self.heard_at

    async def retire(self, timeout_s: float) -> Answer:
        self.did.append("retire")
        return self.answers.pop(0)

    async def end(self) -> bool:
        self.did.append("end")
        return self.hears_end

    def watch(self) -> Orphanhood:
        hands = Hands(self.silent_s, lambda: self.standing, self.retire, lambda: self.did.append("resume"), self.end)
        return Orphanhood(hands, DAY_S, self.stage.clock)

    def begin(self) -> None:
        self.stage.gpu.crew.start(self.watch().watch_forever())


def watched(story: Callable[[Machinery], Awaitable[None]]) -> None:
    async def told(stage: Stage) -> None:
        machinery = Machinery(stage)
        machinery.begin()
        await story(machinery)

    play(told)


def test_a_machine_that_hears_of_somebody_is_no_orphan() -> None:
    """An hour without a server is an upgrade; the count starts anew with every word."""

    async def story(machinery: Machinery) -> None:
        for _ in range(5):
            await passes(DAY_S * 0.9)
            machinery.heard_at = machinery.stage.clock.monotonic()
        assert machinery.did == []
        await passes(DAY_S * 1.1)
        assert "end" in machinery.did

    watched(story)


def test_an_end_that_was_not_heard_is_asked_for_again_until_somebody_is_there() -> None:
    """The provider's API fails for a while, and a server that came back decides again."""

    async def story(machinery: Machinery) -> None:
        machinery.hears_end = False
        await passes(DAY_S + 1_000)
        assert len(machinery.did) > 3
        machinery.heard_at = machinery.stage.clock.monotonic()
        await passes(100)
        asked = len(machinery.did)
        await passes(DAY_S / 2)
        assert len(machinery.did) == asked

    watched(story)


def test_a_primary_goes_only_after_its_barrier_was_ok() -> None:
    """Unknown is no copy. It stays, with its workload, and does not disturb it again for an hour."""

    async def story(machinery: Machinery) -> None:
        machinery.standing = LEADER
        machinery.answers = [Answer(ok=False, reason="no"), Answer(ok=True)]
        await passes(DAY_S + 60)
        assert machinery.did == ["retire"]
        await passes(AGAIN_S + 120)
        assert machinery.did[:3] == ["retire", "retire", "end"]

    watched(story)


def test_a_primary_whose_keeper_vanishes_before_the_end_goes_on() -> None:
    """A barrier says what was; the machine that keeps must still be there when this one goes."""

    async def story(machinery: Machinery) -> None:
        machinery.standing, machinery.hears_end = LEADER, False
        machinery.answers = [Answer(ok=True)]
        await passes(DAY_S + 30)
        machinery.standing = replace(LEADER, kept=False)
        await passes(300)
        assert machinery.did[-1] == "resume"
        asked = len(machinery.did)
        await passes(DAY_S)
        assert len(machinery.did) == asked

    watched(story)


def keep(two: Two) -> Awaitable[None]:
    """Tell the primary that its standby is a keeper."""
    told = changed(two.roles["gpu"], peers=(Peer("cpu", HERE, dial=False, keeper=True),))
    return two.gpu.assign(told)


def test_a_retired_primary_left_everything_with_its_keeper() -> None:
    """The workload ends first, so that its last writes are in the barrier too."""

    async def story(two: Two) -> None:
        await two.working()
        assert two.gpu.keepers == frozenset(), "an older server does not tell, and then nobody retires"
        await keep(two)
        assert two.gpu.keepers == {"cpu"}
        two.stage.gpu.write(b"a", b"last")
        answer = await two.gpu.retire(10)
        assert answer.ok and two.stage.gpu.doors.serving == 0
        assert two.cpu.hears_primary
        head = two.cpu.status(HERE).head
        assert answer.commit is not None and head is not None and head >= answer.commit.id

    both(story)


@pytest.mark.parametrize("refuses", [True, False])
def test_a_primary_that_can_not_retire_serves_again(refuses: bool) -> None:
    """Its workload does not end, or its standby is away: people get in as before."""

    async def story(two: Two) -> None:
        await two.working()
        await keep(two)
        near, _far = await two.stage.wire()
        if refuses:
            two.stage.gpu.doors.refusal = Refused("somebody is stuck in the kernel")
        else:
            two.gpu.attach(near)  # a newer link of that standby, at which nobody is
            two.stage.gpu.write(b"a", b"never acknowledged")
        assert not (await two.gpu.retire(5)).ok
        assert two.stage.gpu.doors.serving == 1
        two.stage.gpu.doors.refusal = None

    both(story)


def test_an_engine_that_restarted_holds_files_without_a_role() -> None:
    """It can't know whether anybody else has them: no role is not the same as nothing to lose."""

    async def story(two: Two) -> None:
        assert not two.gpu.holds_files
        await two.working()
        two.stage.gpu.write(b"a", b"1")
        assert (await two.gpu.barrier()).ok
        assert two.gpu.holds_files and two.cpu.holds_files

    both(story)
