"""Calls from a workspace: programs ask for barriers over a real socket, and nothing they send harms the engine."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import dumont
from dumont.agent.boot import RunDir
from dumont.agent.calls import Calls
from dumont.clock import SystemClock
from dumont.model.instance import Role
from dumont.replication.replica import Replica
from dumont.wire.control import Assignment, Endpoints, Peer
from tests.simulation.pair import WORKSPACE, Side
from tests.simulation.pair import Stage as VirtualStage


class Stage(VirtualStage):
    """Two sides on a real loop, in real time."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())  # type: ignore[arg-type]
        self.clock = SystemClock()  # type: ignore[assignment]
        self.gpu, self.cpu = Side("gpu", self.clock), Side("cpu", self.clock)


@dataclass
class Office:
    """A primary whose programs call, and the standby that makes an OK possible."""

    stage: Stage
    run: RunDir
    top: Path
    primary: Replica
    standby: Replica

    async def copies(self) -> None:
        """Let the standby follow."""
        near, far = await self.stage.wire()
        self.standby.attach(far)
        self.primary.attach(near)

    async def call(self, line: bytes) -> dict[str, Any]:
        """What the agent answers to one line."""
        reader, writer = await asyncio.open_unix_connection(self.run.agent_socket)
        writer.write(line + b"\n")
        async with asyncio.timeout(10):
            answer = await reader.readline()
        writer.close()
        told: dict[str, Any] = json.loads(answer)
        return told

    async def barrier(self, *paths: str, timeout_s: float | None = 5.0) -> dumont.Barrier:
        """As a program of the workspace asks."""
        return await asyncio.to_thread(dumont.barrier, *paths, timeout_s=timeout_s)


@pytest.fixture
async def office(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    run, top = RunDir(short_dir / "run"), short_dir / "workspace"
    run.path.mkdir()
    top.mkdir()
    stage = Stage()
    replicas = []
    for side, other, role in ((stage.gpu, "cpu", Role.PRIMARY), (stage.cpu, "gpu", Role.STANDBY)):
        replica = Replica(side.name, side.host, side.pace)
        await replica.start()
        peers = (Peer(other, Endpoints("there"), dial=False),)
        await replica.assign(Assignment(WORKSPACE, 1, role, "gpu", ("cpu",), 1, peers, barrier_timeout_s=5.0))
        replicas.append(replica)
    calls = asyncio.create_task(Calls(run, top, replicas[0]).serve_forever())
    while not run.agent_socket.exists():
        await asyncio.sleep(0.005)
    monkeypatch.setenv("DUMONT_SOCKET", str(run.agent_socket))
    yield Office(stage, run, top, *replicas)
    calls.cancel()
    await asyncio.wait([calls])
    for replica in replicas:
        assert not replica.crew._failures
        replica.crew.dismiss()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()  # links that still carry something


async def test_a_barrier_through_the_socket_is_ok_with_its_token(office: Office) -> None:
    """This is all that a training script has to call."""
    await office.copies()
    office.stage.gpu.write(b"checkpoint", b"step 7")
    answer = await office.barrier()
    assert answer.ok and answer.consistent and answer.commit is not None and answer.fuzzy == ()
    assert answer.token == f"{answer.commit[0]}.{answer.commit[1]}-{answer.root[:16]}"
    assert office.standby._standby and office.standby._standby.tree.get(b"checkpoint") is not None


async def test_without_an_answer_of_the_standby_it_is_unknown(office: Office) -> None:
    """Never OK, and never an exception that ends a training run."""
    answer = await office.barrier(timeout_s=0.3)
    assert not answer.ok and "not acknowledged within 0.3 s by cpu" in answer.reason
    assert not (await office.barrier(timeout_s=0)).ok


async def test_a_declared_file_is_read_by_any_of_its_names(office: Office) -> None:
    """A checkpoint is often reached through a symlink to the newest one."""
    await office.copies()
    assert (await office.barrier()).ok
    (office.top / "real").mkdir()
    (office.top / "real" / "file").write_text("")
    (office.top / "alias").symlink_to("real")
    (office.top / "latest").symlink_to("alias/file")
    asked: list[set[bytes]] = []
    barrier = office.primary.barrier

    async def remember(paths: Any = (), timeout_s: float = 10.0) -> Any:
        asked.append(set(paths))
        return await barrier(paths, timeout_s)

    office.primary.barrier = remember  # type: ignore[method-assign]
    for name in ("real/file", "alias/file", "latest", "nothing/there", ""):
        assert (await office.barrier(str(office.top / name))).ok
    assert asked == [{b"real/file"}, {b"real/file"}, {b"latest", b"real/file"}, {b"nothing/there"}, {b""}]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "not a call"),
        (b"[]", "not a call"),
        (b"null", "not a call"),
        (b'{"call": "reboot"}', "knows no call 'reboot'"),
        (b'{"call": "barrier", "paths": 7}', "not a call"),
        (b'{"call": "barrier", "timeout_s": "soon"}', "not a call"),
        (b'{"call": "barrier", "timeout_s": NaN}', "must be a number"),
        (b'{"call": "barrier", "timeout_s": 1e999, "paths": ["/etc/passwd"]}', "not in the workspace"),
        (b'{"call": "barrier", "paths": ["TOP/../elsewhere"]}', "not in the workspace"),
        (b'{"call": "barrier", "paths": ["TOP-sibling"]}', "not in the workspace"),
        (b'{"call": "barrier", "paths": ["TOP/out/passwd"]}', "not in the workspace"),
        (b'{"call": "barrier", "paths": ["TOP/a\\u0000b"]}', "can't be the name"),
        (b'{"call": "barrier", "paths": ["TOP/\\ud800"]}', "not a call"),
        (b'{"call": "barrier", "paths": ["TOP/' + b"n" * 256 + b'"]}', "can't be the name"),
        (b'{"call": "barrier", "paths": ["TOP' + b"/n" * 3000 + b'"]}', "can't be the name"),
        (b"[" * 100_000, "not a call"),
        (b"\xff\xfe", "not a call"),
    ],
)
async def test_what_makes_no_sense_is_answered_in_words(office: Office, line: bytes, words: str) -> None:
    """Any program may write to this socket; the engine that keeps its files must not mind."""
    await office.copies()
    (office.top / "out").symlink_to("/etc")
    answer = await office.call(line.replace(b"TOP", os.fsencode(office.top)))
    assert answer["outcome"] == "unknown" and words in answer["reason"]
    assert (await office.barrier()).ok


