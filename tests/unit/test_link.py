"""Links: messages arrive whole, in order, or not at all, whatever the other side sends."""

import asyncio
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

from dumont.errors import Corrupt, LinkClosed
from dumont.wire import link as link_module
from dumont.wire.control import Assignment, BeatReply, FromServer, Sync
from dumont.wire.link import IN_FLIGHT_BYTES_MAX, MESSAGE_BYTES_MAX, SocketLink, dial

REPLY = BeatReply(epoch=3, leads=True, sent_at=1.5)


class Pair:
    """A link and the bare socket at its other end."""

    def __init__(self, link: SocketLink[object, object], wire: socket.socket) -> None:
        self.link = link
        self.wire = wire

    async def put(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.wire, data)

    async def get(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += await asyncio.get_running_loop().sock_recv(self.wire, size - len(data))
        return data


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    near, far = socket.socketpair()
    far.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=near, limit=link_module.READ_AHEAD_BYTES)
    link: SocketLink[object, object] = SocketLink(reader, writer, FromServer, peer="i-1")
    yield Pair(link, far)
    link.close()
    far.close()


def framed(message: object) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body


async def test_messages_arrive_whole_and_in_order_however_the_bytes_are_cut(pair: Pair) -> None:
    """TCP knows no messages: two may come at once and one in pieces."""
    data = b"".join(framed(BeatReply(epoch=n, leads=False, sent_at=0.0)) for n in range(3))
    receiving = asyncio.create_task(pair.link.receive())
    for byte in data[:7]:
        await pair.put(bytes([byte]))
        await asyncio.sleep(0)
    await pair.put(data[7:])
    assert [(await receiving).epoch] + [(await pair.link.receive()).epoch for _ in "ab"] == [0, 1, 2]  # type: ignore[attr-defined]


async def test_a_receive_cancelled_between_length_and_body_breaks_no_framing(pair: Pair) -> None:
    """Callers wait with a timeout; the next receive must not take a body for a length."""
    data = framed(REPLY)
    await pair.put(data[:4])
    receiving = asyncio.create_task(pair.link.receive())
    for _ in range(10):
        await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    await pair.put(data[4:])
    assert await pair.link.receive() == REPLY


def field(name: bytes) -> bytes:
    return bytes([0xA0 + len(name)]) + name


