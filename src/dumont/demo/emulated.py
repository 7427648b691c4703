"""The emulated cloud of a demo: Vast.ai and Google Compute Engine, each a process of its own, for one home."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from dumont.client.clouds import Clouds, GceAccount, ServerAddress, VastAccount, write_clouds
from dumont.errors import ServerAway
from dumont.i18n import _

ZONES = ("us-central1-a", "us-central1-b", "us-central1-c")
READY_S_MAX = 30.0
END_S_MAX = 30.0


@contextlib.asynccontextmanager
async def emulated(home: Path) -> AsyncIterator[None]:
    """Both emulators, running on `home`, and a `providers.toml` there that leads to them. Ended with all they run."""
    home.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as exits:
        vast = await exits.enter_async_context(_emulator("vast", home))
        gce = await exits.enter_async_context(_emulator("gce", home))
        keys = home / "keys"
        keys.mkdir(mode=0o700, exist_ok=True)
        (keys / "vast").touch(0o600)
        (keys / "vast").write_text(vast["key"] + "\n")
        server = ServerAddress(host=vast["server_host"], listen=("127.0.0.1", vast["server_host"]))
        project = GceAccount(project="acme", zones=ZONES, endpoint=gce["url"])
        write_clouds(home, Clouds(server=server, vast=VastAccount(url=vast["url"]), gce=project))
        yield


@contextlib.asynccontextmanager
async def _emulator(kind: str, home: Path) -> AsyncIterator[dict[str, str]]:
    log = (home / f"emulate-{kind}.log").open("ab")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dumont.main", "emulate", kind, "--home", str(home)),
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield await _told(kind, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(END_S_MAX):
                await process.wait()
        except TimeoutError:
            process.kill()
        log.close()


async def _told(kind: str, process: asyncio.subprocess.Process) -> dict[str, str]:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_S_MAX):
            told: dict[str, str] = json.loads(await process.stdout.readline())
            return told
    except (TimeoutError, ValueError) as error:
        raise ServerAway(_("the emulated {kind} did not start; its log says why").format(kind=kind)) from error
