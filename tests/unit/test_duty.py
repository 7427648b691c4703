"""An agent's duty: the control link and the streams are held whatever closes; what is unforeseen ends it loudly."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dumont.agent.duty import STATUS_EVERY_S, Duty, Lines
from dumont.errors import LinkClosed, StoreError
from dumont.model.instance import Role
from dumont.replication.replica import Replica
from dumont.wire.control import AgentHello, Assignment, Endpoints, Peer, Status, Sync, Synced
from tests.simulation.network import SimLink
from tests.simulation.pair import WORKSPACE, Stage, passes, play

HERE = Endpoints("here", 22, 80, 7)


class Office:
    """A server as an agent sees it: every link that it dialled, and what it said over the newest."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.links: list[SimLink] = []
        self.heard: list[tuple[float, Any]] = []
        self.away = False
        self._hearing: list[asyncio.Future[None]] = []

    async def dial(self) -> SimLink:
        if self.away:
            raise LinkClosed("nobody answers")
        near, far = await self.stage.network.connect("gpu", "server")
        self.links.append(far)
        self._hearing.append(asyncio.ensure_future(self._hear(far)))
        return near

    async def _hear(self, link: SimLink) -> None:
        try:
            while True:
                message = await link.receive()
                self.heard.append((self.stage.clock.monotonic(), message))
        except LinkClosed:
            return

    def of(self, kind: type) -> list[Any]:
        return [message for _, message in self.heard if isinstance(message, kind)]

    async def say(self, message: Any) -> None:
        await self.links[-1].send(message)


class Agent:
    """One duty at work, for `gpu`, with what it dialled."""

    def __init__(self, stage: Stage, office: Office) -> None:
        self.dialled: list[str] = []
        self.streams: list[SimLink] = []
        self.answers_as = ""
        self.stage = stage
        self.replica = Replica("gpu", stage.gpu.host, stage.gpu.pace)
        lines = Lines(office.dial, self._dial_peer, lambda: HERE, lambda status: status)
        self.duty = Duty("gpu", self.replica, lines, stage.clock, random.Random(1))

    async def _dial_peer(self, peer: Peer) -> SimLink:
        self.dialled.append(peer.instance_id)
        near, far = await self.stage.network.connect("gpu", "cpu", ("gpu", self.answers_as or peer.instance_id))
        self.streams.append(far)
        return near


def on_duty(story: Callable[[Stage, Office, Agent], Awaitable[None]]) -> None:
    """Play while the duty is done; it must not end by itself."""

    async def told(stage: Stage) -> None:
        office = Office(stage)
        agent = Agent(stage, office)
        await agent.replica.start()
        working = asyncio.ensure_future(agent.duty.run())
        await stage.until(lambda: bool(office.of(Status)))
        try:
            await story(stage, office, agent)
            assert not working.done(), working
        finally:
            working.cancel()
            await asyncio.wait([working])

    play(told)


def assignment(epoch: int = 1, role: Role = Role.PRIMARY, *, dial: bool = True, port: int = 7) -> Assignment:
    return Assignment(WORKSPACE, epoch, role, "gpu", peers=(Peer("cpu", Endpoints("there", stream_port=port), dial),))


def test_an_agent_says_who_it_is_and_then_how_it_is() -> None:
    """A server that just started knows nobody."""

    async def story(stage: Stage, office: Office, agent: Agent) -> None:
        assert isinstance(office.heard[0][1], AgentHello) and office.heard[0][1].instance_id == "gpu"
        assert office.of(Status)[0].endpoints == HERE and office.of(Status)[0].role is Role.NONE

    on_duty(story)


def test_the_status_is_told_a_few_times_a_second_and_at_once_when_it_matters() -> None:
    """A failover waits for it; a server must not be flooded by what changes all the time."""

    async def story(stage: Stage, office: Office, agent: Agent) -> None:
        office.heard.clear()
        await passes(10)
        assert 10 / STATUS_EVERY_S * 0.8 <= len(office.of(Status)) <= 10 / STATUS_EVERY_S + 1
        began = stage.clock.monotonic()
        await office.say(assignment())
        await stage.until(lambda: office.of(Status)[-1].role is Role.PRIMARY)
        assert stage.clock.monotonic() - began < 0.15

    on_duty(story)


