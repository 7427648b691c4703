"""The demo's door to Dumont: the command line and the SDK, as anybody outside has them."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dumont.client import Dumont, Home
from dumont.client.results import BranchShown, Happened, Launch, WorkspaceShown
from dumont.demo.address import Address, run_local
from dumont.errors import DumontError, NoSuchWorkspace, ServerAway

UP_TIMEOUT_S = 60.0
DOWN_TIMEOUT_S = 180.0
POLL_EVERY_S = 0.1
REMOVE_TIMEOUT_S = 60.0


class TookTooLong(DumontError):
    """Something that the demo waited for did not happen; the message says what. `dumont events` shows why."""


class Cloud:
    """One home and one workspace in it. `is_ours` means that the server is the demo's own, to be stopped at the end."""

    def __init__(self, home: Path, name: str, *, is_ours: bool) -> None:
        self.home = home
        self.name = name
        self._is_ours = is_ours
        self._sdk = Dumont(Home(home))

    @classmethod
    async def at(cls, home: Path, name: str) -> "Cloud":
        """The cloud of a home; it is ours to stop unless a server runs there already."""
        async with Dumont(Home(home)) as sdk:
            try:
                await sdk.health()
            except ServerAway:
                return cls(home, name, is_ours=True)
        return cls(home, name, is_ours=False)

    async def up(self) -> None:
        """Start the server and the gateway, with `dumont up`. Raises ServerAway with what it printed."""
        await self._command("up", timeout_s=UP_TIMEOUT_S)

    async def launch(self, command: str, *, return_to_gpu: bool) -> None:
        """Create the workspace, with one command for both kinds of machine."""
        await self._sdk.launch(Launch(name=self.name, run=command, on_standby=command, return_to_gpu=return_to_gpu))

    async def address(self) -> Address:
        """The workspace's one address, from `dumont ssh-config`."""
        config = self.home / "demo-ssh-config"
        config.write_text(await self._command("ssh-config", self.name))
        return Address(config, (await self.shown()).address.alias)

    async def shown(self) -> WorkspaceShown:
        return await self._sdk.workspace(self.name)

    async def events(self) -> list[Happened]:
        return await self._sdk.events(self.name)

    async def chunk_key(self) -> bytes:
        """What makes two checkers name the same bytes alike."""
        return await self._sdk.chunk_key(self.name)

    async def branches(self) -> list[BranchShown]:
        return await self._sdk.branches(self.name)

    async def branch_content(self, branch: str, path: str) -> bytes:
        return await self._sdk.branch_content(self.name, branch, path)

    async def until(self, what: str, holds: Callable[[WorkspaceShown], bool], timeout_s: float) -> WorkspaceShown:
        """The workspace as soon as it is so. Raises TookTooLong, naming `what`."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds(shown := await self.shown()):
                    await asyncio.sleep(POLL_EVERY_S)
                return shown
        except TimeoutError:
            raise TookTooLong(f"{what}: not within {timeout_s:.0f} s") from None

    async def close(self) -> None:
        """Let every machine go; stop the server too when it is the demo's own. Harmless when nothing was started.

        A server that died is started again for that: it alone knows what it rented.
        """
        try:
            if not self._is_ours:
                await self._remove()
            elif Home(self.home).run.exists():
                await self._command("down", "--all", "--yes", timeout_s=DOWN_TIMEOUT_S)
        finally:
            await self._sdk.close()

    async def _remove(self) -> None:
        try:
            await self._sdk.remove(self.name)
            async with asyncio.timeout(REMOVE_TIMEOUT_S):
                while any(workspace.name == self.name for workspace in await self._sdk.workspaces()):
                    await asyncio.sleep(POLL_EVERY_S)
        except (NoSuchWorkspace, ServerAway):
            return  # it was never launched
        except TimeoutError:
            raise TookTooLong(f"removing {self.name}: not within {REMOVE_TIMEOUT_S:.0f} s") from None

    async def _command(self, *words: str, timeout_s: float = 30.0) -> str:
        """What `dumont` prints. Raises ServerAway when it fails."""
        environment = {**os.environ, "DUMONT_HOME": str(self.home)}
        answer = await run_local([sys.executable, "-m", "dumont.main", *words], timeout_s, environment)
        if answer.status:
            raise ServerAway(f"`dumont {' '.join(words)}` ended with {answer.status}: {answer.errors[-1000:]}")
        return answer.output


def is_healthy(shown: WorkspaceShown) -> bool:
    """A primary serves, and a standby holds every commit that barriers promise."""
    serving = any(replica.id == shown.primary and replica.ready for replica in shown.replicas)
    return shown.state == "running" and shown.copies >= 2 and serving and not shown.switching_to
