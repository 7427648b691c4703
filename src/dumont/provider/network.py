"""The embedded cloud's network: one switch per DUMONT_HOME, one network namespace and cable per local instance.

The switch is a bridge in a network namespace of its own, so the host's firewall never sees what instances say to each
other, and removing that namespace removes it all. The host has one interface there, at `.1`. Everything on the switch
is static: no flooding, no learning, no ARP, no IPv6 discovery. So a cable can be cut in one direction by a single
forwarding entry, needing nothing but the bridge and veth of every ordinary kernel (no netem, no packet filter), and
a cut is pure silence: no ARP goes unanswered, so no socket ever hears EHOSTUNREACH.

- *in* (towards the instance): the switch sends the instance's frames out of the host's port, where nobody takes them.
- *out* (from the instance): its routes point at a neighbour that does not exist.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dumont.errors import NotPossibleHere, ProviderError
from dumont.provider.command import handing_down, run

NETNS = Path("/run/netns")
SWITCH = "switch"
HOST_PORT = "host"
CARD = "eth0"
NOWHERE = "169.254.231.1"
NOWHERE_MAC = "02:00:00:00:00:01"
NUMBERS = range(2, 251)
LOCK = Path("/run/dumont-network.lock")
"""Networks are the machine's, not the home's."""
LOCK_S_MAX = 60.0
LOCK_POLL_S = 0.02

Argv = tuple[str, ...]


def cloud_key(home: Path) -> str:
    """Eight hex digits that tell this home's processes and interfaces from those of any other home."""
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class Cable:
    """How one instance is connected, and the commands that cut its connection; kept in its `machine.json`.

    `cut` holds the commands by direction, `out` (from the instance) and `in` (towards it), `heal` those that undo
    both. All of them may be repeated.
    """

    number: int
    netns: str
    port: str
    address: str
    cut: dict[str, list[Argv]] = field(default_factory=dict)
    heal: list[Argv] = field(default_factory=list)


