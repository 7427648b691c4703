"""The session process: doors, probes, the workload, and how it all ends."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from dumont.agent.processes import read_pids
from dumont.model.commit import CommitId
from tests.integration.doorstep import Doorstep, doorstep, exchange, needs_openssh, number_in, runs, until

pytestmark = needs_openssh

READY_S_MAX = 0.5
"""Promised are 50 ms; tests share their machine."""

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))[::-1]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture
async def step(short_dir: Path) -> AsyncIterator[Doorstep]:
    """A session process with its doors closed, as on a standby."""
    async with doorstep(short_dir) as started:
        yield started


@pytest.fixture
async def watched(short_dir: Path) -> AsyncIterator[Doorstep]:
    """The same under a real watchdog, which collects orphans and starts it again."""
    async with doorstep(short_dir, watched=True) as started:
        yield started


async def probe(step: Doorstep) -> dict[str, object]:
    """What one line to the HTTP port is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", step.ports[1])
    writer.write(b"DUMONT PROBE 1\n")
    async with asyncio.timeout(5):
        answer = json.loads(await reader.readline())
    writer.close()
    assert isinstance(answer, dict)
    return answer


async def serve_http(step: Doorstep) -> None:
    """A real web server in the workspace, waited for."""
    (step.workspace / "server.py").write_text(SERVER)
    await step.open(command="exec python3 server.py 2> /dev/null")
    async with asyncio.timeout(20):
        while b"200 OK" not in await exchange(step.ports[1], b"GET / HTTP/1.0\r\nContent-Length: 0\r\n\r\n"):
            await asyncio.sleep(0.05)


async def test_a_standbys_doors_are_closed_and_it_says_so(step: Doorstep) -> None:
    """The gateway has to tell a warm standby from a primary."""
    await step.serve(3, serving=False)
    await step.until(lambda: step.report.epoch == 3)
    assert await exchange(step.ports[0], b"SSH-2.0-x\r\n") == b""
    assert await exchange(step.ports[1], b"GET / HTTP/1.1\r\n\r\n") == b""
    assert await probe(step) == {"epoch": 3, "serving": False, "head": None, "instance": "i-1"}


async def test_promotion_costs_no_start_up(step: Doorstep) -> None:
    """Somebody waits at the other end, with a failed machine behind them."""
    await step.serve(1, serving=False)
    await step.until(lambda: step.report.epoch == 1)
    began = time.monotonic()
    await step.serve(2)
    async with asyncio.timeout(5):
        while not await banner(step.ports[0]):
            await asyncio.sleep(0)
    assert time.monotonic() - began < READY_S_MAX
    assert (await step.ssh("echo in")).out == b"in\n"


