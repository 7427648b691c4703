"""The HTTP door of a workspace: answers probes itself, and splices everything else to the user's own server."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dumont import i18n
from dumont.i18n import _

CONNECTIONS_MAX = 1024
PROBE_LINE = b"DUMONT PROBE 1"
PROBE_REQUEST = b"GET /.dumont/probe "

_HEAD_BYTES_MAX = 16 * 2**10
_LINE_BYTES_MAX = 1024
_CHUNK_BYTES = 64 * 2**10
_FIRST_BYTES_S_MAX = 30.0
_HEAD_S_MAX = 5.0
_LINGER_S_MAX = 1.0

log = logging.getLogger("dumont.web")

Answer = Callable[[], dict[str, Any]]
"""What a probe is told: epoch, serving, head, instance."""


class WebDoor:
    """Serves the workspace's HTTP port; `app_port` is where the user's server listens on 127.0.0.1.

    While closed, only probes are answered; other connections are closed at once.
    """

    def __init__(self, app_port: int, answer: Answer) -> None:
        self._app_port = app_port
        self._answer = answer
        self._open = False
        self._connections: set[asyncio.Task[None]] = set()
        self._spliced: set[asyncio.Task[None]] = set()

    @property
    def clients(self) -> int:
        """How many connections the user's server has through here."""
        return len(self._spliced)

    def open(self) -> None:
        """Let connections through from now on."""
        self._open = True

    def admit_nobody(self) -> None:
        """Let nothing new through."""
        self._open = False

    def close(self) -> None:
        """Let nothing through, and cut what is through. Probes go on."""
        self._open = False
        for task in self._spliced:
            task.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection to its end."""
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            if len(self._connections) <= CONNECTIONS_MAX:
                await self._sort_out(reader, writer, task)
        except (OSError, asyncio.CancelledError) as error:
            log.debug("a connection was cut: %s", error)
        finally:
            self._connections.discard(task)
            self._spliced.discard(task)
            writer.transport.abort()

    async def _sort_out(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> None:
        first = await _first_bytes(reader)
        if first.startswith(PROBE_LINE):
            await self._probe(first, reader, writer)
        elif first.startswith(PROBE_REQUEST):
            await _read_head(first, reader)
            await _reply(reader, writer, "200 OK", json.dumps(self._answer()), "application/json")
        elif first and self._open:
            self._spliced.add(task)
            await self._pass_on(first, reader, writer)

    async def _probe(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One line of JSON for each line, the first included."""
        rest = first
        while True:
            *lines, rest = rest.split(b"\n")
            for _line in lines:
                writer.write(json.dumps(self._answer()).encode() + b"\n")
            await writer.drain()
            more = await reader.read(_LINE_BYTES_MAX)
            rest += more
            if not more or len(rest) > 2 * _LINE_BYTES_MAX:
                return

    async def _pass_on(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_app, to_app = await asyncio.open_connection("127.0.0.1", self._app_port)
        except OSError:
            await _say_nobody_listens(first, reader, writer)
            return
        to_app.write(first)
        pumps = [
            asyncio.create_task(_pump(reader, to_app)),
            asyncio.create_task(_pump(from_app, writer)),
        ]
        try:
            await asyncio.gather(*pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            to_app.transport.abort()


async def _first_bytes(reader: asyncio.StreamReader) -> bytes:
    """As much as is needed to tell a probe from anything else; b"" from somebody who says nothing."""
    first = b""
    try:
        async with asyncio.timeout(_FIRST_BYTES_S_MAX):
            while any(probe.startswith(first) and first != probe for probe in (PROBE_LINE, PROBE_REQUEST)):
                more = await reader.read(_CHUNK_BYTES)
                if not more:
                    break
                first += more
    except TimeoutError:
        return b""
    return first


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy until the end, no faster than the target takes it, and pass the end on."""
    while data := await source.read(_CHUNK_BYTES):
        target.write(data)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()


async def _read_head(first: bytes, reader: asyncio.StreamReader) -> bytes:
    """The head of an HTTP request, or what came of it in time."""
    head = first
    with suppress(TimeoutError):
        async with asyncio.timeout(_HEAD_S_MAX):
            while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) < _HEAD_BYTES_MAX:
                more = await reader.read(_CHUNK_BYTES)
                if not more:
                    break
                head += more
    return head


async def _say_nobody_listens(first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await _read_head(first, reader)
    wish = ""
    for line in head.split(b"\n"):
        name, _colon, value = line.partition(b":")
        if name.strip().lower() == b"accept-language":
            wish = value.decode("latin-1").strip()
    i18n.use(i18n.best(wish))  # for this connection's task only
    text = _(
        "Nothing in this workspace listens for HTTP yet.\n"
        "Start a server there on 127.0.0.1, on the port that the variable PORT names, and reload this page.\n"
    )
    await _reply(reader, writer, "503 Service Unavailable", text, "text/plain; charset=utf-8")


async def _reply(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: str, text: str, content_type: str
) -> None:
    """Send a whole HTTP/1.1 response and end the connection, without losing the end of it to a reset."""
    body = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Language: {i18n.language().replace('_', '-')}\r\nCache-Control: no-store\r\n"
        "Retry-After: 1\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    writer.write_eof()
    await writer.drain()
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S_MAX):
            while await reader.read(_CHUNK_BYTES):
                pass