def test_a_control_link_that_closes_is_dialled_again_and_the_role_goes_on() -> None:
    """The data path never depends on the server."""

    async def story(stage: Stage, office: Office, agent: Agent) -> None:
        await office.say(assignment())
        await stage.until(lambda: agent.replica.role is Role.PRIMARY)
        office.away = True
        office.links[-1].close()
        await passes(30)
        assert agent.replica.role is Role.PRIMARY and stage.gpu.doors.serving == 1
        office.away = False
        await stage.until(lambda: len(office.links) == 2, 2)
        await stage.until(lambda: office.of(AgentHello)[1:] != [])

    on_duty(story)


def test_a_sync_is_a_barrier_on_a_user_s_behalf() -> None:
    """With one copy it is unknown, and says why."""

    async def story(stage: Stage, office: Office, agent: Agent) -> None:
        await office.say(assignment())
        await office.say(Sync("r1", 1.0))
        await stage.until(lambda: bool(office.of(Synced)))
        answer = office.of(Synced)[0]
        assert answer.request == "r1" and answer.outcome == "unknown" and answer.reason

    on_duty(story)


@pytest.mark.parametrize(
    ("told", "dials"), [(assignment(), True), (assignment(dial=False), False), (assignment(port=0), False)]
)
def test_a_stream_is_dialled_as_the_assignment_says_and_again_when_it_closes(told: Assignment, dials: bool) -> None:
    """The GPU side dials, whatever its role: it sits behind a router."""

    async def story(stage: Stage, office: Office, agent: Agent) -> None:
        await office.say(told)
        await passes(1)
        assert len(agent.dialled) == int(dials)
        if dials:
            agent.streams[0].close()
            await stage.until(lambda: len(agent.dialled) == 2, 2)
            await office.say(assignment(2, Role.NONE))
            await passes(1)
            before = len(agent.dialled)
            await passes(5)
            assert len(agent.dialled) == before

    on_duty(story)


def test_whoever_answers_in_another_s_place_is_hung_up_on() -> None:
    """Addresses are used again; certificates say who it is."""

    async def story(stage: Stage, office: Office, agent: Agent) -> None:
        agent.answers_as = "somebody else"
        await office.say(assignment())
        await stage.until(lambda: bool(agent.streams))
        with pytest.raises(LinkClosed):
            await agent.streams[0].receive()

    on_duty(story)


def test_what_could_not_be_done_for_a_while_is_tried_again() -> None:
    """The server says a thing once; a store that was away at that moment must not matter."""

    async def story(stage: Stage, office: Office, agent: Agent) -> None:
        await office.say(assignment())
        await stage.until(lambda: agent.replica.role is Role.PRIMARY)
        stage.gpu.write(b"a", b"mine alone")
        await passes(1)
        stage.gpu.history.failing = StoreError("the store can't be reached")
        await office.say(Assignment(WORKSPACE, 2, Role.NONE, "cpu", branch="gpu-e1"))
        await stage.until(lambda: "can't be reached" in office.of(Status)[-1].halted)
        office.heard.clear()
        await passes(3)
        assert all(status.halted for status in office.of(Status))  # and not as if all were well in between
        stage.gpu.history.failing = None
        await stage.until(lambda: office.of(Status)[-1].branch_saved is not None, 3)
        await stage.until(lambda: office.of(Status)[-1].halted == "")

    on_duty(story)


def test_what_is_unforeseen_in_any_task_ends_the_duty() -> None:
    """The process ends with it, and the watchdog starts another: better than half an engine."""

    async def story(stage: Stage) -> None:
        office = Office(stage)
        agent = Agent(stage, office)
        await agent.replica.start()
        working = asyncio.ensure_future(agent.duty.run())
        await stage.until(lambda: bool(office.of(Status)))
        await office.say(assignment())
        await stage.until(lambda: agent.replica.role is Role.PRIMARY)

        def fail() -> None:
            raise AssertionError("a bug of ours")

        stage.gpu.source.hints = fail  # type: ignore[method-assign,assignment]
        await asyncio.wait([working], timeout=5)
        with pytest.raises(ExceptionGroup) as raised:
            working.result()
        assert raised.group_contains(AssertionError, match="a bug of ours")
        assert not agent.replica.crew._tasks or all(task.cancelling() for task in agent.replica.crew._tasks)

    play(story)
