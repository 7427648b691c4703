"""The hub's listener: TLS connections become links. Who shows no certificate of ours may only join."""

import asyncio
import ssl
from collections.abc import Sequence

from dumont.control.hub import Hub
from dumont.wire.hub import FromHub, ToHub
from dumont.wire.join import JOIN_BYTES_MAX
from dumont.wire.link import READ_AHEAD_BYTES, SocketLink, notice_silence

HANDSHAKE_S_MAX = 10.0
SILENT_S_MAX = 10.0
"""Longer than a lease: by then silence has long been noticed as such."""


async def listen(hub: Hub, hosts: Sequence[str], port: int, tls: ssl.SSLContext) -> asyncio.Server:
    """Serve `hub` on `hosts`:`port`. Raises OSError when the port is taken."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link: SocketLink[FromHub, ToHub] = SocketLink(reader, writer, ToHub)
        if not link.peer:
            link.bytes_max = JOIN_BYTES_MAX
        notice_silence(link, SILENT_S_MAX)
        await hub.serve(link)

    return await asyncio.start_server(
        serve, list(hosts), port, ssl=tls, ssl_handshake_timeout=HANDSHAKE_S_MAX, limit=READ_AHEAD_BYTES
    )
