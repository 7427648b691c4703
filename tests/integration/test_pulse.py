"""Pulse and join against a server that a test can freeze, cut off and make lie, over real TLS links."""

import asyncio
import json
import os
import random
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dumont.agent.boot import Boot, RunDir, read_boot
from dumont.agent.join import join, keep_chunk_key, read_chunk_key, renew_for_ever, write_identity
from dumont.agent.orders import Orders
from dumont.agent.pulse import BEAT_S, Pulse, dial_hub, read_epoch
from dumont.agent.watchdog import bound
from dumont.clock import SystemClock
from dumont.errors import BadInput, LinkClosed
from dumont.wire.control import Beat, BeatReply
from dumont.wire.hub import ToHub
from dumont.wire.identity import SERVER, Authority, ClientCertificate, make_key_and_csr, server_context
from dumont.wire.join import Join, Joined, JoinRefused
from dumont.wire.link import SocketLink

CLOCK = SystemClock()
RNG = random.Random(1)
CHUNK_KEY = bytes(range(32))


@dataclass
class Server:
    """Answers as it is told."""

    authority: Authority
    context: ssl.SSLContext
    epoch: int = 3
    leads: bool = True
    silent: bool = False
    refusal: str = ""
    beats: list[Beat] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    links: list[SocketLink[Any, ToHub]] = field(default_factory=list)
    closed: int = 0
    port: int = 0
    listening: asyncio.Server | None = None

    async def open(self) -> None:
        self.listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.context)
        self.port = self.listening.sockets[0].getsockname()[1]

    def close(self) -> None:
        assert self.listening
        self.listening.close()
        for link in self.links:
            link.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link: SocketLink[Any, ToHub] = SocketLink(reader, writer, ToHub)
        self.links.append(link)
        with suppress(LinkClosed):
            while True:
                await self._answer(link, await link.receive())
        self.closed += 1

    async def _answer(self, link: SocketLink[Any, ToHub], message: ToHub) -> None:
        match message:
            case Join() if self.refusal:
                await link.send(JoinRefused(self.refusal))
            case Join():
                self.peers.append(link.peer)
                certificate = self.authority.issue_instance(message.csr, message.instance_id, "w")
                await link.send(Joined(certificate, CHUNK_KEY))
            case Beat():
                self.beats.append(message)
                if not self.silent:
                    await link.send(BeatReply(self.epoch, self.leads, message.sent_at))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    authority = Authority.create(tmp_path / "ca")
    authority.write_process(tmp_path / "server", SERVER)
    files = [tmp_path / "server" / name for name in ("server.crt", "server.key", "ca.crt")]
    server = Server(authority, server_context(files[0], files[1], files[2], ClientCertificate.OPTIONAL))
    await server.open()
    yield server
    server.close()


@pytest.fixture
def run(short_dir: Path, server: Server) -> RunDir:
    boot = {
        "instance_id": "i-1",
        "server_host": "127.0.0.1",
        "server_port": server.port,
        "ca_pem": server.authority.certificate_pem,
        "join_token": "t",
        "host": "127.0.0.1",
        "workspace_dir": str(short_dir / "workspace"),
        "data_dir": str(short_dir / "data"),
        "machine": "cpu",
    }
    (short_dir / "boot.json").write_text(json.dumps(boot))
    return RunDir(short_dir)


def identify(run: RunDir, server: Server) -> Boot:
    """Give the instance an identity without joining."""
    key, csr = make_key_and_csr()
    run.authority.write_text(server.authority.certificate_pem)
    write_identity(run, key, server.authority.issue_instance(csr, "i-1", "w"))
    return read_boot(run)


@asynccontextmanager
async def beating(run: RunDir, server: Server) -> AsyncIterator[socket.socket]:
    """A pulse that beats; what it tells the watchdog arrives at the socket."""
    boot = identify(run, server)
    listening = bound(run)
    orders = Orders(run)
    pulse = Pulse("i-1", lambda: dial_hub(run, boot), orders, lambda: read_epoch(run), CLOCK)
    task = asyncio.create_task(pulse.beat_for_ever(RNG))
    try:
        yield listening
    finally:
        task.cancel()
        await asyncio.wait({task})
        orders.close()
        listening.close()
    assert task.cancelled()


def heard(listening: socket.socket) -> list[dict[str, Any]]:
    """The orders that have arrived."""
    orders = []
    with suppress(BlockingIOError):
        while True:
            orders.append(json.loads(listening.recv(4096)))
    return orders


