"""A link: typed messages over one TLS (or plain) TCP connection, each a length and a msgpack body."""

import asyncio
import socket
import ssl
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from dumont.errors import Corrupt, LinkClosed

MESSAGE_BYTES_MAX = 64 * 2**20
IN_FLIGHT_BYTES_MAX = 8 * 2**20
READ_AHEAD_BYTES = 2**20
"""Limit of a link's StreamReader: asyncio stops reading at twice this until somebody calls `receive`."""
_LENGTH_BYTES = 4
_ONE_WRITE_BYTES_MAX = 64 * 2**10

Sent_contra = TypeVar("Sent_contra", contravariant=True)
Received_co = TypeVar("Received_co", covariant=True)


class Link(Protocol[Sent_contra, Received_co]):
    """An ordered, authenticated two-way link. Messages arrive whole, in order, or not at all.

    `peer` is the authenticated name of the other side. `send` waits while too many bytes are in flight
    (backpressure). `send` and `receive` raise LinkClosed once either side closed it.
    """

    peer: str

    async def send(self, message: Sent_contra) -> None: ...

    async def receive(self) -> Received_co: ...

    def close(self) -> None: ...


class SocketLink(Generic[Sent_contra, Received_co]):
    """A Link over an asyncio stream.

    `bytes_max` bounds what is taken from the other side; lower it for a side that has no name yet. Cancelling `send`
    or `receive` loses no message and breaks no framing. One task may receive at a time; any number may send.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: Any, peer: str = ""
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Received_co] = msgspec.msgpack.Decoder(received)
        self._length: int | None = None  # of the message being received; kept when a receive is cancelled half-way
        self._closed = False
        writer.transport.set_write_buffer_limits(high=IN_FLIGHT_BYTES_MAX)
        self.peer = peer or peer_name(writer)
        self.bytes_max = MESSAGE_BYTES_MAX

    async def send(self, message: Sent_contra) -> None:
        """Queue `message`; waits while more than IN_FLIGHT_BYTES_MAX are on the way. Raises LinkClosed."""
        body = self._encoder.encode(message)
        assert len(body) <= MESSAGE_BYTES_MAX, f"{type(message).__name__} of {len(body)} bytes would be refused"
        if self._closed or self._writer.is_closing():
            raise LinkClosed(f"the link to {self._other_side} is closed")
        length = len(body).to_bytes(_LENGTH_BYTES, "big")
        try:
            if len(body) <= _ONE_WRITE_BYTES_MAX:  # one packet, one TLS record
                self._writer.write(length + body)
            else:
                self._writer.write(length)
                self._writer.write(body)
            await self._writer.drain()
        except OSError as error:
            raise LinkClosed(f"the link to {self._other_side} broke: {error}") from error

    async def receive(self) -> Received_co:
        """The next message. Raises LinkClosed, or Corrupt when it can't be read.

        After a Corrupt body the next message can be received; after a Corrupt length the link is closed.
        """
        body = await self._receive_body()
        try:
            return self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Corrupt(f"a message can't be read: {error}. Do both sides run the same version?") from error

    def close(self) -> None:
        """Close at once; whatever is still in flight is dropped."""
        self._closed = True
        self._writer.transport.abort()

    async def _receive_body(self) -> bytes:
        if self._closed:
            raise LinkClosed(f"the link to {self._other_side} is closed")
        try:
            if self._length is None:
                self._length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            if self._length > self.bytes_max:
                self.close()
                raise Corrupt(f"a message of {self._length} bytes exceeds {self.bytes_max}: not our protocol?")
            body = await self._reader.readexactly(self._length)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise LinkClosed(f"{self._other_side} went away") from error
        if self._closed:  # while this waited; what is still buffered then is not believed
            raise LinkClosed(f"the link to {self._other_side} is closed")
        self._length = None
        return body

    @property
    def connection(self) -> socket.socket:
        """The TCP socket underneath, for options of the kernel."""
        found: socket.socket = self._writer.get_extra_info("socket")
        return found

    @property
    def _other_side(self) -> str:
        return self.peer or "the other side"


def peer_name(writer: asyncio.StreamWriter) -> str:
    """The common name of the other side's certificate; "" without one."""
    tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
    certificate: dict[str, Any] = (tls.getpeercert() if tls else None) or {}
    names = {key: value for field in certificate.get("subject", ()) for key, value in field}
    return str(names.get("commonName", ""))


async def dial(
    host: str, port: int, received: Any, *, tls: ssl.SSLContext | None, timeout_s: float = 5.0
) -> SocketLink[Any, Any]:
    """Open a link to `host:port`. Raises LinkClosed when nobody answers within `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=tls, server_hostname="" if tls else None, limit=READ_AHEAD_BYTES
            )
    except (OSError, TimeoutError) as error:
        raise LinkClosed(f"nobody answers at {host}:{port}: {str(error) or 'timed out'}") from error
    return SocketLink(reader, writer, received)


def notice_silence(link: SocketLink[Any, Any], seconds: float) -> None:
    """Have the kernel close `link` once the other machine's kernel has acknowledged nothing for `seconds`.

    For links whose silence nobody else watches: a machine that vanished sends no FIN. A frozen process goes unnoticed,
    since its kernel still answers.
    """
    connection = link.connection
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(seconds / 3)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(seconds / 3)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))