ASSIGNMENT = b"\x82" + field(b"type") + field(b"assignment")
HOSTILE = {
    "empty": b"",
    "not an object": b"\x01",
    "unknown kind": b"\x81" + field(b"type") + field(b"x"),
    "truncated": framed(REPLY)[4:-1],
    "text that is not UTF-8": ASSIGNMENT + field(b"workspace") + b"\xa2\xff\xfe",
    "nested a million deep": ASSIGNMENT + field(b"zz") + b"\x91" * 1_000_000,
    "an array of four billion": ASSIGNMENT + field(b"ack_set") + b"\xdd\xff\xff\xff\xff",
    "text of four billion bytes": ASSIGNMENT + field(b"workspace") + b"\xdb\xff\xff\xff\xff",
    "trailing bytes": framed(REPLY)[4:] + b"x",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_can_t_be_read_is_corrupt_and_the_next_message_can_be(pair: Pair, name: str) -> None:
    """Hosts are strangers: no bytes of theirs may raise what nobody expects, and one bad message is not the end."""
    body = HOSTILE[name]
    receiving = asyncio.create_task(pair.link.receive())
    await pair.put(len(body).to_bytes(4, "big") + body + framed(REPLY))
    with pytest.raises(Corrupt, match="same version"):
        await receiving
    assert await pair.link.receive() == REPLY


@pytest.mark.parametrize("length", [MESSAGE_BYTES_MAX + 1, 2**32 - 1, int.from_bytes(b"GET ")])
async def test_a_length_beyond_the_bound_closes_the_link(pair: Pair, length: int) -> None:
    """Nothing after it can be framed, and nobody may make us buffer gigabytes."""
    await pair.put(length.to_bytes(4, "big") + b"x" * 100)
    with pytest.raises(Corrupt, match="not our protocol"):
        await pair.link.receive()
    with pytest.raises(LinkClosed):
        await pair.link.receive()
    with pytest.raises(LinkClosed):
        await pair.link.send(REPLY)


async def test_the_bound_can_be_lowered_for_a_side_without_a_name(pair: Pair) -> None:
    """Whoever opens the hub's port may send a Join of a few kilobytes, not 64 MiB."""
    pair.link.bytes_max = 100
    await pair.put((101).to_bytes(4, "big"))
    with pytest.raises(Corrupt):
        await pair.link.receive()


async def test_a_message_larger_than_the_read_ahead_arrives(pair: Pair) -> None:
    """Reading pauses at the read-ahead limit and must resume for a longer message."""
    sent = Sync(request="x" * (5 * link_module.READ_AHEAD_BYTES))
    receiving = asyncio.create_task(pair.link.receive())
    await pair.put(framed(sent))
    assert await receiving == sent


async def test_an_unread_link_holds_little_memory(pair: Pair) -> None:
    """Backpressure must reach the sender when nobody receives."""
    putting = asyncio.create_task(pair.put(b"\0" * (32 * 2**20)))
    done, _ = await asyncio.wait([putting], timeout=0.3)
    assert not done
    assert len(pair.link._reader._buffer) <= 2 * link_module.READ_AHEAD_BYTES + 2**20  # type: ignore[attr-defined]
    putting.cancel()


async def test_send_waits_while_too_much_is_in_flight(pair: Pair) -> None:
    """A slow peer must slow its sender down, not fill its memory."""
    big = Sync(request="x" * (4 * 2**20))
    sent = 0
    while sent < 10:
        sending = asyncio.create_task(pair.link.send(big))
        done, _ = await asyncio.wait([sending], timeout=0.2)
        if not done:
            break
        sent += 1
    assert sent * 4 * 2**20 <= IN_FLIGHT_BYTES_MAX + 2**20
    size = len(framed(big))
    for _ in range(sent + 1):
        assert await pair.get(size) == framed(big)
    await sending


async def test_sends_at_once_are_not_mixed_and_a_cancelled_one_stays_whole(pair: Pair) -> None:
    """Several tasks share a link; a timeout in one must not spoil the frames of the others."""
    many = [Sync(request=str(n) * (700 * 2**10)) for n in range(20)]
    sending = [asyncio.create_task(pair.link.send(message)) for message in many]
    await asyncio.sleep(0)
    sending[-1].cancel()
    for message in many:
        assert await pair.get(len(framed(message))) == framed(message)
    await asyncio.gather(*sending[:-1])


async def test_after_close_nothing_is_sent_or_received_even_if_it_is_buffered(pair: Pair) -> None:
    """Whoever closed a link has stopped believing its other side."""
    await pair.put(framed(REPLY) * 2)
    assert await pair.link.receive() == REPLY
    pair.link.close()
    pair.link.close()
    with pytest.raises(LinkClosed, match="i-1"):
        await pair.link.receive()
    with pytest.raises(LinkClosed, match="i-1"):
        await pair.link.send(REPLY)


async def test_a_close_here_wakes_a_receive_that_waits(pair: Pair) -> None:
    """Otherwise the task that serves the link would hang for ever."""
    receiving = asyncio.create_task(pair.link.receive())
    await asyncio.sleep(0)
    pair.link.close()
    with pytest.raises(LinkClosed):
        await receiving


async def test_whole_messages_are_delivered_after_the_other_side_left_and_half_ones_are_not(pair: Pair) -> None:
    """A last word counts; half of one does not."""
    await pair.put(framed(REPLY) + framed(REPLY)[:-1])
    pair.wire.close()
    assert await pair.link.receive() == REPLY
    with pytest.raises(LinkClosed, match="went away"):
        await pair.link.receive()


async def test_sending_to_somebody_who_left_raises_link_closed(pair: Pair) -> None:
    """A broken pipe is an ordinary event here, not an OSError for every caller to know."""
    pair.wire.close()
    sends = [pair.link.send(Sync(request="x" * 10_000)) for _ in range(100)]
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert isinstance(outcomes[-1], LinkClosed)


async def test_dialling_nobody_says_where_and_why() -> None:
    """The reason has to reach a person."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(LinkClosed, match=f"127.0.0.1:{port}: .*failed"):
        await dial("127.0.0.1", port, Assignment, tls=None)


async def test_dialling_somebody_who_is_full_times_out_in_words() -> None:
    """A timeout has no text of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        held = [socket.socket() for _ in range(4)]
        for one in held:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with pytest.raises(LinkClosed, match="timed out"):
            await dial("127.0.0.1", port, Assignment, tls=None, timeout_s=0.1)
        for one in held:
            one.close()
