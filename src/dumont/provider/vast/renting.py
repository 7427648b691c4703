"""Creating a contract: the offer found again, the bid, and what to do when the answer is no, half a yes, or lost."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dumont.clock import Clock
from dumont.errors import NoCapacity, ProviderError
from dumont.model.instance import Machine
from dumont.provider.base import Offer
from dumont.provider.vast.client import Call, Client, Content, Refusal, TooFrequent, Unanswered
from dumont.provider.vast.offers import (
    BID,
    DISK_GB_MIN,
    NameOf,
    Row,
    Unreadable,
    as_it_is,
    dollars,
    gpu_of,
    micros,
    rows,
)
from dumont.provider.vast.record import PORTS
from dumont.provider.vast.roster import Roster
from dumont.provider.vast.states import came_up_stopped

ASKS_MAX = 3
LABEL_CHARS_MAX = 256
SCRIPT_BYTES_MAX = 4096
LOOK_S = (0.0, 2.0, 4.0, 8.0)
UNSURE_S = 120.0
"""So long after a lost answer nothing is created under its label: the service lists a new contract late."""
BID_MICROS_MIN, BID_MICROS_MAX = 1_000, 128_000_000

Release = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be rented. `label` as it is marked at Vast.ai; `script` runs at each start of the machine."""

    offer: Offer
    label: str
    script: str


