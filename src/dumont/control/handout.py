"""The handout: the agent's code as one archive, and the door at which new machines fetch it.

The archive is not secret and the door asks for no name: a machine proves itself when it joins. It is the same, byte for
byte, whenever the same code is packed, so the digest in a bootstrap stays right across restarts of the server.
"""

import asyncio
import hashlib
import importlib.metadata
import io
import re
import ssl
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dumont

REQUEST_BYTES_MAX = 8 * 2**10
REQUEST_S_MAX = 30.0
LEFT_OUT = ("api", "cli", "client", "control", "db", "demo", "emulate", "gateway", "market", "standalone", "advisor")
"""Parts that an instance never runs."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_WHOLE_DAY = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Handout:
    """The archive's bytes and their SHA-256, in hexadecimal."""

    content: bytes
    sha256: str

    @classmethod
    def pack(cls, packages: Iterable[str]) -> "Handout":
        """Pack the code that this process runs, and the list of the PyPI `packages` that an agent needs beside it."""
        root = Path(dumont.__file__).parent
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(root.rglob("*")):
                name = path.relative_to(root)
                if path.suffix in (".py", ".mo") and name.parts[0] not in LEFT_OUT:
                    _add(archive, f"dumont/{name.as_posix()}", path.read_bytes())
            _add(archive, "requirements.txt", requirements(packages).encode())
        content = buffer.getvalue()
        return cls(content, hashlib.sha256(content).hexdigest())


def requirements(packages: Iterable[str]) -> str:
    """Those packages, one requirement a line, with the bounds of our own package."""
    needed = importlib.metadata.requires("dumont") or []
    bounds = {match.group(): line.partition(";")[0] for line in needed if (match := _NAME.match(line))}
    return "".join(f"{bounds.get(name, name)}\n" for name in sorted(packages))


async def hand_out(handout: Handout, hosts: Sequence[str], port: int, tls: ssl.SSLContext) -> asyncio.Server:
    """Answer `GET /agent/<sha256>.zip` over HTTPS, and nothing else. Raises OSError when the port is taken."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(handout, request))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
            return  # not one of our machines, or one that went away
        finally:
            writer.close()

    return await asyncio.start_server(serve, list(hosts), port, ssl=tls, limit=REQUEST_BYTES_MAX)


def _answer(handout: Handout, request: bytes) -> bytes:
    wanted = f"GET /agent/{handout.sha256}.zip ".encode()
    if request.startswith(wanted):
        status, kind, body = "200 OK", "application/zip", handout.content
    else:
        status, kind, body = "404 Not Found", "text/plain", b"there is only the present agent here\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _WHOLE_DAY)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)
