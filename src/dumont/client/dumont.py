"""Dumont: the SDK. Each method asks the server of one home; it finds that home, and starts nothing by itself."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import asdict
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from dumont.client.advice import Advice, Calibration, Question
from dumont.client.home import Home, find_door, find_home
from dumont.client.problem import read_problem
from dumont.client.results import (
    BranchFile,
    BranchShown,
    Check,
    Checked,
    ChunkKey,
    Happened,
    Health,
    HistoryShown,
    Keeping,
    Launch,
    OffersFound,
    OwnerKeys,
    PriceShown,
    ProviderShown,
    Receipt,
    Retention,
    SyncAnswer,
    Tried,
    WorkspaceShown,
)
from dumont.errors import ServerAway
from dumont.i18n import _, language

Answer = TypeVar("Answer")

PATIENCE_S = 15.0
DRILL_S_MAX = 120.0
CHECK_S_MAX = 120.0
OFFERS_S_MAX = 60.0
ADVICE_S_MAX = 60.0
STORE_S_MAX = 120.0
PROBE_S_MAX = 1800.0
FOLLOW_EVERY_S = 0.5
LOOK_EVERY_S = 0.02


class Dumont:
    """An asynchronous client; use it with `async with`. `home` defaults to `$DUMONT_HOME` or `~/.dumont`.

    Methods raise ServerAway when nobody listens, NoSuchWorkspace, BadInput and the other errors of `dumont.errors`.
    """

    def __init__(self, home: Home | None = None, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.home = home or find_home(os.environ)
        self._transport = transport
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> "Dumont":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections."""
        if self._http:
            await self._http.aclose()
            self._http = None

    async def health(self) -> Health:
        """Whether the server is whole."""
        return await self._get("/v1/health", Health)

    async def doctor(self) -> list[Check]:
        """What the server finds of the machine it runs on."""
        return await self._get("/v1/doctor", list[Check])

    async def offers(self, query: str = "", limit: int = 20) -> OffersFound:
        """What is for rent now and satisfies the query, such as `gpu=RTX 4090 price<0.5`."""
        return await self._get(f"/v1/offers?q={quote(query, safe='')}&limit={limit}", OffersFound, OFFERS_S_MAX)

    async def advise(self, question: Question | str) -> Advice:
        """What to rent for a description in words, by what is for rent now. Rents nothing."""
        asked = Question(text=question) if isinstance(question, str) else question
        return await self._post("/v1/advice", asdict(asked), Advice, ADVICE_S_MAX)

    async def calibration(self) -> Calibration:
        """How far predictions were from what recorded runs took, by task."""
        return await self._get("/v1/advice/calibration", Calibration)

    async def prices(self, product: str, days: float = 7.0) -> list[PriceShown]:
        """What was asked for a product during the last days, oldest first."""
        return await self._get(f"/v1/prices?product={quote(product, safe='')}&days={days}", list[PriceShown])

    async def providers(self) -> list[ProviderShown]:
        """Who machines are rented from."""
        return await self._get("/v1/providers", list[ProviderShown])

    async def check_provider(self, name: str) -> list[Checked]:
        """Whether a provider's account is in order. Rents nothing."""
        return await self._post(f"/v1/providers/{quote(name, safe='')}/check", {}, list[Checked], CHECK_S_MAX)

    async def probe_provider(self, name: str) -> list[Tried]:
        """A trial at a provider; it costs a few cents, takes some minutes, and cleans up after itself."""
        return await self._post(f"/v1/providers/{quote(name, safe='')}/probe", {}, list[Tried], PROBE_S_MAX)

    async def workspaces(self) -> list[WorkspaceShown]:
        """All workspaces, by name."""
        return await self._get("/v1/workspaces", list[WorkspaceShown])

    async def workspace(self, name: str) -> WorkspaceShown:
        """One workspace, as it is now."""
        return await self._get(f"/v1/workspaces/{quote(name, safe='')}", WorkspaceShown)

    async def launch(self, launch: Launch) -> WorkspaceShown:
        """Create a workspace and have its machines rented; returns before it runs. Raises NameTaken."""
        return await self._post("/v1/workspaces", asdict(launch), WorkspaceShown)

    async def remove(self, name: str, keep_history: str = "") -> WorkspaceShown:
        """Delete a workspace and let its machines go; returns once that is decided, not done.

        `keep_history`: for how many days its history stays in the store, or `for-ever`; "" is as the server is set.
        """
        term = f"?keep_history={quote(keep_history, safe='')}" if keep_history else ""
        body = await self._send("DELETE", f"/v1/workspaces/{quote(name, safe='')}{term}")
        return msgspec.json.decode(body, type=WorkspaceShown)

    async def retention(self, name: str) -> Keeping:
        """Which commits of a workspace the store keeps, and what the next round lets go."""
        return await self._get(f"{_workspace(name)}/retention", Keeping, STORE_S_MAX)

    async def keep(self, name: str, rules: Retention, *, dry_run: bool = False, agreed: bool = False) -> Keeping:
        """Other rules for what the store keeps, from the next round on; `dry_run` only says what that would let go.

        Raises BadInput when commits would go that stay by the rules that hold now, unless that is `agreed`.
        """
        wish = asdict(rules) | {"dry_run": dry_run, "agreed": agreed}
        body = await self._send("PATCH", f"{_workspace(name)}/retention", wish, STORE_S_MAX)
        return msgspec.json.decode(body, type=Keeping)

    async def histories(self) -> list[HistoryShown]:
        """What removed workspaces left in the store, the one removed first coming first."""
        return await self._get("/v1/histories", list[HistoryShown], STORE_S_MAX)

    async def keep_history(self, history: str, term: str) -> HistoryShown:
        """Keep it for `term` from now on: a number of days, or `for-ever`. Raises NoSuchHistory, BadInput."""
        body = await self._send("PATCH", f"/v1/histories/{quote(history, safe='')}", {"keep": term}, STORE_S_MAX)
        return msgspec.json.decode(body, type=HistoryShown)

    async def delete_history(self, history: str, again: str) -> HistoryShown:
        """Delete it for good; returns once that is decided, not done. `again`: its name once more.

        Raises NoSuchHistory, BadInput.
        """
        path = f"/v1/histories/{quote(history, safe='')}?again={quote(again, safe='')}"
        return msgspec.json.decode(await self._send("DELETE", path, None, STORE_S_MAX), type=HistoryShown)

    async def events(self, name: str, limit: int = 200) -> list[Happened]:
        """The newest `limit` events, oldest first."""
        return await self._get(f"/v1/workspaces/{quote(name, safe='')}/events?limit={limit}", list[Happened])

    async def follow(self, name: str, limit: int = 20) -> AsyncIterator[Happened]:
        """The newest `limit` events, then each new one as it happens, for ever."""
        seen: set[tuple[str, str]] = set()
        while True:
            events = await self.events(name, max(limit, 200))
            for event in events if seen else events[-limit:]:
                if (event.at, event.kind) not in seen:
                    yield event
            seen |= {(event.at, event.kind) for event in events}
            await asyncio.sleep(FOLLOW_EVERY_S)

    async def chunk_key(self, name: str) -> bytes:
        """The key (32 bytes) under which the chunks of the workspace's files are named, to compute roots without us."""
        shown = await self._get(f"/v1/workspaces/{quote(name, safe='')}/chunk-key", ChunkKey)
        return bytes.fromhex(shown.key)

    async def branches(self, name: str) -> list[BranchShown]:
        """The branches of a workspace, oldest first."""
        return await self._get(f"/v1/workspaces/{quote(name, safe='')}/branches", list[BranchShown])

    async def branch_files(self, name: str, branch: str) -> list[BranchFile]:
        """Every name in a branch's tree, sorted by path."""
        return await self._get(f"{_branch(name, branch)}/files", list[BranchFile])

    async def branch_content(self, name: str, branch: str, path: str) -> bytes:
        """The content of one file of a branch. Raises NotStored."""
        return await self._send("GET", f"{_branch(name, branch)}/content?path={quote(path, safe='')}")

    async def sync(self, name: str, timeout_s: float = 10.0) -> SyncAnswer:
        """Take a barrier in the workspace: `ok` once everything written before is on the whole ack set."""
        return await self._post(
            f"/v1/workspaces/{quote(name, safe='')}/sync", {"timeout_s": timeout_s}, SyncAnswer, timeout_s + 5
        )

    async def drill(self, name: str, kind: str = "killed") -> Receipt:
        """Really interrupt the primary's machine, telling the control loop nothing, and measure what follows."""
        return await self._post(f"/v1/workspaces/{quote(name, safe='')}/drills", {"kind": kind}, Receipt, DRILL_S_MAX)

    async def keys(self) -> OwnerKeys:
        """The public keys that may log in to every workspace."""
        return await self._get("/v1/keys", OwnerKeys)

    async def add_key(self, key: str) -> OwnerKeys:
        """Let the owner of a public key log in to every workspace. Raises BadInput for what is no key."""
        return await self._post("/v1/keys", {"key": key}, OwnerKeys)

    async def stop(self, *, release: bool = False) -> None:
        """Stop server and gateway; with `release` let every machine go first. Returns once that is done."""
        await self._send("POST", "/v1/stop", {"release": release}, DRILL_S_MAX)
        give_up = asyncio.get_running_loop().time() + PATIENCE_S
        while self.home.server.exists():
            if asyncio.get_running_loop().time() > give_up:
                raise ServerAway(_("The server was asked to end and does not: see log/server.log in Dumont's home."))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _get(self, path: str, kind: type[Answer], patience_s: float = PATIENCE_S) -> Answer:
        return msgspec.json.decode(await self._send("GET", path, patience_s=patience_s), type=kind)

    async def _post(self, path: str, body: Any, kind: type[Answer], patience_s: float = PATIENCE_S) -> Answer:
        return msgspec.json.decode(await self._send("POST", path, body, patience_s), type=kind)

    async def _send(self, method: str, path: str, body: Any = None, patience_s: float = PATIENCE_S) -> bytes:
        if self._http is None:
            door = find_door(self.home)
            self._http = httpx.AsyncClient(
                base_url=door.url,
                headers={"Authorization": f"Bearer {door.token}", "Accept-Language": language().replace("_", "-")},
                transport=self._transport,
                trust_env=False,
            )
        try:
            response = await self._http.request(method, path, json=body, timeout=patience_s)
        except httpx.TransportError as error:
            raise ServerAway(
                _("The server does not answer ({why}): start it with `dumont up`.").format(
                    why=str(error) or type(error).__name__
                )
            ) from error
        if response.is_success:
            return response.content
        raise read_problem(response.status_code, response.content)


def _workspace(name: str) -> str:
    return f"/v1/workspaces/{quote(name, safe='')}"


def _branch(name: str, branch: str) -> str:
    return f"/v1/workspaces/{quote(name, safe='')}/branches/{quote(branch, safe='')}"