class Renting:
    """The one place that creates contracts. `name_of` gives GPUs the names that offers have."""

    def __init__(self, client: Client, roster: Roster, image: str, clock: Clock, name_of: NameOf = as_it_is) -> None:
        self._client = client
        self._roster = roster
        self._image = image
        self._clock = clock
        self._name_of = name_of
        self._unsure: dict[str, float] = {}

    async def create(self, order: Order, kind: str, release: Release) -> Content:
        """The row of a new contract, with `our_bid` when it is one. The caller holds the label's lock and has looked.

        Raises NoCapacity (and leaves nothing behind), or ProviderError when it is unknown whether there is one.
        """
        if len(order.script.encode()) > SCRIPT_BYTES_MAX:
            raise ProviderError(
                f"Vast.ai takes start scripts of at most {SCRIPT_BYTES_MAX} bytes; shorten the bootstrap."
            )
        if self._unsure.get(order.label, 0.0) > self._clock.monotonic():
            raise ProviderError("An earlier create under this label has no answer yet. Look again in two minutes.")
        gone: Refusal | None = None
        for _ in range(ASKS_MAX):
            row = await self._slice(order.offer, kind)
            bid = _bid(order.offer, row) if kind == BID else None
            self._unsure[order.label] = self._clock.monotonic() + UNSURE_S  # also when this task is cancelled
            try:
                answer = await self._client.call(self._call(order, row.ask, bid))
            except Unanswered as error:
                return await self._after_a_lost_answer(order.label, error) | {"our_bid": bid}
            except TooFrequent:
                del self._unsure[order.label]
                raise
            except Refusal as refusal:
                del self._unsure[order.label]
                if not _is_gone(refusal):
                    await self._refused(refusal, release)
                gone = refusal
                continue
            del self._unsure[order.label]
            return await self._new(order, answer, release) | {"our_bid": bid}
        raise NoCapacity(f"{order.offer.name} on host {order.offer.host} was rented by others meanwhile.") from gone

    async def _slice(self, offer: Offer, kind: str) -> Row:
        """The offer as it is listed now: ids change, host and size do not. Raises NoCapacity."""
        if not offer.host.isdecimal():
            raise NoCapacity(f"The offer {offer.id} names no host of Vast.ai. Search again.")
        filters: Content = {"machine_id": {"eq": int(offer.host)}, "rentable": {"eq": True}}
        found = await rows(self._client, filters, kind, int(offer.disk_gb or DISK_GB_MIN))
        right = [row for row in found if _is_of(row, offer, kind, self._name_of)]
        if not right:
            raise NoCapacity(f"{offer.name} on host {offer.host} is not offered any more, or at a higher price.")
        return min(right, key=lambda row: (row.number("dph_total") or 0, row.ask))

    def _call(self, order: Order, ask: int, bid: int | None) -> Call:
        """`cancel_unavail` always: without it a bid that does not win leaves a stopped contract, which bills."""
        body: Content = {
            "client_id": "me",
            "image": self._image,
            "env": {f"-p {port}:{port}": "1" for port in PORTS},
            "price": None if bid is None else dollars(bid),
            "disk": float(order.offer.disk_gb or DISK_GB_MIN),
            "label": order.label,
            "onstart": order.script,
            "runtype": "ssh_direc ssh_proxy",
            "target_state": "running",
            "cancel_unavail": True,
        }
        return Call(endpoint="create", method="PUT", path=f"/api/v0/asks/{ask}/", body=body, repeats=False)

    async def _refused(self, refusal: Refusal, release: Release) -> None:
        """Raises always; ends the stopped contract that a refusal may have left."""
        contract = refusal.content.get("new_contract")
        if isinstance(contract, int):
            await release(str(contract))
            raise NoCapacity("The bid does not win this machine now. Bid more, or take another.") from refusal
        if refusal.code == "insufficient_credit":
            raise ProviderError("The Vast.ai account lacks credit: add some at Vast.ai, Billing.") from refusal
        raise refusal

    async def _new(self, order: Order, answer: Content, release: Release) -> Content:
        """The row of the contract that was just created; started once more where it came up stopped."""
        number = answer.get("new_contract")
        if not isinstance(number, int):
            return await self._after_a_lost_answer(
                order.label, Unanswered("Vast.ai created a machine without a number.")
            )
        new: Content = {
            "id": number, "label": order.label, "actual_status": None, "intended_status": "running",
            "cur_state": "running", "next_state": "running",
        }  # fmt: skip
        try:
            found = await self._roster.labelled(order.label)
        except ProviderError:
            return new  # it exists: the create was answered
        for surplus in found[1:]:
            await release(str(surplus["id"]))
        row = found[0] if found else new
        if row["id"] == number and came_up_stopped(row):
            await self._start_once(number, release)
            return new
        return row

    async def _start_once(self, number: int, release: Release) -> None:
        """A new contract may come up stopped; one start brings it up, or it is ended. Raises NoCapacity."""
        path = f"/api/v0/instances/{number}/"
        try:
            await self._client.call(Call(endpoint="state", method="PUT", path=path, body={"state": "running"}))
        except Refusal as refusal:
            await release(str(number))
            raise NoCapacity("The machine was taken by somebody else in the same moment. Try another.") from refusal

    async def _after_a_lost_answer(self, label: str, error: Unanswered) -> Content:
        """Look for the label for some seconds. Raises ProviderError when it is not listed, which may mean late."""
        self._unsure[label] = self._clock.monotonic() + UNSURE_S
        for wait_s in LOOK_S:
            await self._clock.sleep(wait_s)
            found = await self._roster.labelled(label)
            if found:
                del self._unsure[label]
                return found[0]
        raise ProviderError(
            f"{error} Whether a machine was created is unknown; it is looked for by its label."
        ) from error


def _is_of(row: Row, offer: Offer, kind: str, name_of: NameOf) -> bool:
    """Whether this row is the offer: same host, same size, nothing of ours on it, and not dearer than was decided."""
    try:
        right = str(row.machine_id) == offer.host and row.content.get("rented") is not True
        if offer.machine is Machine.GPU:
            right = right and row.gpus == offer.gpus and gpu_of(row, name_of) == offer.gpu
        price = micros(row.needed("min_bid") if kind == BID else row.needed("dph_base"))
    except Unreadable:
        return False
    return right and price <= _most(offer)


def _most(offer: Offer) -> int:
    """What may be paid for the GPU part: the bid, or the listed price where none was decided."""
    return offer.bid_micros_per_hour or offer.compute_micros_per_hour or 0


def _bid(offer: Offer, row: Row) -> int:
    bid = offer.bid_micros_per_hour or micros(row.needed("min_bid"))
    return min(max(bid, BID_MICROS_MIN), BID_MICROS_MAX)


def _is_gone(refusal: Refusal) -> bool:
    """Whether the offer vanished: 404, 410 and 400 all say so, in `error` or in `msg`."""
    if isinstance(refusal.content.get("new_contract"), int):
        return False
    return "no_such_ask" in f"{refusal.content.get('error')} {refusal.content.get('msg')}"
