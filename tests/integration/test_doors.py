"""The doors, from the engine's side: orders reach a session process whenever it comes, and an ending is proved."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from dumont.agent.boot import RunDir
from dumont.agent.doors import SessionDoors
from dumont.clock import SystemClock
from dumont.errors import LinkClosed, Refused
from dumont.model.instance import Role
from dumont.model.policy import Service
from dumont.wire.control import Assignment
from dumont.wire.link import SocketLink
from dumont.wire.local import Quiesce, Quiesced, Serve, Serving, ToSession

ASSIGNMENT = Assignment("films", 3, Role.PRIMARY, "gpu", service=Service(run="train", switch_grace_s=0.1), on_gpu=True)


class Session:
    """A session process that does nothing but listen; `ends` says whether it confirms that the workload ended."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.ends = True
        self.heard: list[ToSession] = []
        self.link: SocketLink[object, ToSession] | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self.run.session_socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.run.session_socket)

    def crash(self) -> None:
        if self._server:
            self._server.close()
        if self.link:
            self.link.close()
        self.run.session_socket.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.link = link = SocketLink(reader, writer, ToSession, peer="engine")
        with closing(link), suppress(LinkClosed):
            while True:
                message = await link.receive()
                self.heard.append(message)
                if isinstance(message, Quiesce) and self.ends:
                    await link.send(Quiesced())
                if isinstance(message, Serve):
                    await link.send(Serving(message.epoch, message.serving, 22, 80))


@pytest.fixture
async def doors(short_dir: Path) -> AsyncIterator[tuple[SessionDoors, Session]]:
    run = RunDir(short_dir)
    doors, session = SessionDoors(run, SystemClock()), Session(run)
    running = asyncio.create_task(doors.run())
    yield doors, session
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    session.crash()


async def until(true: object) -> None:
    async with asyncio.timeout(5):
        while not true():  # type: ignore[operator]
            await asyncio.sleep(0.005)


async def test_a_session_that_starts_late_or_again_hears_the_newest_order(doors: tuple[SessionDoors, Session]) -> None:
    """It has no memory of its own."""
    asked, session = doors
    asked.open(ASSIGNMENT, None)
    assert asked.serving == 0
    await session.start()
    await until(lambda: asked.serving == 3)
    assert isinstance(session.heard[-1], Serve) and session.heard[-1].command == "train"
    session.crash()
    await until(lambda: asked.serving == 0)
    await session.start()
    await until(lambda: asked.serving == 3)
    asked.close()
    await until(lambda: asked.serving == 0)
    assert isinstance(session.heard[-1], Serve) and session.heard[-1].command == ""


async def test_quiescing_ends_when_the_session_says_that_nothing_runs(doors: tuple[SessionDoors, Session]) -> None:
    """Only then can the tree be sealed."""
    asked, session = doors
    await session.start()
    asked.open(ASSIGNMENT, None)
    await until(lambda: asked.serving == 3)
    await asked.quiesce(ASSIGNMENT)
    await until(lambda: asked.serving == 0)
    assert any(isinstance(message, Quiesce) for message in session.heard)


async def test_an_ending_that_nobody_confirms_is_refused_and_the_doors_are_shut(
    doors: tuple[SessionDoors, Session],
) -> None:
    """A program that goes on writing after the seal would make the tree something else than its commit."""
    asked, session = doors
    with pytest.raises(Refused, match="is away"):
        await asked.quiesce(ASSIGNMENT)
    await session.start()
    asked.open(ASSIGNMENT, None)
    await until(lambda: asked.serving == 3)
    session.ends = False
    began = asyncio.get_running_loop().time()
    with pytest.raises(Refused, match="did not end"):
        await asked.quiesce(ASSIGNMENT)
    assert asyncio.get_running_loop().time() - began < 5
    await until(lambda: asked.serving == 0)


async def test_words_that_make_no_sense_are_survived(doors: tuple[SessionDoors, Session]) -> None:
    """A session of another version is dialled again; the engine goes on."""
    asked, session = doors
    await session.start()
    asked.open(ASSIGNMENT, None)
    await until(lambda: asked.serving == 3)
    assert session.link
    await session.link.send({"what": "is this"})
    count = len(session.heard)
    await until(lambda: len(session.heard) > count)
    await until(lambda: asked.serving == 3)
