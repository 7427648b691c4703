"""The gateway on loopback: real sockets, a hub and primaries that a test plays."""

import asyncio
import contextlib
import hashlib
import os
import resource
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dumont.errors import Corrupt, LinkClosed
from dumont.gateway import address as address_module
from dumont.gateway import splice as splice_module
from dumont.gateway.routes import load
from dumont.wire.control import Endpoints
from dumont.wire.route import GatewayHello, Route
from tests.integration.gateway_world import Primary, World, eventually, is_cut, line, running_world

FOLLOWED_S_MAX = 0.5  # the promise is 0.1 s; a loaded machine gets some slack, and the figure is printed


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(tmp_path) as world:
        yield world


# --- following


async def test_a_client_reaches_the_primary_whoever_speaks_first(world: World) -> None:
    """SSH servers greet, HTTP clients ask; the gateway understands neither."""
    a = await world.primary("a", 1)
    world.hub.tell(world.route(a, 1))
    reader, writer = await world.connect()
    assert await line(reader) == "I am a"
    writer.write(b"hello\n")
    assert await line(reader) == "a:hello"
    writer.close()


async def test_the_address_follows_the_primary_and_cuts_clients_of_the_lower_epoch(world: World) -> None:
    """Promised: under 100 ms. Whoever still talks to the old primary must not take it for the new one."""
    a, b = await world.primary("a", 1), await world.primary("b", 2)
    world.hub.tell(world.route(a, 1))
    readers = [(await world.connect())[0] for _ in range(20)]
    assert [await line(reader) for reader in readers] == ["I am a"] * 20
    began = time.monotonic()
    world.hub.tell(world.route(b, 2))
    assert all(await asyncio.gather(*(is_cut(reader) for reader in readers)))
    cut_s = time.monotonic() - began
    reader, _ = await world.connect()
    assert await line(reader) == "I am b"
    followed_s = time.monotonic() - began
    print(f"20 clients cut after {cut_s * 1000:.1f} ms, first byte of the new primary after {followed_s * 1000:.1f} ms")
    assert followed_s < FOLLOWED_S_MAX


async def test_a_cut_reaches_the_primary_s_side_too(world: World) -> None:
    """A fenced primary that is still alive must lose its clients, or it would work for nobody."""
    a, b = await world.primary("a", 1), await world.primary("b", 2)
    ended = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"I am a\n")
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        ended.set()

    a.on_ssh = hold
    world.hub.tell(world.route(a, 1))
    reader, _ = await world.connect()
    assert await line(reader) == "I am a"
    world.hub.tell(world.route(b, 2))
    async with asyncio.timeout(FOLLOWED_S_MAX):
        await ended.wait()


async def test_a_stale_route_is_ignored(world: World) -> None:
    """Fencing at the gateway: a server that slept through a promotion cannot lead anybody back."""
    a, b = await world.primary("a", 1), await world.primary("b", 2)
    world.hub.tell(world.route(b, 2))
    reader, writer = await world.connect()
    assert await line(reader) == "I am b"
    world.hub.tell(world.route(a, 1))
    world.hub.tell(world.route(a, 2))
    await eventually(world.hub.incoming.empty)
    other, _ = await world.connect()
    assert await line(other) == "I am b"
    writer.write(b"still\n")
    assert await line(reader) == "b:still"


async def test_routes_repeated_cut_nobody(world: World) -> None:
    """The server says everything again whenever anything changed."""
    a = await world.primary("a", 1)
    world.hub.tell(world.route(a, 1))
    reader, writer = await world.connect()
    assert await line(reader) == "I am a"
    for _ in range(5):
        world.hub.tell(world.route(a, 1))
    await eventually(world.hub.incoming.empty)
    writer.write(b"still\n")
    assert await line(reader) == "a:still"


async def test_a_removed_workspace_closes_its_doors(world: World) -> None:
    """Its port belongs to nobody then."""
    a = await world.primary("a", 1)
    world.hub.tell(world.route(a, 1))
    reader, _ = await world.connect()
    assert await line(reader) == "I am a"
    world.hub.tell()
    assert await is_cut(reader)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", world.ssh_port)


