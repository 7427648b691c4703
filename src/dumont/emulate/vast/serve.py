"""Serving the emulated Vast.ai on this machine, for tests and for `dumont emulate vast`."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from random import Random

import uvicorn

from dumont.clock import SystemClock
from dumont.emulate.ground import Ground
from dumont.emulate.vast.answer import Disconnected
from dumont.emulate.vast.app import application
from dumont.emulate.vast.world import World

LOOPBACK = "127.0.0.1"
TICK_S = 0.05


@contextlib.asynccontextmanager
async def serving(world: World, port: int = 0, host: str = LOOPBACK) -> AsyncIterator[str]:
    """Serve this world; yields its base URL. Its instances keep moving without being asked about.

    `host` is where its instances may reach it too, who end themselves there.

    Raises OSError when the port is taken. The ground stays open: whoever made it closes it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:  # asyncio asks for it
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        config = uvicorn.Config(application(world), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        logging.getLogger("uvicorn.error").addFilter(_is_no_fault_of_the_book)
        server = Server(config)
        task = asyncio.create_task(server.serve([listener]))
        ticking = asyncio.create_task(_tick(world))
        try:
            while not server.started:
                if task.done():
                    await task
                await asyncio.sleep(0.005)
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            broken = ticking.done()
            ticking.cancel()
            server.should_exit = True
            await asyncio.gather(task, ticking, return_exceptions=True)
            await world.idle()
            if broken:
                ticking.result()  # a bug of ours, and not to be taken for a machine that does not come up


class Server(uvicorn.Server):
    """One that leaves signals to its caller."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


def _is_no_fault_of_the_book(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], Disconnected))


async def _tick(world: World) -> None:
    while True:
        world.settle()
        await asyncio.sleep(TICK_S)


async def emulate_vast(port: int, ground: Ground, seed: int) -> None:
    """Serve an emulated Vast.ai until cancelled; closes the ground. The same seed makes the same market."""
    world = World(SystemClock(), Random(seed), ground)
    world.habits.boot_s = 2.0
    try:
        async with serving(world, port):
            await asyncio.Event().wait()
    finally:
        await ground.close()
