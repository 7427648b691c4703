"""The notice of a machine that is being taken back: the agent's side before the emulated metadata server."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random

import httpx
import pytest

from dumont.agent.notice import Answer, Notice, ask, metadata_address, watch_notice
from dumont.clock import SystemClock
from dumont.emulate.gce.server import emulate_gce
from dumont.emulate.gce.world import Setting
from dumont.emulate.local import LocalGround
from dumont.provider.bootstrap import SHUTDOWN
from dumont.provider.jail import Mode
from tests.clocks import HandClock
from tests.emulators.gce_world import FastClock, Google, google, rent

PATIENCE_S = 20.0
Handler = Callable[[bytes], Awaitable[bytes]]


@pytest.fixture
async def stand() -> AsyncIterator[Google]:
    """Metadata servers are real; the clock runs fast."""
    async with google(FastClock(100.0), Setting()) as stand:
        await rent(stand.driver(), "cpu-1")
        yield stand


def address(stand: Google) -> tuple[str, int]:
    (host,) = stand.emulator.metadata.values()
    return metadata_address({"GCE_METADATA_HOST": host})


async def test_the_address_is_googles_unless_the_environment_says_otherwise() -> None:
    """The same variable that Google's own libraries take."""
    assert metadata_address({}) == ("metadata.google.internal", 80)
    assert metadata_address({"GCE_METADATA_HOST": "127.0.0.1:4711"}) == ("127.0.0.1", 4711)


async def test_a_preemption_is_heard_at_once(stand: Google) -> None:
    """The question hangs until the value changes: 30 s are too short to ask now and then."""
    heard: list[Notice] = []

    async def tell(notice: Notice) -> None:
        heard.append(notice)

    watching = asyncio.create_task(watch_notice(address(stand), tell, SystemClock(), Random(1)))
    await _until_waiting(stand)
    assert heard == []
    began = SystemClock().monotonic()
    stand.emulator.lives.preempt(stand.the_vm())
    assert await asyncio.wait_for(watching, PATIENCE_S) is True
    assert len(heard) == 1
    assert heard[0].heard_at >= began
    assert stand.the_vm().status in ("RUNNING", "STOPPING")


async def _until_waiting(stand: Google) -> None:
    """Until the watcher's second question hangs: then somebody waits for the machine's change."""
    vm = stand.the_vm()
    while not vm.changed._waiters:
        await asyncio.sleep(0)


async def test_a_preemption_of_the_past_is_heard_too(stand: Google) -> None:
    """An agent that was restarted within the 30 s."""
    where = address(stand)
    stand.the_vm().preempted = True
    heard: list[Notice] = []

    async def tell(notice: Notice) -> None:
        heard.append(notice)

    assert await watch_notice(where, tell, SystemClock(), Random(1))
    assert len(heard) == 1


async def test_a_stop_by_hand_gives_no_notice(stand: Google) -> None:
    """The value stays FALSE."""
    where = address(stand)
    assert (await ask(where, "")).value == "FALSE"
    stand.emulator.lives.stop(stand.the_vm(), "")
    assert not stand.the_vm().preempted


async def test_the_metadata_server_answers_as_googles_does(stand: Google) -> None:
    """Without the header nothing; with it the machine's own facts, and 404 for what there is not."""
    (host,) = stand.emulator.metadata.values()
    vm = stand.the_vm()
    google_only = {"Metadata-Flavor": "Google"}
    async with httpx.AsyncClient(base_url=f"http://{host}/computeMetadata/v1/") as http:
        assert (await http.get("instance/name")).status_code == 403
        assert (await http.get("instance/name", headers=google_only)).text == vm.name
        assert (await http.get("instance/id", headers=google_only)).text == vm.id
        assert (await http.get("instance/attributes/dumont-label", headers=google_only)).text == "cpu-1"
        assert (await http.get("instance/attributes/none", headers=google_only)).status_code == 404
        assert (await http.get("instance/service-accounts/default/token", headers=google_only)).status_code == 404
        external = "instance/network-interfaces/0/access-configs/0/external-ip"
        assert (await http.get(external, headers=google_only)).text == "127.0.0.1"
        slow = {"wait_for_change": "true", "timeout_sec": "50"}
        unchanged = await http.get("instance/preempted", headers=google_only, params=slow)
        assert (unchanged.text, unchanged.status_code) == ("FALSE", 200)