async def until(is_so: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_an_answer_renews_the_lease_from_when_it_was_asked(run: RunDir, server: Server) -> None:
    """Four times a second, for the engine's epoch."""
    run.epoch.write_text("3")
    async with beating(run, server) as listening:
        await until(lambda: len(server.beats) >= 5)
        orders = heard(listening)
    assert {order["say"] for order in orders} == {"renew"}
    assert {order["epoch"] for order in orders} == {3}
    assert [order["sent_at"] for order in orders] == [beat.sent_at for beat in server.beats[: len(orders)]]
    assert server.beats[0].instance_id == "i-1"
    gaps = [b.sent_at - a.sent_at for a, b in zip(server.beats, server.beats[1:], strict=False)]
    assert min(gaps) >= BEAT_S * 0.9
    assert max(beat.heard_ms_ago for beat in server.beats) < 1000


async def test_a_higher_epoch_ends_and_one_that_is_not_led_renews_nothing(run: RunDir, server: Server) -> None:
    """An instance that was fenced while cut off hears it first from its pulse."""
    run.epoch.write_text("3")
    server.leads = False
    async with beating(run, server) as listening:
        await until(lambda: len(server.beats) >= 3)
        assert heard(listening) == []
        server.epoch = 4
        await until(lambda: len(server.beats) >= 5)
        assert {(order["say"], order["epoch"]) for order in heard(listening)} == {("end", 4)}
        run.epoch.write_text("4")
        server.leads = True
        seen = len(server.beats)
        await until(lambda: len(server.beats) >= seen + 3)
        assert heard(listening)[-1]["say"] == "renew"
        server.epoch = 3
        seen = len(server.beats)
        await until(lambda: len(server.beats) >= seen + 2)
        heard(listening)
        await until(lambda: len(server.beats) >= seen + 4)
        assert heard(listening) == [], "a server that lags behind has nothing to say"


async def test_beats_go_on_without_answers_and_say_so(run: RunDir, server: Server) -> None:
    """A link that is cut one way still carries beats; they must not count as life."""
    server.silent = True
    async with beating(run, server):
        await until(lambda: bool(server.beats) and server.beats[-1].heard_ms_ago >= 700)


async def test_a_silent_link_is_kept_until_another_one_stands(run: RunDir, server: Server) -> None:
    """A server that was frozen wakes to find the link it had: a closed one would look like a dead machine."""
    async with beating(run, server):
        await until(lambda: len(server.beats) >= 2)
        assert server.listening
        server.listening.close()
        server.silent = True
        await asyncio.sleep(2.0)
        assert server.closed == 0
        assert len(server.links) == 1
        await server.open()
        await until(lambda: len(server.links) == 2 and server.closed == 1)
        server.silent = False
        await until(lambda: server.beats[-1].heard_ms_ago < 500)


async def test_a_server_that_comes_back_hears_from_us_within_a_second_or_two(run: RunDir, server: Server) -> None:
    """Its restart must not look like the death of every instance."""
    async with beating(run, server):
        await until(lambda: len(server.beats) >= 2)
        server.close()
        await asyncio.sleep(1.5)
        seen = len(server.beats)
        await server.open()
        await until(lambda: len(server.beats) > seen, 2.0)


async def test_a_server_that_hangs_up_at_once_is_not_stormed(run: RunDir, server: Server) -> None:
    """A hub that refuses us (an unknown instance, say) would otherwise be dialled as fast as the machine can."""
    run.epoch.write_text("3")
    server.silent = True
    async with beating(run, server):
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            for link in server.links:
                link.close()
            await asyncio.sleep(0.005)
    assert len(server.links) <= 8


async def test_somebody_else_with_a_certificate_of_ours_is_not_the_server(run: RunDir, server: Server) -> None:
    """Every instance has one; a host is a stranger (I7)."""
    boot = identify(run, server)
    server.close()
    impostor = Server(
        server.authority,
        server_context(run.certificate, run.key, run.authority, ClientCertificate.OPTIONAL),
        port=server.port,
    )
    await impostor.open()
    try:
        with pytest.raises(LinkClosed, match="i-1 and not the server"):
            await dial_hub(run, boot)
        run.certificate.unlink()
        joining = asyncio.create_task(join(run, boot, CLOCK, RNG))
        await until(lambda: len(impostor.links) >= 3)
        joining.cancel()
        assert impostor.peers == [], "a token was sent to a stranger"
    finally:
        impostor.close()


async def test_the_process_waits_for_an_identity_and_beats(run: RunDir, server: Server) -> None:
    """As the watchdog starts it: before the engine has joined."""
    source = Path(__file__).resolve().parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    pulse = subprocess.Popen([sys.executable, "-P", "-m", "dumont.agent.pulse", str(run.path)], env=environment)
    try:
        await asyncio.sleep(0.3)
        assert server.links == []
        identify(run, server)
        await until(lambda: len(server.beats) >= 3, 10.0)
        pulse.send_signal(signal.SIGTERM)
        await asyncio.to_thread(pulse.wait, 5.0)
    finally:
        pulse.kill()
        pulse.wait()


async def test_joining_leaves_an_identity_and_a_private_key(run: RunDir, server: Server) -> None:
    """The key is nobody else's to read; the certificate says who we are."""
    boot = read_boot(run)
    await join(run, boot, CLOCK, RNG)
    assert stat.S_IMODE(run.key.stat().st_mode) == 0o600
    assert run.authority.read_text() == boot.ca_pem
    assert server.peers == [""]
    before = run.certificate.read_text()
    await join(run, boot, CLOCK, RNG)
    assert run.certificate.read_text() == before, "an engine that is started again joins no second time"
    link = await dial_hub(run, boot)
    assert link.peer == SERVER
    link.close()


async def test_joining_leaves_the_chunk_key_which_is_never_another(run: RunDir, server: Server) -> None:
    """What is on the disk is named under it: an engine that starts again has to find the same, server or no server."""
    boot = read_boot(run)
    with pytest.raises(BadInput, match="can't be read"):
        read_chunk_key(run)
    await join(run, boot, CLOCK, RNG)
    assert read_chunk_key(run) == CHUNK_KEY
    assert stat.S_IMODE(run.chunk_key.stat().st_mode) == 0o600
    keep_chunk_key(run, bytes(32))
    assert read_chunk_key(run) == CHUNK_KEY
    server.close()
    await join(run, boot, CLOCK, RNG)
    assert read_chunk_key(run) == CHUNK_KEY


async def test_an_identity_without_a_chunk_key_asks_once_more_with_its_certificate(run: RunDir, server: Server) -> None:
    """The token is spent; the instance is the same."""
    boot = identify(run, server)
    await join(run, boot, CLOCK, RNG)
    assert server.peers == ["i-1"]
    assert read_chunk_key(run) == CHUNK_KEY


async def test_joining_goes_on_until_a_server_answers(run: RunDir, server: Server) -> None:
    """An instance may be up before its server is again."""
    server.close()
    joining = asyncio.create_task(join(run, read_boot(run), CLOCK, RNG))
    await asyncio.sleep(0.5)
    assert not joining.done()
    await server.open()
    async with asyncio.timeout(3.0):
        await joining
    assert run.certificate.exists()


async def test_a_refusal_is_told_in_words(run: RunDir, server: Server) -> None:
    """Asking again would not help: the token is spent."""
    server.refusal = "the token is wrong or was used before"
    with pytest.raises(BadInput, match=r"refuses instance i-1: the token is wrong.*A new instance"):
        await join(run, read_boot(run), CLOCK, RNG)
    assert not run.certificate.exists()


async def test_a_certificate_is_renewed_by_who_holds_it(run: RunDir, server: Server) -> None:
    """A day is over sooner than many a training run."""

    class Later(SystemClock):
        def now(self) -> Any:
            return super().now().replace(year=2099)

    boot = identify(run, server)
    before = run.certificate.read_text()
    renewed = asyncio.Event()
    renewing = asyncio.create_task(renew_for_ever(run, boot, Later(), renewed.set))
    async with asyncio.timeout(5.0):
        await renewed.wait()
    renewing.cancel()
    assert server.peers == ["i-1"]
    assert run.certificate.read_text() != before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"instance_id": ""}, "instance_id must be a text"),
        ({"server_port": 70000}, "server_port must be a port"),
        ({"server_port": None}, "server_port must be a port"),
        ({"machine": "tpu"}, "machine must be one of gpu, cpu"),
        ({"data_dir": "here"}, "data_dir must be an absolute path"),
        ({"from_the_future": 1}, ""),
    ],
)
def test_a_boot_record_that_makes_no_sense_is_told(run: RunDir, change: dict[str, Any], told: str) -> None:
    """It is the first thing that goes wrong with a new provider."""
    record = json.loads(run.boot.read_text()) | change
    run.boot.write_text(json.dumps(record))
    if not told:
        assert read_boot(run).ssh_port == 0
        return
    with pytest.raises(BadInput, match=told):
        read_boot(run)


def test_a_boot_record_may_lack_a_field_or_be_no_record(run: RunDir) -> None:
    """Each message names the file."""
    record = json.loads(run.boot.read_text())
    del record["ca_pem"]
    for text, told in (
        (json.dumps(record), "lacks 'ca_pem'"),
        ("[]", "must hold a JSON object"),
        ("{", "can't be read"),
    ):
        run.boot.write_text(text)
        with pytest.raises(BadInput, match=told):
            read_boot(run)