async def banner(port: int) -> bytes:
    """An SSH server's first line; b"" when it lets nobody in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await reader.readline()
    except OSError:
        return b""
    finally:
        writer.close()


async def test_a_probe_is_answered_line_by_line(step: Doorstep) -> None:
    """The gateway keeps one connection and asks many times; its answers follow what is served."""
    reader, writer = await asyncio.open_connection("127.0.0.1", step.ports[1])
    seen = []
    for epoch in (1, 2):
        await step.open(epoch, head=CommitId(epoch, 7))
        writer.write(b"DUMONT PROBE 1\n" if epoch == 1 else b"again\n")
        seen.append(json.loads(await reader.readline()))
    writer.close()
    assert [(answer["epoch"], answer["serving"], answer["head"]) for answer in seen] == [
        (1, True, "1.7"),
        (2, True, "2.7"),
    ]


async def test_a_probe_survives_what_cuts_everybody_else(step: Doorstep) -> None:
    """A witness that is cut off by a switchover would report a death."""
    reader, writer = await asyncio.open_connection("127.0.0.1", step.ports[1])
    await step.open(1)
    await step.serve(1, serving=False)
    await step.until(lambda: not step.report.serving)
    writer.write(b"DUMONT PROBE 1\n")
    async with asyncio.timeout(5):
        assert json.loads(await reader.readline())["serving"] is False
    writer.close()


async def test_the_probe_is_also_a_page(step: Doorstep) -> None:
    """For people, and for monitors that speak HTTP only."""
    await step.open(4)
    answer = await exchange(step.ports[1], b"GET /.dumont/probe HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(body) == {"epoch": 4, "serving": True, "head": None, "instance": "i-1"}


@pytest.mark.parametrize(("wish", "language"), [("pt-BR,pt;q=0.9", "pt-BR"), ("en-US", "en"), ("fi", "en")])
async def test_an_address_without_a_server_says_what_to_do(step: Doorstep, wish: str, language: str) -> None:
    """A refused connection would look as if the workspace were down."""
    await step.open()
    answer = await exchange(step.ports[1], f"GET / HTTP/1.1\r\nHost: x\r\nAccept-Language: {wish}\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert f"Content-Language: {language}\r\n".encode() in head
    assert b"PORT" in body


async def test_the_users_server_is_reached_and_bodies_are_whole(step: Doorstep) -> None:
    """The route has to be transparent: any protocol, any size, both ways."""
    await serve_http(step)
    body = os.urandom(2**20) * 20
    answer = await exchange(
        step.ports[1],
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body,
    )
    assert answer.endswith(b"\r\n\r\n" + body[::-1])


async def test_closed_doors_cut_http_connections(step: Doorstep) -> None:
    """A page served by a former primary may be wrong."""
    await serve_http(step)
    reader, writer = await asyncio.open_connection("127.0.0.1", step.ports[1])
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await step.serve(1, serving=False)
    async with asyncio.timeout(5):
        with suppress(ConnectionResetError):
            await reader.read()
    writer.close()


async def test_the_workload_runs_in_the_workspace_and_is_started_again(step: Doorstep) -> None:
    """A crash at night must not end the work."""
    await step.open(command="echo $DUMONT_ROLE $PWD; test -e again && exit 0; touch again; exit 9")
    await step.until(lambda: step.report.workload == "done")
    said = (step.run.path / "workload.log").read_text()
    assert said == f"gpu {step.workspace}\n" * 2
    assert "restarting (exit 9)" in {report.workload for report in step.reports}


async def test_another_command_or_epoch_restarts_the_workload(step: Doorstep) -> None:
    """The workload of an older epoch works on files that may have changed under it."""
    await step.open(1, command="echo $$ >> pids; exec sleep 600")
    await until(lambda: len(pids_in(step)) == 1)
    await step.open(1, command="echo $$ >> pids; exec sleep 601")
    await until(lambda: len(pids_in(step)) == 2)
    await step.open(2, command="echo $$ >> pids; exec sleep 601")
    await until(lambda: len(pids_in(step)) == 3)
    assert [runs(pid) for pid in pids_in(step)] == [False, False, True]
    await step.serve(2, serving=False)
    await step.until(lambda: step.report.workload == "stopped")
    assert not runs(pids_in(step)[2])


def pids_in(step: Doorstep) -> list[int]:
    """The process ids that a workload wrote down, one a line."""
    path = step.workspace / "pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


async def test_saying_the_same_again_disturbs_nothing(step: Doorstep) -> None:
    """The engine repeats itself, with a new head each time."""
    await step.open(1, command="echo $$ >> pids; exec sleep 600")
    client = await step.begin("ssh", "w", "echo in; read line; echo $line")
    assert client.stdin
    assert client.stdout
    assert await client.stdout.readline() == b"in\n"
    for seq in range(20):
        await step.serve(1, command="echo $$ >> pids; exec sleep 600", head=CommitId(1, seq))
    await until(lambda: len(pids_in(step)) == 1)
    client.stdin.write(b"still in\n")
    assert await client.stdout.readline() == b"still in\n"
    assert (await probe(step))["head"] == "1.19"
    assert len(pids_in(step)) == 1
    await client.communicate()


async def test_a_lower_epoch_is_not_followed(step: Doorstep) -> None:
    """A late word of a fenced time must open no door."""
    await step.open(5)
    await step.serve(6, serving=False)
    await step.until(lambda: not step.report.serving)
    await step.serve(5)
    await asyncio.sleep(0.2)
    assert (await probe(step)) == {"epoch": 6, "serving": False, "head": None, "instance": "i-1"}


async def test_what_is_served_does_not_depend_on_the_engine(step: Doorstep) -> None:
    """An engine that crashed comes back and finds everybody where they were."""
    await step.open(1)
    await step.hang_up()
    assert (await step.ssh("echo in")).out == b"in\n"
    await step.dial()
    assert (step.report.serving, step.report.epoch) == (True, 1)


async def test_the_newest_connection_of_the_engine_counts(step: Doorstep) -> None:
    """A half-dead former one must not go on giving orders."""
    _, older = await asyncio.open_unix_connection(step.run.session_socket)
    await step.dial()
    await step.open(1)
    older.close()
    assert step.report.serving


async def test_meters_arrive_every_second(step: Doorstep) -> None:
    """Cost and idleness are judged by them."""
    await step.until(lambda: step.report.meters.cpu_percent is not None)
    meters = step.report.meters
    assert meters.memory_bytes
    assert meters.memory_bytes_max
    assert meters.memory_bytes < meters.memory_bytes_max
    assert meters.disk_free_bytes
    assert meters.gpu_percent is None
    assert meters.gpu_peak is None, "nothing is served yet"


async def test_a_peak_without_a_gpu_is_unknown_and_says_why(step: Doorstep) -> None:
    """On this computer a "GPU" is the processor: an invented figure would grade predictions wrongly."""
    await step.open(3)
    await step.until(lambda: step.report.meters.gpu_peak is not None)
    peak = step.report.meters.gpu_peak
    assert peak is not None
    assert (peak.bytes, peak.scope, peak.why, peak.every_ms) == (None, None, "no_driver", 1000)


async def test_quiescing_runs_on_switch_first_and_then_ends_everything(step: Doorstep) -> None:
    """A model is saved while the run that holds it still lives; the seal comes when nothing moves any more."""
    await step.open(command="trap 'echo saved >> order; exit 0' USR1; echo $$ > pid; while :; do sleep 0.05; done")
    pid = await number_in(step.workspace / "pid")
    took = await step.quiesce("kill -USR1 $(cat pid); sleep 0.3; echo switched >> order", grace_s=3.0)
    assert (step.workspace / "order").read_text() == "saved\nswitched\n"
    assert took < 3.0
    assert not runs(pid)
    assert (step.report.serving, step.report.workload) == (False, "stopped")


async def test_quiescing_warns_whoever_sits_at_a_terminal(step: Doorstep) -> None:
    """A connection that just breaks looks like a fault."""
    await step.open()
    client = await step.begin("ssh", "-tt", "w", "echo ready; sleep 60")
    assert client.stdout
    assert b"ready" in await client.stdout.readline()
    await step.quiesce()
    out, _ = await client.communicate()
    assert b"another machine" in out
    assert client.returncode == 255


async def test_quiescing_is_bounded_whatever_runs(step: Doorstep) -> None:
    """A workload that ignores TERM must not hold up a switchover."""
    await step.open(command="trap '' TERM HUP; echo $$ > pid; while :; do sleep 1; done")
    shell = await step.begin("ssh", "-tt", "w", "trap '' TERM HUP; echo $$ > shell; while :; do sleep 1; done")
    pids = [await number_in(step.workspace / "pid"), await number_in(step.workspace / "shell")]
    took = await step.quiesce("trap '' TERM; sleep 60", grace_s=1.0)
    assert 1.0 < took < 2.0
    assert [runs(pid) for pid in pids] == [False, False]
    await shell.communicate()


async def test_quiescing_ends_daemons_too(watched: Doorstep) -> None:
    """A program that went into the background on its own writes files like any other."""
    daemon = "setsid sh -c '(echo $$ > daemon; exec sleep 600) &' < /dev/null > /dev/null 2>&1; exit 0"
    await watched.open(command=daemon)
    await watched.until(lambda: watched.report.workload == "done")
    inner = "(setsid setsid sh -c 'echo $$ > orphan; exec sleep 600' &) < /dev/null > /dev/null 2>&1"
    assert (await watched.ssh(inner)).status == 0
    orphan = await number_in(watched.workspace / "orphan")
    assert runs(orphan)
    await watched.quiesce()
    assert not runs(orphan)
    brothers = read_pids(watched.run.pids)
    assert all(runs(pid) for pid in brothers.values())


async def test_a_quiesced_epoch_is_not_opened_again(step: Doorstep) -> None:
    """The commit that was sealed would not be the last one."""
    await step.open(1, command="sleep 600")
    await step.quiesce()
    await step.serve(1, command="sleep 600", head=CommitId(1, 9))
    await asyncio.sleep(0.2)
    assert not step.report.serving
    assert (await step.ssh("true")).status == 255
    await step.open(2, command="sleep 600")
    await step.until(lambda: step.report.workload == "running")
    assert (await step.ssh("true")).status == 0


async def test_quiescing_twice_is_answered_twice(step: Doorstep) -> None:
    """The engine may have lost the first answer with its connection."""
    await step.open(1)
    await step.quiesce("echo once >> switches")
    await step.dial()
    await step.quiesce("echo once >> switches")
    assert (step.workspace / "switches").read_text() == "once\n"


async def test_a_crashed_session_comes_back_and_clears_up(watched: Doorstep) -> None:
    """Two copies of a workload, one of them unsupervised, would write the same files."""
    await watched.open(1, command="trap '' HUP PIPE; echo $$ >> pids; while :; do sleep 0.1; done")
    await until(lambda: len(pids_in(watched)) == 1)
    os.kill(read_pids(watched.run.pids)["session"], signal.SIGKILL)
    await watched.dial()
    await watched.open(1, command="trap '' HUP PIPE; echo $$ >> pids; while :; do sleep 0.1; done")
    await until(lambda: len(pids_in(watched)) == 2)
    assert [runs(pid) for pid in pids_in(watched)] == [False, True]


async def test_a_session_that_is_ended_leaves_nothing_behind(step: Doorstep) -> None:
    """Nobody would watch over it."""
    await step.open(command="echo $$ > pid; exec sleep 600")
    pid = await number_in(step.workspace / "pid")
    await step.stop()
    assert step.process.returncode == 0
    assert not runs(pid)
