"""Two replicas of one workspace in virtual time, assigned like a server would, for tests of the role machine."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from dumont.model.instance import Role
from dumont.replication.replica import Replica
from dumont.wire.control import Assignment, Endpoints, Peer, Status
from tests.simulation.disk import SimDisk
from tests.simulation.pair import WORKSPACE, Side, Stage, play

HERE = Endpoints("here", stream_port=7)


@dataclass
class Two:
    """Both replicas, assigned like a server would."""

    stage: Stage
    gpu: Replica
    cpu: Replica
    roles: dict[str, Assignment] = field(default_factory=dict)

    def side(self, name: str) -> Side:
        return self.stage.gpu if name == "gpu" else self.stage.cpu

    async def assign(self, epoch: int, primary: str, ack_set: tuple[str, ...] = (), **more: Any) -> None:
        """Tell both, at once, who leads."""
        for name, replica, other in (("gpu", self.gpu, "cpu"), ("cpu", self.cpu, "gpu")):
            role = Role.PRIMARY if name == primary else Role.STANDBY
            self.roles[name] = assignment(epoch, role, primary, other, ack_set=ack_set, **more)
            await replica.assign(self.roles[name])

    async def connect(self) -> None:
        near, far = await self.stage.wire()
        self.cpu.attach(far)
        self.gpu.attach(near)

    async def working(self, epoch: int = 1) -> None:
        """`gpu` leads with `cpu` in its ack set, which is caught up."""
        await self.assign(epoch, "gpu", ("cpu",), ack_version=1)
        await self.connect()
        await self.stage.until(lambda: any(peer.acked for peer in status(self.gpu).peers))


def assignment(epoch: int, role: Role, primary: str = "gpu", other: str = "cpu", **more: Any) -> Assignment:
    return Assignment(WORKSPACE, epoch, role, primary, peers=(Peer(other, HERE, dial=False),), **more)


def status(replica: Replica) -> Status:
    return replica.status(HERE)


def both(story: Callable[[Two], Awaitable[None]], gpu: type[SimDisk] = SimDisk, cpu: type[SimDisk] = SimDisk) -> None:
    """Play with two replicas that were started."""

    async def told(stage: Stage) -> None:
        for side, disk in ((stage.gpu, gpu), (stage.cpu, cpu)):
            if disk is not SimDisk:
                side.disk = disk(side.rng)
                host = side.host
                side.host = type(host)(
                    side.disk, host.watchdog, host.doors, host.history, host.numbers, host.clock, host.watch
                )
        two = Two(stage, await engine(stage.gpu), await engine(stage.cpu))
        await story(two)

    play(told)


async def engine(side: Side) -> Replica:
    """A replica as an engine that was just started has it."""
    replica = Replica(side.name, side.host, side.pace)
    replica.crew.dismiss()
    side.crew.dismiss()
    side.crew = replica.crew
    await replica.start()
    return replica