# --- waiting


async def test_clients_wait_for_a_primary_and_are_then_served_with_all_they_said(world: World) -> None:
    """A connection in the middle of a failover is slow, not refused."""
    world.hub.tell(world.route(None, 1))
    clients = [await world.connect() for _ in range(50)]
    for number, (_, writer) in enumerate(clients):
        writer.write(f"client {number}\n".encode())
    await asyncio.sleep(0.1)
    b = await world.primary("b", 2)
    began = time.monotonic()
    world.hub.tell(world.route(b, 2))
    for number, (reader, _) in enumerate(clients):
        assert await line(reader) == "I am b"
        assert await line(reader) == f"b:client {number}"
    print(f"50 waiting clients served after {(time.monotonic() - began) * 1000:.1f} ms")
    assert time.monotonic() - began < 2


async def test_clients_that_came_while_the_primary_was_dying_reach_the_next_one(world: World) -> None:
    """Refused, or accepted and closed, or accepted and silent: none of it is the client's business."""
    a = await world.primary("a", 1)
    world.hub.tell(world.route(a, 1))
    reader, _ = await world.connect()
    assert await line(reader) == "I am a"
    silent = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.set()
        await asyncio.sleep(0)
        await reader.readline()
        await reader.readline()

    a.on_ssh = say_nothing
    early = await world.connect()
    early[1].write(b"early\n")
    await silent.wait()
    a.die()
    late = await world.connect()
    late[1].write(b"late\n")
    await asyncio.sleep(0.1)
    b = await world.primary("b", 2)
    world.hub.tell(world.route(b, 2))
    for (reader, _), word in ((early, "early"), (late, "late")):
        assert await line(reader) == "I am b"
        assert await line(reader) == f"b:{word}"


async def test_clients_of_a_primary_that_is_cut_off_reach_the_next_one(world: World) -> None:
    """Packets are dropped: nothing is refused, a connection simply never comes about."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        held = [socket.socket() for _ in range(4)]  # they fill its queue; the kernel drops whatever comes then
        for one in held:
            one.setblocking(False)
            one.connect_ex(deaf.getsockname())
        cut_off = Endpoints("127.0.0.1", deaf.getsockname()[1])
        world.hub.tell(Route("w", 1, world.ssh_port, world.http_port, "a", cut_off))
        clients = [await world.connect() for _ in range(60)]
        await asyncio.sleep(0.2)
        b = await world.primary("b", 2)
        began = time.monotonic()
        world.hub.tell(world.route(b, 2))
        assert [await line(reader) for reader, _ in clients] == ["I am b"] * 60
        assert time.monotonic() - began < FOLLOWED_S_MAX
        for one in held:
            one.close()


async def test_a_former_primary_can_t_win_a_waiting_client_with_its_last_word(world: World) -> None:
    """Its greeting may already lie in our socket when the route changes; it would never be cut afterwards."""
    a, b = await world.primary("a", 1), await world.primary("b", 2)
    greet = asyncio.Event()

    async def hesitate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet.wait()
        writer.write(b"I am a\n")
        await reader.read()

    a.on_ssh = hesitate
    world.hub.tell(world.route(a, 1))
    reader, _ = await world.connect()
    await eventually(lambda: a.accepted == 1)
    greet.set()
    await asyncio.sleep(0)  # it is written in the next step of the loop,
    await asyncio.sleep(0)  # and read by the gateway right after ours in the one that follows
    world.gateway.addresses["w"].follow(world.route(b, 2))
    assert await line(reader) == "I am b"


async def test_doors_that_close_at_once_are_tried_again_until_they_stay_open(world: World) -> None:
    """A standby's session runs before it is promoted, with closed doors."""
    a = await world.primary("a", 1)

    async def shut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    a.on_ssh = shut
    world.hub.tell(world.route(a, 1))
    reader, writer = await world.connect()
    writer.write(b"knock\n")
    await eventually(lambda: a.accepted > 3)
    a.on_ssh = a.greet
    assert await line(reader) == "I am a"
    assert await line(reader) == "a:knock"


