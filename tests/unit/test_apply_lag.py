"""What a standby acknowledges is nearly on its disk's tree: a barrier waits for a large commit, a failover does not."""

import asyncio

from dumont.wire.stream import CommitMessage
from tests.simulation.disk import SimDisk
from tests.simulation.pair import Stage, passes, play

EPOCH = 3


class Gated(SimDisk):
    """Applies nothing until it is let."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage.cpu.rng)
        self.gate = asyncio.Event()

    async def apply(self, message: CommitMessage) -> None:
        await self.gate.wait()
        await super().apply(message)


def test_a_large_commit_is_acknowledged_when_it_is_applied() -> None:
    """Acknowledged before, its promotion would take as long as applying it, and the promise is five seconds."""
    assert _acked_before_applying(files=600) is False


def test_a_small_commit_is_acknowledged_at_once() -> None:
    """The control: it is durable in the journal, and applying it takes no time worth waiting for."""
    assert _acked_before_applying(files=20) is True


def _acked_before_applying(files: int) -> bool:
    """Whether a commit of so many files is acknowledged while nothing is applied; it is afterwards, in any case."""
    seen = []

    async def story(stage: Stage) -> None:
        disk = stage.cpu.disk = Gated(stage)
        host = stage.cpu.host
        stage.cpu.host = type(host)(disk, host.watchdog, host.doors, host.history, host.numbers, host.clock, host.watch)
        primary = stage.gpu.lead(EPOCH, ("cpu",))
        standby = await stage.cpu.follow(EPOCH, "gpu")
        for number in range(files):
            stage.gpu.write(b"f%d" % number, b"data of %d" % number)
        await stage.connect(primary, standby)
        await passes(3.0)
        seen.append(primary.barriers.acked("cpu") is not None)
        assert standby.head is not None, "it is journaled, acknowledged or not"
        disk.gate.set()
        await stage.until(lambda: primary.barriers.acked("cpu") is not None)

    play(story)
    return bool(seen[0])
