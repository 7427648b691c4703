"""Searching: what is asked of Vast.ai, and how its rows become offers, each constraint checked again by us.

Rows come at most 64 at a time, some twice, some that a filter should have kept out, under ids that change with every
search. Prices are parsed as decimals and become whole micro-units once.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Any

from dumont.errors import ProviderError
from dumont.model.instance import Machine
from dumont.model.offer import HOURS_PER_MONTH, Interruption, Need, Offer
from dumont.provider.vast.client import Call, Client, Content

NAME = "vast"
PAGE_ROWS = 64
PAGES_MAX = 2
DISK_GB_MIN = 8
BOOT_S_MAX = 600.0
"""A pull takes one to five minutes, on slow hosts longer (contract, practical rules); those are given up."""
PORTS_MIN = 4
"""The agent's three and SSH's: others have to reach a machine without Vast.ai's proxy."""
MICROS = 1_000_000
BID, ON_DEMAND = "bid", "on-demand"


NameOf = Callable[[str, int | None], str]
"""The market's normal name of a GPU, from the service's own and its usable memory in MB; "" when it knows none."""


def as_it_is(name: str, vram_mb: int | None) -> str:
    """The service's own name."""
    return name


_MEMORY = re.compile(r"\s*\d+ ?GB$")


class Unreadable(ValueError):
    """A row without a field that we need, or with one of another type."""


@dataclass(frozen=True)
class Row:
    """One row of a search, read with care: what is missing is None, what is wrong is Unreadable."""

    content: Content

    def number(self, name: str) -> Decimal | None:
        value = self.content.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or not Decimal(value).is_finite():
            raise Unreadable(f"{name} is {value!r}")
        return Decimal(value)

    def needed(self, name: str) -> Decimal:
        value = self.number(name)
        if value is None:
            raise Unreadable(f"{name} is missing")
        return value

    def text(self, name: str) -> str:
        value = self.content.get(name)
        return value.strip() if isinstance(value, str) else ""

    @property
    def ask(self) -> int:
        """Its id of this moment."""
        return int(self.number("ask_contract_id") or self.needed("id"))

    @property
    def machine_id(self) -> int:
        return int(self.needed("machine_id"))

    @property
    def gpus(self) -> int:
        return int(self.needed("num_gpus"))

    @property
    def country(self) -> str:
        """ISO code from `City, CC`; the city may be empty."""
        return self.text("geolocation").rpartition(",")[2].strip().upper()


def filters_of(need: Need, spellings: list[str]) -> Content:
    """What the service is asked to filter by. It need not obey: `fits` decides.

    `spellings` are its own names of the GPUs that are wanted; none lets all names pass here.
    """
    found: Content = {
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "external": {"eq": False},
        "verified": {"eq": True},
        "disk_space": {"gte": disk_gb(need)},
    }
    if need.machine is Machine.GPU:
        found["num_gpus"] = {"eq": need.gpus}
        if spellings:
            found["gpu_name"] = {"in": spellings}
        if need.vram_mb_min:
            found["gpu_ram"] = {"gte": need.vram_mb_min}
    if need.ram_mb_min:
        found["cpu_ram"] = {"gte": need.ram_mb_min}
    if need.reliability_min:
        found["reliability"] = {"gte": need.reliability_min}
    return found


def spellings_of(wanted: Iterable[str], known: Iterable[str], name_of: NameOf) -> list[str]:
    """Which of the service's names may stand for those wanted: the size of the memory is not always a part of one."""
    stems = {_MEMORY.sub("", name) for name in wanted}
    return sorted(name for name in known if _MEMORY.sub("", name_of(name, None) or name) in stems)


def disk_gb(need: Need) -> int:
    return max(need.disk_gb, DISK_GB_MIN)


def kinds(need: Need) -> list[str]:
    """The searches that a need takes."""
    return [BID] * need.spot + [ON_DEMAND] * need.on_demand


async def rows(client: Client, filters: Content, kind: str, storage_gb: int, *, background: bool = False) -> list[Row]:
    """All rows of one search by price, each once, up to 2 pages. Raises ProviderError: no list is not an empty one."""
    found: dict[tuple[object, ...], Row] = {}
    floor: Decimal | None = None
    for _ in range(PAGES_MAX):
        body = filters | {
            "type": kind,
            "order": [["dph_total", "asc"]],
            "limit": PAGE_ROWS,
            "allocated_storage": float(storage_gb),
        }
        if floor is not None:
            body["dph_total"] = {"gte": float(floor)}
        page = await _page(client, body, background=background)
        readable = list(_readable(page))
        before = len(found)
        for row in readable:
            key = (row.machine_id, row.gpus, row.number("min_bid"), row.content.get("rented"))
            found.setdefault(key, row)
        last = max((price for row in readable if (price := row.number("dph_total")) is not None), default=None)
        if len(page) < PAGE_ROWS or last is None or (len(found) == before and last == floor):
            break
        floor = last
    return list(found.values())


async def _page(client: Client, body: Content, *, background: bool) -> list[Any]:
    call = Call(endpoint="search", method="POST", path="/api/v0/bundles/", body=body, background=background)
    answer = await client.call(call)
    page = answer.get("offers")
    if not isinstance(page, list):
        raise ProviderError("Vast.ai answered a search without a list of offers. Try again later.")
    return page


