"""A proxy that misbehaves on request: plain HTTP/1.1, bytes unchanged, between a store's driver and a real server.

Requests keep their Host header, so that their signatures stay valid.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Message:
    """A request or a response: first line, headers as they came, body."""

    head: bytes
    body: bytes

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()


Forward: TypeAlias = Callable[[Message], Awaitable[Message]]
Fault: TypeAlias = Callable[[Message, Forward, asyncio.StreamWriter], Awaitable[None]]
"""Answers a request, or does not. ConnectionError ends the connection with a reset."""


@dataclass
class BadProxy:
    """Forwards requests to `upstream`, a port of the loopback interface, unless a fault is due.

    `faults` holds (method, fault) pairs; a request takes the first that names its method, and uses it up.
    """

    upstream: int
    port: int = 0
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    open: int = 0

    def fail(self, method: str, fault: Fault, times: int = 1) -> None:
        """The next `times` requests of `method` meet `fault`."""
        self.faults.extend([(method, fault)] * times)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        self.open += 1
        try:
            while (request := await _read(reader)) is not None:
                self.seen.append(request.method)
                due = next((at for at, (method, _) in enumerate(self.faults) if method == request.method), None)
                fault = self.faults.pop(due)[1] if due is not None else faithful
                await fault(request, self._forward, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self.open -= 1
            writer.close()

    async def _forward(self, request: Message) -> Message:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            writer.write(request.head + request.body)
            response = await _read(reader, bodiless=request.method == "HEAD")
            assert response is not None, "the server closed the connection without an answer"
            return response
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def between(upstream: int) -> AsyncIterator[BadProxy]:
    """A proxy in front of `upstream`, listening on a free port."""
    proxy = BadProxy(upstream)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def faithful(request: Message, forward: Forward, writer: asyncio.StreamWriter) -> None:
    """No fault."""
    response = await forward(request)
    writer.write(response.head + response.body)


def answering(status: str, code: str = "", message: str = "") -> Fault:
    """The service's own error, for example `503 Slow Down` with the code SlowDown; the request goes no further."""

    async def fault(request: Message, forward: Forward, writer: asyncio.StreamWriter) -> None:
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode() if code else b""
        sent = b"" if request.method == "HEAD" else body
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + sent)

    return fault


async def reset(request: Message, forward: Forward, writer: asyncio.StreamWriter) -> None:
    """The connection breaks before the request reaches the server."""
    raise ConnectionResetError


async def lost_response(request: Message, forward: Forward, writer: asyncio.StreamWriter) -> None:
    """The server does what it is asked, and the connection breaks before its answer arrives."""
    await forward(request)
    raise ConnectionResetError


async def cut_body(request: Message, forward: Forward, writer: asyncio.StreamWriter) -> None:
    """Half of the body, then the connection breaks."""
    response = await forward(request)
    writer.write(response.head + response.body[: len(response.body) // 2])
    await writer.drain()
    raise ConnectionResetError


async def short_body(request: Message, forward: Forward, writer: asyncio.StreamWriter) -> None:
    """A well-formed answer that holds one byte too few: a range that nobody asked for."""
    response = await forward(request)
    size = len(response.body)
    lines = [
        b"Content-Length: %d" % (size - 1) if line.lower().startswith(b"content-length:") else line
        for line in response.head.split(b"\r\n")
    ]
    writer.write(b"\r\n".join(lines) + response.body[:-1])


async def never(request: Message, forward: Forward, writer: asyncio.StreamWriter) -> None:
    """No answer, while the connection stays open."""
    await asyncio.Event().wait()


async def stuck_body(request: Message, forward: Forward, writer: asyncio.StreamWriter) -> None:
    """Half of the body, and then nothing more, while the connection stays open."""
    response = await forward(request)
    writer.write(response.head + response.body[: len(response.body) // 2])
    await asyncio.Event().wait()


async def _read(reader: asyncio.StreamReader, bodiless: bool = False) -> Message | None:
    """The next message; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    headers = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if bodiless or head.split(b" ", 2)[1] == b"204":
        return Message(head, b"")
    if b"chunked" in headers.get(b"transfer-encoding", b""):
        return Message(head, await _read_chunks(reader))
    return Message(head, await reader.readexactly(int(headers.get(b"content-length", b"0"))))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """A chunked body as it came, marks included."""
    raw = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        raw += line
        size = int(line.split(b";")[0], 16)
        raw += await reader.readexactly(size + 2)
        if size == 0:
            return bytes(raw)
