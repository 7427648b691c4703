"""`dumont emulate vast|gce`: an emulated provider whose instances are processes on this machine, until interrupted.

    dumont emulate vast --home DIR --port 8085

Drivers, the official clients and your own code can be pointed at the address that it prints. The last line before it
serves is JSON: `url`, the API `key` that it takes, and `server_host`, under which its instances reach this machine.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

from dumont.clock import SystemClock
from dumont.emulate.gce.server import emulate_gce
from dumont.emulate.gce.world import Setting
from dumont.emulate.local import LocalGround
from dumont.emulate.vast.serve import serving
from dumont.emulate.vast.world import KEY, World
from dumont.errors import DumontError
from dumont.i18n import _
from dumont.provider.capabilities import best_mode

KINDS = ("vast", "gce")
VAST_BOOT_S = 1.0


def main(arguments: list[str]) -> int:
    """Exit code 0 after an interruption, 1 when it can't serve here."""
    options = _parse(arguments)
    try:
        with _home(options.home) as home:
            asyncio.run(_serve(options, home))
    except KeyboardInterrupt:
        return 0
    except (DumontError, OSError) as error:
        sys.stderr.write(_("Error: {what}").format(what=error) + "\n")
        return 1
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("dumont emulate", description=_("Run an emulator of a provider on loopback."))
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--home", type=Path, help=_("where instances live; a folder of its own otherwise"))
    parser.add_argument("--port", type=int, default=0, help=_("0 takes a free one"))
    parser.add_argument("--seed", type=int, default=0, help=_("the same seed makes the same market"))
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _home(named: Path | None) -> Iterator[Path]:
    if named is not None:
        named.mkdir(parents=True, exist_ok=True)
        yield named.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="dumont-emulate-") as folder:
        yield Path(folder)


async def _serve(options: argparse.Namespace, home: Path) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    ground = await LocalGround.open(home, await best_mode(home))
    try:
        async with _emulator(options, ground) as url:
            told = {"url": url, "server_host": ground.server_host, "key": KEY if options.kind == "vast" else ""}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
            await ended.wait()
    finally:
        await ground.close()


@contextlib.asynccontextmanager
async def _emulator(options: argparse.Namespace, ground: LocalGround) -> AsyncIterator[str]:
    if options.kind == "vast":
        world = World(SystemClock(), Random(options.seed), ground)
        world.habits.boot_s = VAST_BOOT_S
        async with serving(world, options.port, ground.server_host) as url:
            yield url
        return
    setting = Setting(metadata_host=ground.server_host)
    async with emulate_gce(options.port, ground, options.seed, setting) as emulator:
        yield emulator.endpoint