@dataclass(frozen=True)
class Network:
    """The switch of one home. `key` names it, `net` is the third byte of its addresses, 10.231.`net`.0/24."""

    key: str
    net: int

    @classmethod
    async def open(cls, home: Path) -> "Network":
        """The home's switch, made if need be.

        One process of this machine at a time looks and makes: two that begin in one instant, for one home or for homes
        that wish for the same subnet, must not both find nothing there. Raises NotPossibleHere without root or a free
        subnet, ProviderError when the kernel refuses, or somebody else is at it for too long.
        """
        async with _alone():
            return await cls._open(home)

    @classmethod
    async def _open(cls, home: Path) -> "Network":
        key = cloud_key(home)
        addresses = await _addresses()
        own = addresses.pop(_interface(key), [])
        if own and _is_mounted(_interface(key)):
            return cls(key, own[0].network_address.packed[2])
        taken = [subnet for subnets in addresses.values() for subnet in subnets]
        taken += await _routes(but=_interface(key))
        first = int(key[:2], 16)
        for net in ((first + step) % 256 for step in range(256)):
            if not any(_subnet(net).overlaps(other) for other in taken):
                network = cls(key, net)
                await network._build()
                return network
        raise NotPossibleHere("All of 10.231.0.0/16 is in use here. Remove another Dumont home's network first.")

    @property
    def host(self) -> str:
        """The address under which instances reach the server."""
        return self.address(1)

    @property
    def switch(self) -> str:
        """The name of the switch's namespace, and of the host's interface on it (at most 15 characters)."""
        return _interface(self.key)

    def address(self, number: int) -> str:
        return f"10.231.{self.net}.{number}"

    def mac(self, number: int) -> str:
        return f"02:d0:0a:e7:{self.net:02x}:{number:02x}"

    def cable(self, number: int) -> Cable:
        """The cable of the instance with this number (2–250); pure."""
        netns, port = f"{self.switch}-{number}", f"p{number}"
        halves = (f"10.231.{self.net}.0/25", f"10.231.{self.net}.128/25")
        inside = ("ip", "-n", netns, "route")
        outside = ("bridge", "-n", self.switch, "fdb", "replace", self.mac(number))
        return Cable(
            number=number,
            netns=netns,
            port=port,
            address=self.address(number),
            cut={
                "out": [(*inside, "replace", half, "via", NOWHERE, "dev", CARD, "onlink") for half in halves],
                "in": [(*outside, "dev", HOST_PORT, "master", "static")],
            },
            heal=[
                *((*inside, "flush", "exact", half) for half in halves),
                (*outside, "dev", port, "master", "static"),
            ],
        )

    async def plug(self, number: int) -> Cable:
        """A fresh namespace with a cable to the switch. Whatever was left under this number is removed first."""
        await self.unplug(number)
        cable = self.cable(number)
        await run(
            ("ip", "-batch", "-"),
            f"netns add {cable.netns}\n"
            f"link add name {cable.port} netns {self.switch} type veth"
            f" peer name {CARD} address {self.mac(number)} netns {cable.netns}\n"
            f"neigh replace {cable.address} lladdr {self.mac(number)} dev {self.switch} nud permanent\n",
        )
        await self._join(cable.port, number)
        neighbours = "".join(
            f"neigh replace {self.address(other)} lladdr {self.mac(other)} dev {CARD} nud permanent\n"
            for other in (1, *NUMBERS)
            if other != number
        )
        await run(
            ("ip", "-n", cable.netns, "-batch", "-"),
            f"link set dev lo up\naddr add {cable.address}/24 dev {CARD}\nlink set dev {CARD} up\n{neighbours}"
            f"neigh replace {NOWHERE} lladdr {NOWHERE_MAC} dev {CARD} nud permanent\n",
        )
        return cable

    async def slow(self, number: int, mbps: float) -> None:
        """Let this instance's cable carry only so many Mbit/s each way, until it is plugged anew.

        A token bucket of 50 ms at each end (tc-tbf(8)). Raises NotPossibleHere where `tc` or the kernel has none.
        """
        cable, burst = self.cable(number), max(round(mbps * 1e6 / 8 * 0.05), 4_000)
        bucket = ("root", "tbf", "rate", f"{round(mbps * 1000)}kbit", "burst", f"{burst}b", "latency", "200ms")
        for netns, card in ((cable.netns, CARD), (self.switch, cable.port)):
            try:
                await run(("tc", "-n", netns, "qdisc", "replace", "dev", card, *bucket))
            except ProviderError as error:
                raise NotPossibleHere(f"A link can't be slowed here: it takes `tc` and sch_tbf. {error}") from error

    async def unplug(self, number: int) -> None:
        """Remove the instance's cable and namespace; harmless when there are none."""
        cable = self.cable(number)
        if _is_mounted(self.switch):
            # Removing the namespace alone leaves the port behind for as long as the kernel likes.
            await _remove_link(cable.port, ("-n", self.switch))
        await run(("ip", "neigh", "flush", "to", cable.address, "nud", "permanent"))
        await _remove_namespace(cable.netns)

    async def plugged(self) -> set[int]:
        """The numbers under which anything of an instance is left, whole or in part."""
        prefix = f"{self.switch}-"
        names = [path.name for path in NETNS.iterdir()] if NETNS.exists() else []
        namespaces = {int(name.removeprefix(prefix)) for name in names if name.startswith(prefix)}
        ports = await _links(("-n", self.switch)) if _is_mounted(self.switch) else set()
        return namespaces | {int(port[1:]) for port in ports if port[1:].isdecimal()}

    async def close(self) -> None:
        """Remove the switch, and every cable and namespace of this home; harmless when there are none."""
        async with _alone():
            await self._remove()

    async def _remove(self) -> None:
        for number in sorted(await self.plugged()):
            await self.unplug(number)
        await _remove_link(self.switch)
        await _remove_namespace(self.switch)

    async def _build(self) -> None:
        await self._remove()
        await run(
            ("ip", "-batch", "-"),
            f"netns add {self.switch}\n"
            f"link add name {self.switch} address {self.mac(1)} type veth"
            f" peer name {HOST_PORT} netns {self.switch}\n",
        )
        await run(
            ("ip", "-n", self.switch, "-batch", "-"),
            f"link add name {SWITCH} type bridge stp_state 0 mcast_snooping 0\nlink set dev {SWITCH} up\n",
        )
        await self._join(HOST_PORT, 1)
        await run(
            ("ip", "-batch", "-"),
            f"addr add {self.host}/24 dev {self.switch}\nlink set dev {self.switch} up\n",
        )

    async def _join(self, port: str, number: int) -> None:
        """Put a port on the switch: static from the first frame on."""
        await run(("ip", "-n", self.switch, "link", "set", "dev", port, "master", SWITCH))
        await run(
            ("bridge", "-n", self.switch, "-batch", "-"),
            f"link set dev {port} learning off flood off mcast_flood off bcast_flood off\n"
            f"fdb replace {self.mac(number)} dev {port} master static\n",
        )
        await run(("ip", "-n", self.switch, "link", "set", "dev", port, "up"))


