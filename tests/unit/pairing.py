"""A pairing of a primary that leads with its standby, which has caught up: where most stories of both begin."""

from dumont.replication.barrier import Answer
from dumont.replication.primary import Primary
from dumont.replication.standby import Standby
from tests.simulation.pair import Stage

EPOCH = 3


async def pair(stage: Stage) -> tuple[Primary, Standby]:
    """A primary that leads with `cpu` in its ack set, and the standby, caught up."""
    primary = stage.gpu.lead(EPOCH, ("cpu",))
    standby = await stage.cpu.follow(EPOCH, "gpu")
    await stage.connect(primary, standby)
    await stage.until(lambda: primary.barriers.acked("cpu") is not None)
    return primary, standby


def holds(standby: Standby, answer: Answer) -> bool:
    """Whether what `answer` says is OK is on the standby's disk for good."""
    assert answer.ok and answer.commit is not None and standby.head is not None
    return standby.head.id >= answer.commit.id