async def test_an_endless_line_is_hung_up_on(office: Office) -> None:
    """It would fill our memory."""
    reader, writer = await asyncio.open_unix_connection(office.run.agent_socket)
    try:
        for _ in range(64):
            writer.write(bytes(2**16))
            await writer.drain()
        assert await reader.read() == b""
    except ConnectionError:
        pass
    finally:
        writer.close()
    await office.copies()
    assert (await office.barrier()).ok


async def test_one_connection_may_ask_again_and_many_may_ask_at_once(office: Office) -> None:
    """A barrier covers everybody who asked before its cut."""
    await office.copies()
    reader, writer = await asyncio.open_unix_connection(office.run.agent_socket)
    for _ in range(3):
        writer.write(b'{"call": "barrier"}\n')
        assert json.loads(await reader.readline())["outcome"] == "ok"
    writer.close()
    commits = office.primary._primary.commits if office.primary._primary else 0
    answers = await asyncio.gather(*(office.call(b'{"call": "barrier"}') for _ in range(40)))
    assert {answer["outcome"] for answer in answers} == {"ok"}
    assert office.primary._primary and office.primary._primary.commits - commits < 10


async def test_a_program_that_dies_while_it_waits_leaves_nothing_behind(office: Office) -> None:
    """Training runs are killed all the time."""
    for _ in range(20):
        _, writer = await asyncio.open_unix_connection(office.run.agent_socket)
        writer.write(b'{"call": "barrier", "timeout_s": 0.2}\n')
        await writer.drain()
        writer.close()
    await asyncio.sleep(0.5)
    await office.copies()
    assert (await office.barrier()).ok
    assert office.primary._primary and not office.primary._primary.barriers._waiting


async def test_an_agent_that_is_away_is_unknown(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine may be restarting at this very moment."""
    monkeypatch.setenv("DUMONT_SOCKET", str(office.run.path / "nobody"))
    answer = await office.barrier()
    assert not answer.ok and "no agent answers" in answer.reason
