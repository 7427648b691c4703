"""The driver: rents, lists, bids for, stops and ends machines at Vast.ai, as the port promises.

A label becomes `dumont/<installation>/<label>` there. It is the only thing that ties a contract to what we wrote
down: Vast.ai takes no idempotency key, so a create whose answer was lost is looked for by its label.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from weakref import WeakValueDictionary

import httpx

from dumont.clock import Clock
from dumont.errors import BadInput, NoCapacity, NoSuchInstance, ProviderError
from dumont.model.offer import Interruption
from dumont.provider.base import Boot, Machinery, Need, Offer
from dumont.provider.vast.client import Call, Chance, Client, Content, Refusal, TooFrequent
from dumont.provider.vast.keys import Keys
from dumont.provider.vast.limiter import Limiters
from dumont.provider.vast.offers import (
    BID,
    NAME,
    ON_DEMAND,
    NameOf,
    Row,
    as_it_is,
    disk_gb,
    dollars,
    filters_of,
    kinds,
    offers,
    rows,
    spellings_of,
)
from dumont.provider.vast.record import Record, Verdict
from dumont.provider.vast.renting import LABEL_CHARS_MAX, Order, Renting
from dumont.provider.vast.roster import Roster, is_missing
from dumont.provider.vast.shelf import Shelf
from dumont.provider.vast.states import Evidence, came_up_stopped, reason

URL = "https://console.vast.ai"
IMAGE = "pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime"
RELEASE_S_MAX = 180.0
GONE_POLL_S = (0.0, 1.0, 2.0, 4.0, 8.0)
LOG_POLLS = 30
LOG_POLL_S = 0.5
YOUNG_S = 5.0
NAMES_KEPT_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Whose account, and what runs on its machines.

    `installation` marks our machines among others of the account. `server_host` is where machines reach the server.
    `script_for` gives the text that a machine runs at each start. `image` needs an explicit tag. `name_of` gives GPUs
    the market's normal names.
    """

    key: str
    installation: str
    server_host: str
    script_for: Callable[[Boot, Offer], str]
    url: str = URL
    image: str = IMAGE
    name_of: NameOf = as_it_is