def _readable(page: Iterable[Any]) -> Iterator[Row]:
    """The rows that name a machine; one broken row must not hide the others."""
    for content in page:
        row = Row(content) if isinstance(content, dict) else Row({})
        try:
            if row.ask and row.machine_id and row.gpus >= 0:
                row.number("min_bid"), row.number("dph_total")
                yield row
        except Unreadable:
            continue


def offers(found: Iterable[Row], need: Need, kind: str, now: datetime, name_of: NameOf = as_it_is) -> list[Offer]:
    """The rows that fit, cheapest first. Two rows of one slice are one offer."""
    result: dict[str, Offer] = {}
    for row in found:
        try:
            offer = offer_of(row, need, kind, now, gpu_of(row, name_of))
            if fits(row, offer, need):
                result.setdefault(offer.id, offer)
        except Unreadable:
            continue
    return sorted(result.values(), key=lambda offer: (offer.price_micros_per_hour, offer.id))


def gpu_of(row: Row, name_of: NameOf) -> str:
    """Our name of a row's GPU; the service's own where we have none."""
    name = row.text("gpu_name")
    return name_of(name, _whole(row.number("gpu_ram"))) or name


def offer_of(row: Row, need: Need, kind: str, now: datetime, gpu: str) -> Offer:
    """A row as an offer, its disk being the one that is needed. `gpu`: our name of its GPU. Raises Unreadable.

    Every row is a slice of a host with at least one GPU (contract §3.3, §3.5: `resource_type` is "gpu"): there is no
    CPU machine to rent. As one it costs what the whole slice does, and the offer names the GPU that is then idle.
    """
    storage_gb = disk_gb(need)
    compute = micros(row.needed("min_bid") if kind == BID else row.needed("dph_base"))
    rate = row.needed("storage_cost") * storage_gb / HOURS_PER_MONTH
    price = max(compute + micros(rate, ROUND_CEILING), micros(row.needed("dph_total"), ROUND_CEILING))
    is_gpu = need.machine is Machine.GPU
    ends_at = row.number("end_date")
    return Offer(
        id=f"{row.ask}/{kind}/{need.machine}/{storage_gb}",
        provider=NAME,
        machine=need.machine,
        name=_name(gpu, row.gpus) if is_gpu else f"{row.text('cpu_name') or 'CPU'}",
        price_micros_per_hour=price,
        spot=kind == BID,
        interruption=Interruption.OUTBID if kind == BID else Interruption.NEVER,
        gpu=gpu if is_gpu else "",
        gpus=row.gpus if is_gpu else 0,
        vram_mb=_whole(row.number("gpu_ram")) if is_gpu else None,
        vcpus=_real(row.number("cpu_cores_effective")),
        ram_mb=_whole(row.number("cpu_ram")),
        disk_gb=float(storage_gb),
        region=row.country,
        host=str(row.machine_id),
        domain=f"{NAME}/{row.machine_id}",
        reliability=_real(row.number("reliability")),
        verified=row.text("verification") == "verified" if row.text("verification") else None,
        down_mbps=_real(row.number("inet_down")),
        up_mbps=_real(row.number("inet_up")),
        compute_micros_per_hour=compute,
        disk_micros_per_hour=price - compute,
        address_micros_per_hour=0,
        ingress_micros_per_gb=_price(row.number("inet_down_cost")),
        egress_micros_per_gb=_price(row.number("inet_up_cost")),
        min_bid_micros_per_hour=micros(row.needed("min_bid")) if kind == BID else _price(row.number("min_bid")),
        boot_s_max=BOOT_S_MAX,
        ends_at=None if ends_at is None else datetime.fromtimestamp(float(ends_at), UTC),
        seen_at=now,
        idle_gpu="" if is_gpu else _name(gpu, row.gpus),
    )


def fits(row: Row, offer: Offer, need: Need) -> bool:
    """Whether an offer satisfies a need, by our own look: the service's filters are not exact."""
    most = need.price_micros_per_hour_max
    space = row.number("disk_space")
    checks = [
        row.content.get("rentable") is not False,
        row.content.get("rented") is not True,
        row.content.get("external") is not True,
        offer.verified is not False,
        offer.price_micros_per_hour > 0,
        space is not None and space >= disk_gb(need),
        most is None or offer.price_micros_per_hour <= most,
        (offer.ram_mb or 0) >= need.ram_mb_min,
        (offer.reliability or 0.0) >= need.reliability_min,
        not need.regions or offer.region in need.regions,
        (row.number("direct_port_count") or 0) >= PORTS_MIN,
    ]
    if need.machine is Machine.GPU:
        checks += [
            offer.gpus == need.gpus,
            not need.gpu_names or offer.gpu in need.gpu_names,
            (offer.vram_mb or 0) >= need.vram_mb_min,
        ]
    return all(checks)


def micros(usd: Decimal, rounding: str = ROUND_HALF_UP) -> int:
    """Dollars as whole millionths."""
    return int((usd * MICROS).quantize(Decimal(1), rounding=rounding))


def dollars(amount_micros: int) -> float:
    """Millionths as dollars: six places, which a float of this size holds exactly enough to print them again."""
    return float(Decimal(amount_micros) / MICROS)


def _name(gpu: str, gpus: int) -> str:
    return gpu if gpus == 1 else f"{gpus}× {gpu}"


def _price(usd: Decimal | None) -> int | None:
    return None if usd is None else micros(usd)


def _whole(value: Decimal | None) -> int | None:
    return None if value is None else int(value)


def _real(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
