"""The gateway's process: `python -m dumont.gateway RUN_DIR`.

RUN_DIR holds gateway.json (server_host, server_port, listen_host, routes_file) and the gateway's identity: gateway.crt,
gateway.key, ca.crt. All are read again at each connect, so that a server may come back elsewhere or renew them.
"""

import asyncio
import resource
import signal
import sys
from pathlib import Path

import msgspec
import structlog

from dumont.clock import SystemClock
from dumont.errors import BadInput
from dumont.gateway.gateway import Gateway, HubLink
from dumont.wire.identity import SERVER, client_context
from dumont.wire.link import dial, notice_silence
from dumont.wire.route import ToGateway

SILENT_S_MAX = 10.0


class Settings(msgspec.Struct, frozen=True):
    """What gateway.json says. `routes_file` may be relative to the run directory."""

    server_host: str
    server_port: int
    listen_host: str = "127.0.0.1"
    routes_file: str = "routes.json"


def read_settings(run_dir: Path) -> Settings:
    """The settings in `run_dir`. Raises BadInput when they are missing or make no sense."""
    path = run_dir / "gateway.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Settings)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} can't be read: {error}. `dumont up` writes it") from error


async def dial_server(run_dir: Path) -> HubLink:
    """A link to the server, sure that it is one. Raises LinkClosed or BadInput."""
    settings = read_settings(run_dir)
    try:
        tls = client_context(run_dir / "gateway.crt", run_dir / "gateway.key", run_dir / "ca.crt")
    except OSError as error:
        raise BadInput(f"the identity in {run_dir} can't be used: {error}. `dumont up` writes it") from error
    link = await dial(settings.server_host, settings.server_port, ToGateway, tls=tls)
    if link.peer != SERVER:
        link.close()
        raise BadInput(f"{link.peer!r} answers at {settings.server_host}:{settings.server_port}, not the server")
    notice_silence(link, SILENT_S_MAX)
    return link


async def run(run_dir: Path) -> None:
    """Serve until SIGTERM or SIGINT. Raises BadInput when there are no settings."""
    settings = read_settings(run_dir)
    gateway = Gateway(lambda: dial_server(run_dir), run_dir / settings.routes_file, settings.listen_host, SystemClock())
    serving = asyncio.create_task(gateway.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    await asyncio.wait({serving})
    if not serving.cancelled():
        serving.result()


def main() -> int:
    """Read the command line; answers the exit status."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m dumont.gateway RUN_DIR\n")
        return 2
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two for each client
    try:
        asyncio.run(run(Path(sys.argv[1])))
    except BadInput as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