class Driver:
    """One account. `limiters` may be shared with another driver of the same key."""

    name = NAME

    def __init__(
        self,
        settings: Settings,
        http: httpx.AsyncClient,
        clock: Clock,
        rng: Random,
        limiters: Limiters | None = None,
    ) -> None:
        if not settings.installation or "/" in settings.installation:
            raise BadInput("An installation's name is a part of labels: it needs a letter, and no slash.")
        if ":" not in settings.image.rpartition("/")[2]:
            raise BadInput(f"The image {settings.image!r} needs a tag, such as `{IMAGE}`; Vast.ai fails without one.")
        self.settings = settings
        self.server_host = settings.server_host
        self._http, self._rng = http, rng
        self._limiters = limiters or Limiters(clock)
        self.client = Client(settings.key, settings.url, http, self._limiters, Chance(clock, rng))
        self.keys = Keys(self.client)
        self.roster = Roster(self.client)
        self._clock = clock
        self._began = clock.monotonic()
        self._record = Record()
        self._renting = Renting(self.client, self.roster, settings.image, clock, settings.name_of)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._names: tuple[float, list[str]] | None = None
        self._shelf = Shelf()

    async def offers(self, need: Need) -> list[Offer]:
        """What is for rent, cheapest first, checked by us too; none is an empty list. Raises ProviderError.

        Ten searches a minute is all that the service allows, so an answer is kept for 30 s or until we rent or end
        something, and, where no search is free, for five minutes.
        """
        now = self._clock.monotonic()
        kept = self._shelf.fresh(need, now)
        if kept is None and not self.client.has_room("search"):
            kept = self._shelf.stale(need, now)
        if kept is not None:
            return kept
        try:
            found = await self._search(need)
        except TooFrequent:
            kept = self._shelf.stale(need, now)
            if kept is None:
                raise
            return kept
        self._shelf.put(need, found, self._clock.monotonic())
        return found

    async def _search(self, need: Need) -> list[Offer]:
        found: list[Offer] = []
        filters = filters_of(need, await self._spellings(need))
        for kind in kinds(need):
            seen = await rows(self.client, filters, kind, disk_gb(need), background=True)
            found += offers(seen, need, kind, self._clock.now(), self.settings.name_of)
        return sorted(found, key=lambda offer: offer.price_micros_per_hour)

    async def rent(self, offer: Offer, label: str, boot: Boot) -> Machinery:
        """The machine under this label, created if there was none yet.

        Raises NoCapacity when the offer is gone or the bid does not win; ProviderError when nothing is known, and
        then the label is looked for before anything is created again.
        """
        marked = self._marked(label)
        order = Order(offer=offer, label=marked, script=self.settings.script_for(boot, offer))
        lock = self._locks.setdefault(label, asyncio.Lock())
        async with lock:
            row = await self._only(marked)
            if row is None:
                row = await self._create(order)
        return self._record.machinery(row, label, self._clock.monotonic())

    async def machines(self) -> list[Machinery]:
        """All contracts of this installation, those that ended by themselves included. Raises ProviderError.

        A second contract under one label (two processes created it in one instant) is told under a label of its own,
        which nobody knows, so that it is ended.
        """
        listed = [row for row in await self.roster.rows() if self._label_of(row) is not None]
        await self._welcome(listed)
        new = self._record.unlisted(self._clock.monotonic())
        ours = [row for row in (*listed, *new) if not self._record.is_over(row)]
        await self._find_out(ours)
        now, seen, found = self._clock.monotonic(), set(), []
        for row in ours:
            label = self._label_of(row) or ""
            label = f"{label}+{row['id']}" if label in seen else label
            seen.add(label)
            found.append(self._record.machinery(row, label, now))
        return found

    async def machine(self, ref: str) -> Machinery:
        """One machine. Raises NoSuchInstance only when the service denies it twice, by list and by name."""
        row = await self._ours(ref)
        await self._find_out([row])
        return self._record.machinery(row, self._label_of(row) or "", self._clock.monotonic())

    async def release(self, ref: str) -> None:
        """Destroy until a list that was read whole lacks it; again while it is still there. Raises ProviderError."""
        if not ref.isdecimal():
            return
        number = int(ref)
        row = await self.roster.listed(number)
        if row is not None and self._label_of(row) is None:
            raise ProviderError(f"Instance {ref} on this Vast.ai account is not of this installation; left as it is.")
        until = self._clock.monotonic() + RELEASE_S_MAX
        self._shelf.changed()
        while True:
            await self._destroy(number)
            for wait_s in GONE_POLL_S:
                await self._clock.sleep(wait_s)
                if await self.roster.listed(number) is None:
                    self._record.forget(number)
                    return
            if self._clock.monotonic() > until:
                raise ProviderError(f"Vast.ai still lists instance {ref}, which was destroyed. Release it again.")

    async def start(self, ref: str) -> None:
        """Start a stopped machine. Raises NoCapacity when its GPU is taken; the queued start is cancelled then."""
        row = await self._ours(ref)
        try:
            await self._state(row["id"], "running")
        except Refusal as refusal:
            if refusal.code != "resources_unavailable":
                raise
            await self._state(row["id"], "stopped")  # it would start some hour, and bill
            raise NoCapacity(
                f"The GPU of instance {ref} is taken. Raise its bid, or rent another machine."
            ) from refusal
        self._record.started(row["id"], self._clock.monotonic())

    async def stop(self, ref: str) -> None:
        """Stop a machine; its disk stays and bills."""
        row = await self._ours(ref)
        await self._state(row["id"], "stopped")
        self._record.asked.add(row["id"])
        self._shelf.changed()

    async def kill(self, ref: str) -> None:
        """End a machine without its knowledge, for drills: it stays listed as STOPPED. Raises NoSuchInstance."""
        await self.stop(ref)

    async def change_bid(self, ref: str, micros_per_hour: int) -> None:
        """Bid so much for the whole machine. One that was outbid comes back by this alone. Raises ProviderError."""
        row = await self._ours(ref)
        number = row["id"]
        body: Content = {"client_id": "me", "price": dollars(micros_per_hour)}
        await self.client.call(
            Call(endpoint="bid", method="PUT", path=f"/api/v0/instances/bid_price/{number}/", body=body)
        )
        self._record.bids[number] = micros_per_hour
        if number not in self._record.asked:
            self._record.started(number, self._clock.monotonic())

    async def logs(self, ref: str, lines: int = 1000) -> str:
        """The last lines of a machine's output. Raises ProviderError, also when they do not come within 15 s."""
        row = await self._ours(ref)
        path = f"/api/v0/instances/request_logs/{row['id']}/"
        answer = await self.client.call(Call(endpoint="logs", method="PUT", path=path, body={"tail": str(lines)}))
        url = answer.get("result_url")
        if not isinstance(url, str):
            raise ProviderError("Vast.ai took the request for a log and named no place for it. Try again.")
        for _ in range(LOG_POLLS):
            if (text := await self.client.text(url)) is not None:
                return text
            await self._clock.sleep(LOG_POLL_S)
        raise ProviderError(f"The log of instance {ref} did not come. Its host may be slow: try again.")

    async def credit_micros(self) -> int:
        """What the account may still spend, in micro-units. Raises ProviderError."""
        answer = await self.client.call(Call(endpoint="user", method="GET", path="/api/v0/users/current"))
        return credit_of(answer)

    async def _spellings(self, need: Need) -> list[str]:
        """The service's own names of the GPUs that are wanted, from the names that it knows; asked for once a day.

        None, which filters nothing, when it does not tell.
        """
        if not need.gpu_names:
            return []
        now = self._clock.monotonic()
        if self._names is None or now - self._names[0] > NAMES_KEPT_S:
            try:
                answer = await self.client.call(Call(endpoint="names", method="GET", path="/api/v0/gpu_names/unique/"))
            except ProviderError:
                return []
            names = answer.get("gpu_names")
            self._names = (now, [str(name) for name in names] if isinstance(names, list) else [])
        return spellings_of(need.gpu_names, self._names[1], self.settings.name_of)

    async def _create(self, order: Order) -> Content:
        self._shelf.changed(order.offer.host)
        kind = ON_DEMAND if order.offer.interruption is Interruption.NEVER else BID
        row = await self._renting.create(order, kind, self.release)
        bid = row.pop("our_bid", None)
        self._record.created(row, bid, self._clock.monotonic())
        return row

    async def _only(self, marked: str) -> Content | None:
        """The contract of this label; the older one stays when two were created in one instant.

        A driver that has just begun looks twice: its predecessor may have created what is not listed yet.
        """
        found = await self.roster.labelled(marked)
        await self._welcome(found)
        new = self._record.unlisted(self._clock.monotonic())
        found += [row for row in new if row["label"] == marked]
        young_s = self._began + YOUNG_S - self._clock.monotonic()
        if not found and young_s > 0:
            await self._clock.sleep(young_s)
            found = await self.roster.labelled(marked)
        for surplus in found[1:]:
            await self.release(str(surplus["id"]))
        return found[0] if found else None

    async def _ours(self, ref: str) -> Content:
        if not ref.isdecimal():
            raise NoSuchInstance(f"Vast.ai numbers its instances; there is none called {ref!r}.")
        try:
            row = await self.roster.one(int(ref))
        except NoSuchInstance:
            new = {row["id"]: row for row in self._record.unlisted(self._clock.monotonic())}
            if int(ref) not in new:
                raise
            return new[int(ref)]
        if self._label_of(row) is None:
            raise NoSuchInstance(f"Instance {ref} on this Vast.ai account is not of this installation.")
        if self._record.is_over(row):
            raise NoSuchInstance(f"Instance {ref} was destroyed, and Vast.ai only still shows it.")
        await self._welcome([row])
        return row

    async def _welcome(self, listed: list[Content]) -> None:
        """What was created here and is listed for the first time is new no more, and started where it came up stopped.

        When its GPU is taken it stays stopped, and control lets it go.
        """
        for row in listed:
            number: int = row["id"]
            new = self._record.new.pop(number, None) is not None
            if not new or number in self._record.asked or not came_up_stopped(row):
                continue
            try:
                await self._state(number, "running")
            except Refusal:
                await self._state(number, "stopped")  # a queued start would bill some day

    async def _destroy(self, number: int) -> None:
        """Ask for its end. That there is none is fine: the list has the last word."""
        try:
            await self.client.call(
                Call(endpoint="destroy", method="DELETE", path=f"/api/v0/instances/{number}/", body={})
            )
        except Refusal as refusal:
            if not is_missing(refusal):
                raise

    async def _state(self, number: int, state: str) -> None:
        path = f"/api/v0/instances/{number}/"
        await self.client.call(Call(endpoint="state", method="PUT", path=path, body={"state": state}))

    async def _find_out(self, ours: list[Content]) -> None:
        """Why those that stopped unasked did: one search and one look at the account for all of them."""
        now = self._clock.monotonic()
        for row in ours:
            self._record.saw(row, now)
        puzzles = [row for row in ours if self._record.needs_verdict(row, now)]
        if not puzzles:
            return
        evidence = await self._evidence(puzzles)
        for row in puzzles:
            why, told_by = reason(row, evidence, self._record.bids.get(row["id"]))
            self._record.verdicts[row["id"]] = Verdict(why, told_by, now)

    async def _evidence(self, puzzles: list[Content]) -> Evidence:
        """Neither may keep the list from being answered: what is not told stays UNTOLD."""
        credit, seen = None, None
        try:
            credit = await self.credit_micros()
            hosts = sorted({row["machine_id"] for row in puzzles if isinstance(row.get("machine_id"), int)})
            seen = tuple(await rows(self.client, {"machine_id": {"in": hosts}}, BID, 8))
        except ProviderError:
            pass
        return Evidence(credit_micros=credit, rows=seen, now=self._clock.now())

    def _marked(self, label: str) -> str:
        marked = f"dumont/{self.settings.installation}/{label}"
        if not label or len(marked) > LABEL_CHARS_MAX:
            raise ProviderError(f"Vast.ai takes labels of at most {LABEL_CHARS_MAX} characters; shorten {label!r}.")
        return marked

    def _label_of(self, row: Content) -> str | None:
        """Our label of a contract; None when it is not of this installation."""
        prefix, label = f"dumont/{self.settings.installation}/", row.get("label")
        return label.removeprefix(prefix) if isinstance(label, str) and label.startswith(prefix) else None


def credit_of(answer: Content) -> int:
    """The spendable credit that an account's record tells, in micro-units. Raises ProviderError."""
    credit = Row(answer).number("credit")
    if credit is None:
        raise ProviderError("Vast.ai told of the account without its credit. Look at Vast.ai, Billing.")
    return int(credit * 1_000_000)
