"""What people ask of the control plane: each ask changes what is *wanted*, and the control loop does the rest."""

import asyncio
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random

from dumont.clock import Clock
from dumont.control.act import Acts
from dumont.control.hub import Hub
from dumont.control.keys import Keyring, new_private_key
from dumont.control.observe import Observatory
from dumont.control.shell import Shell
from dumont.control.vault import Vault
from dumont.db.base import Database
from dumont.errors import BadInput, NotPossibleHere, ProviderError
from dumont.model.instance import InstanceState
from dumont.model.past import KEPT, Past, kept_until
from dumont.model.policy import Policy
from dumont.model.workspace import State, Wanted, Workspace, folder_of

NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?")
COMMAND_CHARACTERS_MAX = 16_384
WORKSPACE_PORTS = range(20_000, 28_000)
"""Below the ports that Linux gives to outgoing connections, which could take a fixed one away meanwhile."""


@dataclass(frozen=True)
class Parts:
    """One server process, put together.

    `kept` is how long a removed workspace's history stays when nobody says otherwise. `upkeep_due` is set when the
    store is to be looked after at once.
    """

    acts: Acts
    hub: Hub
    observatory: Observatory
    shell: Shell
    vault: Vault
    keyring: Keyring
    rng: Random
    kept: timedelta = KEPT
    upkeep_due: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def database(self) -> Database:
        return self.acts.database

    @property
    def clock(self) -> Clock:
        return self.acts.clock


async def launch(parts: Parts, name: str, policy: Policy) -> Workspace:
    """Write a new workspace down; the control loop rents its machines. Raises NameTaken, BadInput, StoreError."""
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} can't be a name: use a small letter, then small letters, digits and hyphens, 32 at most"
        )
    service = policy.service
    for command in (service.run, service.on_standby, service.on_switch):
        if len(command) > COMMAND_CHARACTERS_MAX or "\0" in command:
            raise BadInput(f"a command may have {COMMAND_CHARACTERS_MAX} characters; put it into a script")
    taken = {port for row in await parts.database.workspaces() for port in (row.ssh_port, row.http_port)}
    ssh_port = pick_port(WORKSPACE_PORTS, parts.rng, lambda port: port not in taken and is_free(port))
    http_port = pick_port(WORKSPACE_PORTS, parts.rng, lambda port: port not in taken | {ssh_port} and is_free(port))
    workspace = Workspace(
        name=name,
        created_at=parts.clock.now(),
        policy=policy,
        ssh_port=ssh_port,
        http_port=http_port,
        host_key=new_private_key(),
        owner_keys=parts.keyring.keys(),
        generation=await _free_generation(parts.vault, name),
    )
    await parts.database.add_workspace(workspace)
    await parts.acts.note(name, "launched", {"ssh_port": ssh_port, "http_port": http_port})
    parts.hub.changed.set()
    return await parts.database.workspace(name)


async def _free_generation(vault: Vault, name: str) -> int:
    """The first one whose history is not begun: the database may be older than the store, or newer altogether."""
    generation = 1
    while await vault.is_used(folder_of(name, generation)):
        generation += 1
    return generation


async def remove(parts: Parts, name: str, term: timedelta | None = None) -> Workspace:
    """Have a workspace deleted and its machines let go, its history kept for `term`. Harmless twice.

    Raises NoSuchWorkspace.
    """
    row = await parts.database.workspace(name)
    if row.state is not State.DELETED and (row.wanted is not Wanted.DELETED or term is not None):
        now = parts.clock.now()
        until = kept_until(now, parts.kept if term is None else term)
        past = Past(workspace=name, generation=row.generation, removed_at=now, keep_until=until)
        await parts.database.leave_past(past)
    if row.wanted is not Wanted.DELETED:
        await parts.database.want(name, Wanted.DELETED)
        await parts.acts.note(name, "removing", {})
    parts.hub.changed.set()
    return await parts.database.workspace(name)


async def add_key(parts: Parts, line: str) -> tuple[str, ...]:
    """Let the owner of a public key log in to every workspace, now and later. Raises BadInput."""
    keys = parts.keyring.add(line)
    for row in await parts.database.workspaces():
        async with parts.acts.lock(row.name):
            now = await parts.database.workspace(row.name)
            if now.state is not State.DELETED and now.owner_keys != keys:
                await parts.database.describe(replace(now, owner_keys=keys))
    parts.hub.changed.set()
    return keys


async def release_everything(parts: Parts) -> int:
    """End every machine of every provider here, and answer how many. The control loop must have stopped.

    One provider's error keeps no other's machines. Raises ProviderError at the end, naming whose machines may bill on.
    """
    ended, refusals = 0, {}
    for name, provider in parts.acts.providers.items():
        try:
            for machine in await provider.machines():
                await provider.release(machine.ref)
                ended += 1
        except ProviderError as error:
            refusals[name] = str(error)
    for instance in await parts.database.instances():
        if instance.provider in refusals:
            continue
        gone = replace(instance, state=InstanceState.GONE, gone_at=parts.clock.now())
        await parts.database.save_instance(gone)
        await parts.acts.note(instance.workspace, "released", {"instance": instance.id, "reason": "down"})
    if refusals:
        told = "; ".join(f"{name}: {why}" for name, why in refusals.items())
        raise ProviderError(f"Machines may still be rented and bill. {told}")
    return ended


def pick_port(ports: range, rng: Random, free: Callable[[int], bool]) -> int:
    """A random free port of `ports`. Raises NotPossibleHere when a hundred tries found none."""
    for _ in range(100):
        port = rng.choice(ports)
        if free(port):
            return port
    raise NotPossibleHere(f"no port between {ports.start} and {ports.stop} is free on this machine")


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether nobody listens on that TCP port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
