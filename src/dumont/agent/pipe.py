"""Our ends of a program's pipes, or of its terminal, as streams."""

import asyncio
import os

CHUNK_BYTES = 64 * 2**10


class Reading:
    """Bytes from a descriptor, which is closed with it. A terminal that nobody holds any more reads as its end."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self._reader = reader
        self._transport = transport

    @classmethod
    async def open(cls, descriptor: int) -> "Reading":
        """Take over `descriptor`."""
        reader = asyncio.StreamReader(limit=CHUNK_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
        )
        return cls(reader, transport)

    async def chunk(self) -> bytes:
        """What there is, at most 64 KiB, waiting for the first byte; b"" at the end."""
        try:
            return await self._reader.read(CHUNK_BYTES)
        except OSError:
            return b""

    def close(self) -> None:
        self._transport.close()


async def write_to(descriptor: int) -> asyncio.StreamWriter:
    """A stream that writes to `descriptor`, and takes it over."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(descriptor, "wb", 0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)
