"""The local ground: emulated instances are real processes on this machine, each with a disk of its own, held apart as
the local provider holds its own apart.

Its records are the local provider's (`home/instances/<name>/`), so whatever breaks local machines from outside breaks
these too.
"""

import asyncio
import os
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path

from dumont.errors import NoSuchInstance
from dumont.model.instance import Machine
from dumont.provider.base import Boot, Phase
from dumont.provider.bootstrap import HTTP_PORT, SSH_PORT, STREAM_PORT
from dumont.provider.jail import RUN, Disk, Mode
from dumont.provider.local import OFFERS, LocalProvider
from dumont.provider.network import Cable

PORTS = (SSH_PORT, HTTP_PORT, STREAM_PORT)
ONSTART = "onstart.sh"

TELL, TOLD, HEARD = "tell", "told.sh", "heard"
POLL_S = 0.02

# An instance's first process runs on whatever becomes of its script, as a container's or a machine's init does. It runs
# what it is told through a pipe on its disk.
_INIT = f"""
cd "${{1%/{RUN}}}/"; rm -f {TELL} {HEARD}
bash {ONSTART}
mkfifo {TELL} || exec sleep infinity
while :; do read -r word <{TELL}; bash {TOLD}; touch {HEARD}; done
"""


class LocalGround:
    """Runs instances under `home`. Make one with `open`; several processes may share a home."""

    def __init__(self, home: Path, mode: Mode) -> None:
        self._home = home.resolve()
        self._mode = mode
        self._scripts: dict[str, str] = {}
        self._environment: dict[str, list[str]] = {}
        self._around: dict[str, list[str]] = {}
        self._ports: dict[str, dict[int, int]] = {}
        self._provider: LocalProvider

    @classmethod
    async def open(cls, home: Path, mode: Mode) -> "LocalGround":
        """Raises NotPossibleHere or ProviderError when `mode` is NETNS and no network can be made."""
        ground = cls(home, mode)
        command = ("bash", "-c", _INIT, "bash")
        ground._provider = await LocalProvider.open(home, mode, command)
        ground._provider.equip = ground._equip
        return ground

    @property
    def server_host(self) -> str:
        """The address under which instances reach this machine."""
        return self._provider.server_host

    async def start(self, name: str, script: str, environment: Mapping[str, str]) -> None:
        self._environment[name] = [f"export {key}={shlex.quote(value)}" for key, value in environment.items()]
        self._scripts[name] = script
        self._provider.restart(name)
        await self._provider.rent(OFFERS[0], name, _boot(name))

    async def tell(self, name: str, script: str, seconds: float) -> None:
        root = self._home / "instances" / name / "root"
        try:
            pipe = os.open(root / TELL, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # nothing runs there, or its start script still does
        (root / HEARD).unlink(missing_ok=True)
        (root / TOLD).write_text("\n".join([*self._around.get(name, ()), script]))
        os.write(pipe, b"\n")
        os.close(pipe)
        try:
            async with asyncio.timeout(seconds):
                while not (root / HEARD).exists():
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return

    async def stop(self, name: str, grace_s: float) -> None:
        try:
            await self._provider.kill(name, grace_s)
        except NoSuchInstance:
            return

    async def end(self, name: str) -> None:
        await self._provider.release(name)
        for kept in (self._scripts, self._environment, self._around):
            kept.pop(name, None)
        self._ports.pop(name, None)

    def is_running(self, name: str) -> bool:
        return self._provider.phase(name) in (Phase.STARTING, Phase.RUNNING)

    def address(self, name: str) -> str:
        return self._provider.reserve(name, OFFERS[0], _boot(name))

    def outside(self, name: str, inside: int) -> int:
        """Instances that share an address listen at free ports, which they are told; others at their own."""
        if self._mode is Mode.NETNS or inside not in PORTS:
            return inside
        if name not in self._ports:
            self._ports[name] = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        return self._ports[name][inside]

    async def close(self) -> None:
        """End every instance that was started here, and remove the home's network with the last one of all."""
        for name in list(self._scripts):
            await self.end(name)
        if not await self._provider.machines():
            await self._provider.dismantle()

    def _equip(self, disk: Disk, boot: Boot, machine: Machine, cable: Cable | None) -> None:
        listening = ",".join(str(self.outside(boot.instance_id, port)) for port in PORTS)
        base = str(disk.inside("")).rstrip("/") + "/"
        self._around[boot.instance_id] = [
            f"export DUMONT_RUN={shlex.quote(str(disk.inside(RUN)))}",
            f"export DUMONT_BASE={shlex.quote(base)}",
            f"export DUMONT_PORTS={listening}",
            "export DUMONT_POWEROFF=false",  # unless the emulator says what that is: never this machine's own
            *self._environment[boot.instance_id],
        ]
        script = self._scripts[boot.instance_id]
        disk.outside(ONSTART).write_text("\n".join([*self._around[boot.instance_id], script, ""]))


def _boot(name: str) -> Boot:
    return Boot(instance_id=name, server_host="", server_port=0, ca_pem="", join_token="")


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
