"""The emulated service's whole state: account, market and rentals, on a clock and a ground given as arguments.

`settle` brings it up to the present instant: it bills, ends what is over, and hands the GPUs of each box to whoever
outranks the others. Everything that a request or a knob changes goes through `World`, between two settlements.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random
from typing import Any

from dumont.clock import Clock
from dumont.emulate.ground import Ground
from dumont.emulate.vast.faults import Book, Habits
from dumont.emulate.vast.limits import Limits
from dumont.emulate.vast.market import Asks, Box, Rival, Slice, generate
from dumont.emulate.vast.rental import HOUR_S, MICROS, Halt, Rental
from dumont.errors import DumontError

KEY = "emulated-key"
CREDIT_USD = 25
BOXES = 90
HEARD_MAX = 10_000
BAD_IMAGES = {
    "missing": "Error response from daemon: manifest for {image} not found: manifest unknown",
    "private": "Error: pull access denied for {image}, repository does not exist or may require login: unauthorized",
    "device": "OCI runtime create failed: CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=0",
}
"""What an image's name may hold to fail in that way."""


@dataclass(kw_only=True)
class Account:
    """Who rents. `keys` are API keys with the categories that each may use; None: all. Credit in micro-dollars."""

    id: int = 456
    credit: Fraction = Fraction(CREDIT_USD * MICROS)
    spent: Fraction = Fraction(0)
    keys: dict[str, frozenset[str] | None] = field(default_factory=lambda: {KEY: None})
    ssh_keys: dict[int, str] = field(default_factory=dict)


