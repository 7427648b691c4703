"""`dumont up`: start server and gateway in the background, and wait until they are whole."""

import asyncio
import fcntl
from typing import Annotated

import typer

from dumont.cli.call import Json, call
from dumont.cli.output import console, print_json
from dumont.cli.process import Process, gateway_of, server_of
from dumont.client import Dumont
from dumont.client.results import Health
from dumont.errors import DumontError, ServerAway
from dumont.i18n import _

LOOK_EVERY_S = 0.05
LOG_LINES = 15


def up(
    wait_s: Annotated[float, typer.Option("--wait", help=_("Give up after so many seconds."))] = 30.0,
    as_json: Json = False,
) -> None:
    """Idempotent: what runs already is left alone."""
    health = call(lambda dumont: start(dumont, wait_s), as_json=as_json)
    if as_json:
        print_json(health)
    else:
        console.print(_("[green]Dumont is up[/] in {home} (server {pid}).").format(home=health.home, pid=health.pid))


async def start(dumont: Dumont, wait_s: float) -> Health:
    """Raises ServerAway, with the end of the log, when they do not become whole in time."""
    home = dumont.home
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.run.mkdir(mode=0o700, exist_ok=True)
    with (home.run / "up.lock").open("w") as lock:  # two at once would start two of each
        fcntl.flock(lock, fcntl.LOCK_EX)
        return await _start(dumont, wait_s)


async def _start(dumont: Dumont, wait_s: float) -> Health:
    home = dumont.home
    server, gateway = server_of(home), gateway_of(home)
    loop = asyncio.get_running_loop()
    give_up = loop.time() + wait_s
    health = await _health(dumont)
    if health is None and server.pid is None:
        home.server.unlink(missing_ok=True)
        server.start("server", str(home.path))
    while not (health and health.ok):
        written = (home.gateway / "gateway.json").exists()  # by the server, at its first start
        if written and gateway.pid is None and not (health and health.gateway):
            gateway.start(str(home.gateway))
        if server.ended and health is None:
            raise _failed(server, _("The server ended at once."))
        if loop.time() > give_up:
            raise _failed(server, _("Server and gateway did not become whole within {n} s.").format(n=wait_s))
        await asyncio.sleep(LOOK_EVERY_S)
        health = await _health(dumont)
    return health


async def _health(dumont: Dumont) -> Health | None:
    try:
        return await dumont.health()
    except ServerAway:
        await dumont.close()  # the next try reads the port and the token again
        return None


def _failed(process: Process, what: str) -> DumontError:
    error = ServerAway(what)
    tail = process.log.read_text(errors="replace").splitlines()[-LOG_LINES:] if process.log.exists() else []
    error.add_note("\n".join([_("The end of {path}:").format(path=process.log), *tail]))
    return error