@contextlib.asynccontextmanager
async def _alone() -> AsyncIterator[None]:
    """While no other process of this machine makes or removes a switch. Commands run meanwhile keep others out too."""
    try:
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotPossibleHere(f"{LOCK} can't be opened, so no network can be made: {error.strerror}") from error
    try:
        await _take(lock)
        with handing_down(lock):
            yield
    finally:
        os.close(lock)


async def _take(lock: int) -> None:
    try:
        async with asyncio.timeout(LOCK_S_MAX):
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    await asyncio.sleep(LOCK_POLL_S)
    except TimeoutError as error:
        raise ProviderError(f"Somebody has held {LOCK} for more than {LOCK_S_MAX:.0f} s. Try again.") from error


def _is_mounted(netns: str) -> bool:
    """Whether a name stands for a namespace. After a reboot it may be an empty file of that name."""
    path = NETNS / netns
    return path.exists() and path.stat().st_dev != NETNS.stat().st_dev


async def _remove_namespace(netns: str) -> None:
    """Harmless when there is none."""
    if (NETNS / netns).exists():
        await run(("ip", "netns", "del", netns))


async def _remove_link(name: str, where: Argv = ()) -> None:
    """Remove an interface; harmless when it is gone, or goes in this moment with the namespace at its other end."""
    try:
        if name in await _links(where):
            await run(("ip", *where, "link", "del", "dev", name))
    except ProviderError:
        if name in await _links(where):
            raise


async def _links(where: Argv) -> set[str]:
    return {link["ifname"] for link in _parsed(await run(("ip", *where, "-json", "link", "show")))}


async def _addresses() -> dict[str, list[ipaddress.IPv4Network]]:
    """The IPv4 subnets on each interface of this machine."""
    links = _parsed(await run(("ip", "-4", "-json", "addr", "show")))
    return {
        link["ifname"]: [
            ipaddress.IPv4Network(f"{info['local']}/{info['prefixlen']}", strict=False)
            for info in link.get("addr_info", ())
            if "local" in info
        ]
        for link in links
    }


async def _routes(*, but: str) -> list[ipaddress.IPv4Network]:
    """Where this machine's routes lead, but those of one interface and the default."""
    routes = _parsed(await run(("ip", "-4", "-json", "route", "show")))
    return [ipaddress.IPv4Network(r["dst"]) for r in routes if r["dst"] != "default" and r.get("dev") != but]


def _parsed(text: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(text or "[]")
    except ValueError as error:
        raise ProviderError("`ip` does not speak JSON. Install a newer iproute2.") from error
    return [row for row in rows if row]


def _interface(key: str) -> str:
    return f"dmt-{key}"


def _subnet(net: int) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(f"10.231.{net}.0/24")
