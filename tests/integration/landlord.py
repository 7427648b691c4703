"""Local providers for tests: opened in one mode or skipped by name, and dismantled whatever happens."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import pytest

from dumont.model.instance import Machine
from dumont.provider import capabilities
from dumont.provider.base import Boot, Machinery, Phase
from dumont.provider.jail import Mode
from dumont.provider.local import OFFERS, LocalProvider

PATIENCE_S = 30.0
SLEEPER = ("sh", "-c", "exec sleep 1000")
SOURCE = Path(capabilities.__file__).parents[2]
MODES = pytest.mark.parametrize("mode", list(Mode))
JAILED = pytest.mark.parametrize("mode", [Mode.JAIL, Mode.NETNS])
GPU = next(offer for offer in OFFERS if offer.machine is Machine.GPU)


async def require(mode: Mode, home: Path) -> None:
    """Skip the test, saying why, where this mode is impossible."""
    if mode is not Mode.PLAIN and not (found := await capabilities.jail(home)).ok:
        pytest.skip(f"no jail: {found.detail}")
    if mode is Mode.NETNS and await capabilities.best_mode(home) is not Mode.NETNS:
        pytest.skip("no network namespaces: they need root and iproute2")


@contextlib.asynccontextmanager
async def landlord(
    home: Path,
    mode: Mode,
    command: Sequence[str] = SLEEPER,
    capacity: Mapping[Machine, int] | None = None,
    boot_delay_s: float = 0.0,
) -> AsyncIterator[LocalProvider]:
    await require(mode, home)
    provider = await LocalProvider.open(home, mode, command, capacity, boot_delay_s)
    try:
        yield provider
    finally:
        await provider.dismantle()
        shutil.rmtree(home, ignore_errors=True)


def boot(provider: LocalProvider, label: str) -> Boot:
    return Boot(
        instance_id=label, server_host=provider.server_host, server_port=4000, ca_pem="certificate", join_token="token"
    )


async def rent(provider: LocalProvider, label: str) -> Machinery:
    machine = await provider.rent(GPU, label, boot(provider, label))
    assert machine.phase in (Phase.RUNNING, Phase.STARTING), Path(machine.facts["log"]).read_text()
    return machine


async def until(true: Callable[[], bool], what: str) -> None:
    """Real processes need a moment; this is the bound on it."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.005)
    assert true(), what


def processes(label: str, key: str) -> list[int]:
    """The living processes of one instance of one home, found without the provider's help."""
    wanted = {f"DUMONT_INSTANCE={label}".encode(), f"DUMONT_CLOUD={key}".encode()}
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdecimal() and wanted <= set((Path("/proc") / name / "environ").read_bytes().split(b"\0")):
                found.append(int(name))
    return found