async def test_what_was_answered_is_never_replayed(world: World) -> None:
    """Once a primary's word reached the client, another primary can't take over in the middle of a conversation."""
    a = await world.primary("a", 1)
    world.hub.tell(world.route(a, 1))
    reader, writer = await world.connect()
    writer.write(b"once\n")
    assert await line(reader) == "I am a"
    assert await line(reader) == "a:once"
    b = await world.primary("b", 1)
    accepted = b.accepted
    a.die()
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    assert b.accepted == accepted
    assert a.accepted == 1


async def test_an_http_request_is_given_away_a_few_times_only(world: World) -> None:
    """A primary that dies of a request may have carried it out; repeated for 30 s it would be 1,500 orders."""
    a = await world.primary("a", 1)
    a.on_request = a.break_down
    world.hub.tell(world.route(a, 1))
    reader, writer = await world.connect(world.http_port)
    writer.write(b"POST / HTTP/1.1\r\n")
    assert await is_cut(reader, seconds=5)
    assert a.requests == [b"POST / HTTP/1.1\r\n"] * splice_module.HTTP.deliveries_max


async def test_an_http_request_waits_for_doors_that_the_probe_knows_to_be_closed(world: World) -> None:
    """They read what a client says before they close, so that trying would use the few times up."""
    a = await world.primary("a", 1)
    a.serving = False
    world.hub.tell(world.route(a, 1))
    clients = [await world.connect(world.http_port) for _ in range(20)]
    for _, writer in clients:
        writer.write(b"POST / HTTP/1.1\r\n")
    await asyncio.sleep(0.6)
    a.serving = True
    began = time.monotonic()
    for reader, _ in clients:
        assert await reader.read() == b"HTTP/1.1 200 OK\r\n\r\na"
    print(f"20 HTTP clients answered {(time.monotonic() - began) * 1000:.1f} ms after the doors opened")
    assert a.requests == [b"POST / HTTP/1.1\r\n"] * 20


async def test_too_many_waiting_clients_are_turned_away(world: World) -> None:
    """Bounds on everything: a flood must not eat the gateway."""
    world.hub.tell(world.route(None, 1))
    clients = [await world.connect() for _ in range(address_module.WAITING_MAX)]
    address = world.gateway.addresses["w"]
    await eventually(lambda: len(address.waiting) == address_module.WAITING_MAX)
    reader, _ = await world.connect()
    assert await is_cut(reader)
    b = await world.primary("b", 2)
    began = time.monotonic()
    world.hub.tell(world.route(b, 2))
    await eventually(lambda: not address.waiting, seconds=20)
    print(f"{len(clients)} waiting clients served after {time.monotonic() - began:.2f} s")
    for _, writer in clients:
        writer.transport.abort()
    await eventually(lambda: address.clients == 0)


async def test_a_waiting_client_s_words_are_held_within_bounds(world: World) -> None:
    """Backpressure reaches it instead; afterwards all of it arrives."""
    world.hub.tell(world.route(None, 1))
    reader, writer = await world.connect()
    data = os.urandom(8 * 2**20)
    writer.write(data)
    writer.write_eof()
    await asyncio.sleep(0.2)
    (splice,) = world.gateway.addresses["w"].waiting
    assert len(splice._held) <= splice_module.HELD_BYTES_MAX
    b = await world.primary("b", 2)

    async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(hashlib.sha256(await reader.read()).hexdigest().encode() + b"\n")

    b.on_ssh = digest
    world.hub.tell(world.route(b, 2))
    assert await line(reader) == hashlib.sha256(data).hexdigest()


async def test_a_thousand_waiting_clients_do_not_keep_the_gateway_busy(world: World) -> None:
    """Each trying every 20 ms would be 50,000 connections a second, and the gateway would follow nobody any more."""
    a = Primary("a", 1)  # never opened: refused
    world.hub.tell(world.route(a, 1))
    clients = [await world.connect() for _ in range(300)]
    busy = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(1)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used_s = after.ru_utime + after.ru_stime - busy.ru_utime - busy.ru_stime
    print(f"300 waiting clients of a refusing primary: {used_s * 100:.0f} % of a core")
    world.primaries.append(await a.open())
    for reader, _ in clients:
        assert await line(reader) == "I am a"
    assert used_s < 0.9


