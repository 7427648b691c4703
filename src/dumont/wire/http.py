"""An HTTP question: one GET on a connection of its own, for those who bring no HTTP client along.

Standard library only. It is HTTP/1.0, so that the answer is neither chunked nor the connection kept.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

ANSWER_BYTES_MAX = 64 * 2**10


@dataclass(frozen=True)
class Answer:
    """What came back. Names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def get(address: tuple[str, int], path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer of that host and port, whole, and at most about ANSWER_BYTES_MAX of it. Waits as long as it takes.

    Raises OSError when nobody is there, and ValueError for what is no answer or was cut off.
    """
    reader, writer = await asyncio.open_connection(*address)
    try:
        said = {"Host": address[0], **(headers or {}), "Connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        writer.write(f"GET {path} HTTP/1.0\r\n{lines}\r\n".encode())
        await writer.drain()
        raw = b""
        while len(raw) <= ANSWER_BYTES_MAX and (part := await reader.read(4096)):
            raw += part
    finally:
        writer.close()
    return _read(raw)


def _read(raw: bytes) -> Answer:
    head, separator, body = raw.partition(b"\r\n\r\n")
    if not separator:
        raise ValueError("an answer without an end of its headers")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = headers.get("content-length")
    if length is not None and len(body) < int(length):
        raise ValueError("an answer that was cut off")
    words = first.split()
    if len(words) < 2:
        raise ValueError("an answer without a status")
    return Answer(int(words[1]), headers, body)