class World:
    """One emulated Vast.ai with one account."""

    def __init__(self, clock: Clock, rng: Random, ground: Ground, boxes: list[Box] | None = None) -> None:
        self.clock = clock
        self.rng = rng
        self.ground = ground
        self.shift_s = 0.0
        self.account = Account()
        self.habits = Habits()
        self.book = Book(rng)
        self.limits = Limits()
        self.asks = Asks()
        drawn = generate(rng, BOXES, self.now()) if boxes is None else boxes
        self.boxes = {box.machine_id: box for box in drawn}
        self.rentals: dict[int, Rental] = {}
        self.logs: dict[str, tuple[str, int]] = {}
        self.heard: deque[tuple[str, str, str]] = deque(maxlen=HEARD_MAX)
        self.numbers = itertools.count(21_448_812)
        self._settled_at = self.now()

    def now(self) -> float:
        """Unix seconds, with what was advanced by hand."""
        return self.clock.now().timestamp() + self.shift_s

    @property
    def present(self) -> list[Rental]:
        """The contracts that exist."""
        return [rental for rental in self.rentals.values() if rental.gone_at is None]

    def settle(self) -> None:
        """Bring everything up to now, in the order in which it happened."""
        now = self.now()
        while self._settled_at < now:
            until = min([now, *(at for at in self._boundaries() if self._settled_at < at < now)])
            until = self._until_broke(until)
            for rental in self.present:
                cost = rental.bill(until, self.habits)
                self.account.credit -= cost
                self.account.spent += cost
            self._settled_at = until
            self._arrange(until)
        self._arrange(now)

    def _boundaries(self) -> list[float]:
        """When the price of anything changes by itself."""
        found = []
        for rental in self.present:
            found.append(rental.box.ends_at)
            if (ready_at := rental.ready_at(self.habits)) is not None:
                found.append(ready_at)
            if rental.failure and rental.holding is not None:
                found.append(rental.holding + self.habits.boot_s)
            if rental.queued_since is not None:
                found.append(rental.queued_since + self.habits.queue_s)
        return found

    def _until_broke(self, until: float) -> float:
        """`until`, or the earlier instant when the credit is used up."""
        rate = sum((rental.rate(self._settled_at, self.habits) for rental in self.present), Fraction(0))
        credit = self.account.credit
        if rate <= 0 or credit <= 0:
            return until
        broke_at = self._settled_at + float(credit * HOUR_S / rate)
        return broke_at if self._settled_at < broke_at < until else until

    def _arrange(self, now: float) -> None:
        """Who holds which GPUs, from this instant on."""
        broke = self.account.credit < 1  # a micro-dollar: the instant is a float
        for rental in self.present:
            if broke and rental.wanted:
                rental.wanted, rental.halt = False, Halt.CREDIT
            if now >= rental.box.ends_at:
                rental.halt = Halt.ENDED
            if rental.holding is not None and "OCI" in rental.failure and now >= rental.holding + self.habits.boot_s:
                self._stop(rental)  # its daemon gives it up
            due = rental.queued_since is not None and now >= rental.queued_since + self.habits.queue_s
            if due and self.habits.queue_reverts:
                rental.queued_since, rental.wanted = None, False
        for box in self.boxes.values():
            self._auction(box, now)

    def _auction(self, box: Box, now: float) -> None:
        """On demand before every bid; then the highest bid for a GPU; among equals whoever holds already, then age."""
        contenders: list[tuple[tuple[float, int, int], int, Rental | None]] = []
        for number, rival in enumerate(box.rivals):
            rank = float("inf") if rival.bid is None else float(rival.bid)
            contenders.append(((-rank, 0, -number), rival.gpus, None))
        for rental in self.present:
            if rental.box is box:
                if self._is_due(rental, now):
                    rank = float("inf") if rental.bid is None else rental.bid / rental.gpus
                    contenders.append(((-rank, 0 if rental.holding is not None else 1, rental.id), rental.gpus, rental))
                else:
                    self._stop(rental)
        free = box.gpus
        for _, gpus, contender in sorted(contenders, key=lambda contender: contender[0]):
            fits = gpus <= free
            free -= gpus if fits else 0
            if contender is None:
                continue
            if not fits:
                self._stop(contender)
            elif contender.holding is None and box.online:
                self._start(contender, now)
        for rental in self.present:
            if rental.box is box and rental.holding is not None and rental.is_up(now, self.habits) and not rental.up:
                self._run(rental)

    def _is_due(self, rental: Rental, now: float) -> bool:
        if not rental.wanted or rental.halt is not Halt.NONE or rental.races:
            return False
        if rental.bid is not None and rental.bid < rental.box.floor * rental.gpus:
            return False
        return rental.queued_since is None or now >= rental.queued_since + self.habits.queue_s

    def _start(self, rental: Rental, now: float) -> None:
        rental.holding, rental.queued_since = now, None
        rental.starts += 1
        for word, text in BAD_IMAGES.items():
            if word in rental.image:
                rental.failure = text.format(image=rental.image)

    def _run(self, rental: Rental) -> None:
        """Have the ground run it; `up` until the ground has stopped it."""
        rental.up = True
        address = self.ground.address(rental.name)
        environment = {name: value for name, value in rental.environment.items() if not name.startswith("-")}
        environment |= {
            "CONTAINER_ID": str(rental.id),
            "CONTAINER_API_KEY": rental.key,
            "VAST_CONTAINERLABEL": rental.name,
            "PUBLIC_IPADDR": address,
            "GPU_COUNT": str(rental.gpus),
            "DATA_DIRECTORY": "/workspace/",
        }
        for port in rental.opened():
            environment[f"VAST_TCP_PORT_{port}"] = str(self.ground.outside(rental.name, port))

        async def run() -> None:
            await self.ground.start(rental.name, rental.onstart, environment)

        self._after(rental, run())

    def _stop(self, rental: Rental) -> None:
        if rental.holding is None:
            return
        rental.holding = None
        if rental.failure and "OCI" in rental.failure:
            rental.halt = Halt.FAILED
        if not rental.up:
            return

        async def stop() -> None:
            await self.ground.stop(rental.name, self.habits.stop_grace_s)
            rental.up = False

        self._after(rental, stop())

    def _after(self, rental: Rental, work: Coroutine[Any, Any, None]) -> None:
        """Do this to a rental when what was begun with it before is done. What fails is the container's failure."""
        before = rental.work

        async def in_turn() -> None:
            if before is not None:
                await asyncio.wait([before])
            try:
                await work
            except (OSError, DumontError) as error:
                rental.failure = f"OCI runtime create failed: {error}"

        rental.work = asyncio.get_running_loop().create_task(in_turn())

    def end(self, rental: Rental) -> None:
        """Destroy it: its GPUs are free and its bill ends now; it stays listed for `gone_lag_s`."""
        rental.gone_at, rental.holding = self.now(), None
        self._after(rental, self.ground.end(rental.name))
        self.settle()

    def reboot(self, rental: Rental) -> None:
        """Stop and start with its GPUs kept: a new boot begins now. What does not hold any stays as it is."""
        if rental.holding is not None:
            now = self.now()
            self._stop(rental)
            self._start(rental, now)
            self.settle()

    def recycle(self, rental: Rental) -> None:
        """Make its container anew with its GPUs kept: its disk is empty then."""
        if rental.holding is not None:
            now = self.now()
            self._stop(rental)
            self._after(rental, self.ground.end(rental.name))
            self._start(rental, now)
            self.settle()

    async def idle(self) -> None:
        """Return when the ground has done all that it was told."""
        while works := [r.work for r in self.rentals.values() if r.work is not None and not r.work.done()]:
            await asyncio.wait(works)

    def free(self, box: Box, *, bids_count: bool) -> int:
        """GPUs that nobody holds; without `bids_count`, those that an on-demand renter would get."""
        held = sum(rival.gpus for rival in box.rivals if bids_count or rival.bid is None)
        held += sum(
            rental.gpus
            for rental in self.present
            if rental.box is box and rental.holding is not None and (bids_count or rental.bid is None)
        )
        return box.gpus - held

    def winning_bid(self, box: Box, gpus: int) -> int | None:
        """The lowest bid that wins a slice now, for all of it; None when on-demand renters leave no room."""
        missing = gpus - self.free(box, bids_count=True)
        per_gpu = box.floor
        holders = [(rival.bid, rival.gpus) for rival in box.rivals if rival.bid is not None]
        holders += [
            (-(-rental.bid // rental.gpus), rental.gpus)
            for rental in self.present
            if rental.box is box and rental.holding is not None and rental.bid is not None
        ]
        for bid, held in sorted(holders):
            if missing <= 0:
                break
            missing -= held
            per_gpu = max(per_gpu, bid + 1_000)
        return None if missing > 0 else per_gpu * gpus

    def slices(self, box: Box, *, bids: bool) -> list[Slice]:
        """What a search sees of a box: a slice of each size that still fits, and those that we hold by a bid."""
        if not (box.online and box.listed) or self.now() >= box.ends_at:
            return []
        ours = [r for r in self.present if r.box is box and r.holding is not None and r.bid is not None]
        room = self.free(box, bids_count=False) - sum(rental.gpus for rental in ours)
        found = [Slice(box.machine_id, size) for size in box.sizes() if size <= room]
        return found + [Slice(box.machine_id, rental.gpus, rental.id) for rental in ours if bids]

    def outbid(self, rental: Rental, by: int = 10_000) -> Rival:
        """Somebody bids `by` micro-dollars more for each of its GPUs, and for all that is free beside them."""
        if rental.bid is None:
            raise ValueError("an on-demand instance can't be outbid; take its host offline or stop it")
        gpus = rental.gpus + max(self.free(rental.box, bids_count=True), 0)
        rival = Rival(gpus=gpus, bid=-(-rental.bid // rental.gpus) + by)
        rental.box.rivals.append(rival)
        self.settle()
        return rival

    def displace(self, rental: Rental) -> Rival:
        """An on-demand renter takes all of the box that no other on-demand renter has."""
        rival = Rival(gpus=self.free(rental.box, bids_count=False), bid=None)
        rental.box.rivals.append(rival)
        self.settle()
        return rival

    def withdraw(self, box: Box) -> None:
        """All other renters of a box leave."""
        box.rivals.clear()
        self.settle()

    def halt(self, rental: Rental) -> None:
        """Its host stops it; a plain start brings it back."""
        rental.halt = Halt.HOST
        self.settle()