# --- without a server, and with a wrong one


async def test_a_restart_without_any_server_routes_from_the_file(world: World) -> None:
    """The data path never depends on the server."""
    a = await world.primary("a", 4)
    world.hub.tell(world.route(a, 4))
    await eventually(world.routes_file.exists)
    world.hub.away = True
    await world.stop()
    await world.start()
    reader, _ = await world.connect()
    assert await line(reader) == "I am a"
    await eventually(lambda: world.hub.dials >= 3)
    world.hub.away = False
    b = await world.primary("b", 3)
    world.hub.tell(world.route(b, 3))  # stale, and fenced by an epoch that was read from the file
    await eventually(world.hub.incoming.empty)
    reader, _ = await world.connect()
    assert await line(reader) == "I am a"


async def test_what_is_saved_is_what_is_followed(world: World) -> None:
    """Otherwise a restart would lead back to an old primary."""
    a, b = await world.primary("a", 1), await world.primary("b", 2)
    world.hub.tell(world.route(a, 1))
    world.hub.tell(world.route(b, 2))
    await eventually(lambda: load(world.routes_file).held == {"w": world.route(b, 2)})


async def test_a_damaged_file_does_not_keep_the_gateway_from_starting(world: World) -> None:
    """The server sends all routes at connect anyway."""
    await world.stop()
    world.routes_file.write_bytes(b"{")
    await world.start()
    a = await world.primary("a", 1)
    world.hub.tell(world.route(a, 1))
    reader, _ = await world.connect()
    assert await line(reader) == "I am a"
    await eventually(lambda: load(world.routes_file).held == {"w": world.route(a, 1)})


async def test_a_disk_that_takes_nothing_stops_no_routing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said, tried again, and the routes are followed from memory."""
    world.routes_file.with_name("routes.json.new").mkdir()
    a = await world.primary("a", 1)
    world.hub.tell(world.route(a, 1))
    reader, _ = await world.connect()
    assert await line(reader) == "I am a"
    assert "can't be saved" in capsys.readouterr().out
    world.routes_file.with_name("routes.json.new").rmdir()
    await eventually(world.routes_file.exists)


async def test_a_malformed_message_is_said_in_words_and_survived(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newer server, or a broken one, must not take every address down."""
    a = await world.primary("a", 1)
    world.hub.tell(world.route(a, 1))
    reader, writer = await world.connect()
    assert await line(reader) == "I am a"
    world.hub.incoming.put_nowait(Corrupt("a message can't be read: no such kind"))
    world.hub.tell(Route("w", 2, -5, 99_999, "b", None))
    await eventually(world.hub.incoming.empty)
    writer.write(b"still\n")
    assert await line(reader) == "a:still"
    said = capsys.readouterr().out
    assert "no such kind" in said
    assert "is no TCP port" in said


async def test_a_lost_server_is_dialled_again_and_greeted(world: World) -> None:
    """With jitter, within a second."""
    await eventually(lambda: world.hub.heard[:1] == [GatewayHello(1)])
    world.hub.incoming.put_nowait(LinkClosed("the server went away"))
    await eventually(lambda: world.hub.heard.count(GatewayHello(1)) == 2, seconds=2)


async def test_a_port_that_is_taken_is_said_and_asked_for_again(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Addresses are fixed for life: another port would be another address."""
    a = await world.primary("a", 1)
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", world.ssh_port))
        squatter.listen()
        world.hub.tell(world.route(a, 1))
        await eventually(lambda: "w" in world.gateway.addresses and bool(world.gateway.addresses["w"].trouble))
        assert str(world.ssh_port) in world.gateway.addresses["w"].trouble
        assert "can't listen for SSH" in capsys.readouterr().out
    await eventually(lambda: not world.gateway.addresses["w"].trouble)
    reader, _ = await world.connect()
    assert await line(reader) == "I am a"