# --- servers that are not what they should be


@contextlib.asynccontextmanager
async def serving(answer: Handler) -> AsyncIterator[tuple[str, int]]:
    """A server that answers each connection's request with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(await answer(request))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield "127.0.0.1", server.sockets[0].getsockname()[1]


async def nobody(notice: Notice) -> None:
    raise AssertionError("told of a preemption that was none")


async def test_where_no_metadata_server_is_the_watch_ends() -> None:
    """On any other cloud: after some tries, in virtual time."""
    async with serving(_silence) as (host, port):
        pass  # its port is closed now
    clock = HandClock()
    assert await watch_notice((host, port), nobody, clock, Random(1)) is False
    assert clock.seconds > 5


async def _silence(request: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 500 Oops\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nTRUE", b"\x00\xff\r\n\r\n",
     b"HTTP/1.1 200 OK\r\n\r\n<html>TRUE</html>"],
)  # fmt: skip
async def test_what_is_no_answer_is_no_preemption(answer: bytes) -> None:
    """Warning a user for nothing costs a switchover. A server that recovers is heard again."""
    asked = 0

    async def strange_at_first(request: bytes) -> bytes:
        nonlocal asked
        asked += 1
        if asked < 5:
            return answer
        return b"HTTP/1.0 200 OK\r\nETag: x\r\n\r\nTRUE"

    told: list[Notice] = []

    async def tell(notice: Notice) -> None:
        assert asked == 5
        told.append(notice)

    async with serving(strange_at_first) as where:
        assert await watch_notice(where, tell, HandClock(), Random(1)) is True
    assert len(told) == 1


async def test_a_server_without_that_value_is_not_googles() -> None:
    """404 at the very first question."""

    async def unknown(request: bytes) -> bytes:
        return b"HTTP/1.0 404 Not Found\r\n\r\n"

    async with serving(unknown) as where:
        assert await watch_notice(where, nobody, HandClock(), Random(1)) is False


async def test_the_second_question_waits_for_a_change() -> None:
    """With the ETag of the first, so that no change between the two is missed."""
    requests: list[bytes] = []

    async def answer(request: bytes) -> bytes:
        requests.append(request)
        value = b"FALSE" if len(requests) == 1 else b"TRUE"
        return b"HTTP/1.0 200 OK\r\nETag: abc\r\n\r\n" + value

    async def tell(notice: Notice) -> None:
        return None

    async with serving(answer) as where:
        assert await watch_notice(where, tell, HandClock(), Random(1))
        assert await ask(where, "") == Answer(200, "TRUE", "abc")
    assert b"wait_for_change" not in requests[0]
    assert b"wait_for_change=true&last_etag=abc&timeout_sec=60" in requests[1]
    assert all(b"Metadata-Flavor: Google\r\n" in request for request in requests)


# --- on a real ground


SCRIPT = """
exec 3<>/dev/tcp/${GCE_METADATA_HOST%:*}/${GCE_METADATA_HOST#*:}
printf 'GET /computeMetadata/v1/instance/attributes/word HTTP/1.0\\r\\nMetadata-Flavor: Google\\r\\n\\r\\n' >&3
word=$(tail -n 1 <&3)
(trap 'echo "$word: taken back" >>"$DUMONT_BASE/said"; exit' TERM; echo "$word" >>"$DUMONT_BASE/said"
 while :; do sleep 0.05; done) &
"""


async def test_a_shutdown_script_runs_while_everything_on_the_machine_still_does(short_dir: Path) -> None:
    """What Google promises of it is what a workspace needs to move away: the machine goes on as long as it runs."""
    ground = await LocalGround.open(short_dir, Mode.PLAIN)
    setting = Setting(provisioning_s=0.05, staging_s=0.05, soft_off_s=20.0, stopping_s=0.1)
    async with emulate_gce(0, ground, seed=1, setting=setting) as emulator:
        asked = 'echo "asked by $GCE_METADATA_HOST" >>"$DUMONT_BASE/said"'
        items = {"startup-script": SCRIPT, "word": "hello", "shutdown-script": asked}
        body = {
            "name": "vm-1",
            "machineType": "zones/us-central1-a/machineTypes/e2-small",
            "scheduling": {"provisioningModel": "SPOT"},
            "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": IMAGE}}],
            "metadata": {"items": [{"key": key, "value": value} for key, value in items.items()]},
        }
        async with httpx.AsyncClient(base_url=emulator.endpoint) as http:
            await http.post("/compute/v1/projects/acme/zones/us-central1-a/instances", json=body)
            said = short_dir / "instances/vm-1/root/said"
            await _until(lambda: said.exists() and said.read_text() == "hello\n")
            (metadata,) = emulator.metadata.values()
            await http.post("/_emulator/preempt", json={"zone": "us-central1-a", "name": "vm-1"})
            await _until(lambda: emulator.world.vms["us-central1-a", "vm-1"].status == "TERMINATED")
            assert said.read_text() == f"hello\nasked by {metadata}\nhello: taken back\n"


async def _shut_down(where: tuple[str, int], run: Path) -> asyncio.subprocess.Process:
    around = {"PATH": os.environ["PATH"], "DUMONT_RUN": str(run), "GCE_METADATA_HOST": f"{where[0]}:{where[1]}"}
    return await asyncio.create_subprocess_exec("bash", "-c", SHUTDOWN, env=around)


async def test_what_is_shut_down_by_hand_does_not_wait(tmp_path: Path) -> None:
    """A release must not take longer for it."""

    async def answer(request: bytes) -> bytes:
        return b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nFALSE"

    async with serving(answer) as where:
        process = await _shut_down(where, tmp_path)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0


async def test_what_is_taken_back_stays_up_until_its_workspace_has_moved(tmp_path: Path) -> None:
    """The watchdog writes down that a higher epoch exists: then nothing is left to wait for."""
    asked = asyncio.Event()

    async def answer(request: bytes) -> bytes:
        asked.set()
        return b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nTRUE"

    async with serving(answer) as where:
        process = await _shut_down(where, tmp_path)
        await asyncio.wait_for(asked.wait(), PATIENCE_S)
        assert process.returncode is None
        async with asyncio.timeout(PATIENCE_S):
            for epoch in itertools.count(2):  # whatever it read first, it sees another one
                (tmp_path / "ended").write_text(str(epoch))
                with contextlib.suppress(TimeoutError):
                    assert await asyncio.wait_for(process.wait(), 0.5) == 0
                    break


async def test_a_machine_is_real_processes_with_a_metadata_server_of_its_own(short_dir: Path) -> None:
    """Its startup script asks what it is; when it is taken back, its processes get SIGTERM, and its disk stays."""
    ground = await LocalGround.open(short_dir, Mode.PLAIN)
    setting = Setting(provisioning_s=0.05, staging_s=0.05, soft_off_s=5.0, stopping_s=0.1)
    async with emulate_gce(0, ground, seed=1, setting=setting) as emulator:
        body = {
            "name": "vm-1",
            "machineType": "zones/us-central1-a/machineTypes/e2-small",
            "scheduling": {"provisioningModel": "SPOT"},
            "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": IMAGE}}],
            "metadata": {"items": [{"key": "startup-script", "value": SCRIPT}, {"key": "word", "value": "hello"}]},
        }
        async with httpx.AsyncClient(base_url=emulator.endpoint) as http:
            made = await http.post("/compute/v1/projects/acme/zones/us-central1-a/instances", json=body)
            assert made.status_code == 200
            said = next(iter((short_dir / "instances").glob("*/root")), short_dir / "instances/vm-1/root") / "said"
            await _until(lambda: said.exists() and said.read_text() == "hello\n")
            await http.post("/_emulator/preempt", json={"zone": "us-central1-a", "name": "vm-1"})
            await _until(lambda: emulator.world.vms["us-central1-a", "vm-1"].status == "TERMINATED")
            assert said.read_text() == "hello\nhello: taken back\n"
            assert not ground.is_running("vm-1")


IMAGE = "projects/debian-cloud/global/images/family/debian-12"


async def _until(true: Callable[[], bool]) -> None:
    clock = SystemClock()
    began = clock.monotonic()
    while not true():
        assert clock.monotonic() - began < PATIENCE_S
        await clock.sleep(0.02)
