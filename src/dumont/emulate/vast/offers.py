"""The emulated search: `POST /bundles/` and its newer spelling, over what the market has now."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dumont.emulate.vast.answer import Refusal, body_of
from dumont.emulate.vast.market import Box, Slice
from dumont.emulate.vast.query import Invalid, Row, ordered, passes
from dumont.emulate.vast.rental import MICROS
from dumont.emulate.vast.world import World

ROWS_MAX = 64
STORAGE_GB = 8.0
CONTROLS = ("type", "order", "limit", "allocated_storage", "disable_bundling", "select_cols")


async def search(world: World, request: Request) -> Response:
    return JSONResponse({"offers": found(world, await body_of(request))})


async def search_asks(world: World, request: Request) -> Response:
    query = (await body_of(request)).get("q")
    if not isinstance(query, dict):
        raise Refusal(400, "invalid_request", "Invalid json body")
    return JSONResponse({"offers": found(world, query)})


async def gpu_names(world: World, request: Request) -> Response:
    return JSONResponse({"gpu_names": sorted({box.model.name for box in world.boxes.values()})})


def found(world: World, query: Row) -> list[Row]:
    """The rows of one search, at most 64 of them. Raises Refusal for what the service does not understand."""
    bids = query.get("type", "on-demand") in ("bid", "interruptible")
    filters = {name: value for name, value in query.items() if name not in CONTROLS}
    storage_gb = float(query.get("allocated_storage") or STORAGE_GB)
    slices = [wanted for box in world.boxes.values() for wanted in world.slices(box, bids=bids)]
    ids = world.asks.publish(slices, reshuffle=world.habits.reshuffle)
    try:
        rows = []
        for wanted, ask in ids.items():
            row = offer_row(world, wanted, bids=bids, storage_gb=storage_gb)
            if row is not None and _passes(world, row | {"id": ask, "ask_contract_id": ask}, filters):
                rows.append(row | {"id": ask, "ask_contract_id": ask})
        order = [(str(name), str(direction)) for name, direction in query.get("order") or [["score", "desc"]]]
        rows = ordered(rows, order)
    except (Invalid, TypeError, ValueError) as error:
        raise Refusal(400, "invalid_request", str(error)) from error
    rows = [row for row in rows for _ in range(1 + (world.rng.random() < world.habits.doubled_share))]
    limit = int(query.get("limit") or ROWS_MAX)
    return rows[: min(limit, ROWS_MAX)]


def _passes(world: World, row: Row, filters: dict[str, Any]) -> bool:
    if "id" in filters:
        return False  # as the service: pin a machine by machine_id
    seen = row | {"verified": row["verification"] == "verified", "datacenter": row["hosting_type"] == 1}
    strict = {
        name: condition
        for name, condition in filters.items()
        if isinstance(seen.get(name), str | bool) or world.rng.random() >= world.habits.sloppy_share
    }
    return passes(seen, strict)


def offer_row(world: World, wanted: Slice, *, bids: bool, storage_gb: float) -> Row | None:
    """One row; None when on-demand renters leave no room for it. A slice that we hold shows our own bid."""
    box = world.boxes[wanted.machine_id]
    holder = world.rentals.get(wanted.holder)
    winning = world.winning_bid(box, wanted.gpus)
    min_bid = holder.price if holder is not None else winning
    if min_bid is None:
        return None
    base = min_bid / MICROS if bids else box.price * wanted.gpus / MICROS
    storage = float(box.storage_micros(storage_gb)) / MICROS
    total = base + storage
    now = world.now()
    row = box.hardware(wanted.gpus)
    prices = {
        "gpuCostPerHour": base, "diskHour": storage, "totalHour": total, "discountTotalHour": 0,
        "discountedTotalPerHour": total,
    }  # fmt: skip
    return row | {
        "disk_space": _disk_left(world, box), "public_ipaddr": box.address, "storage_total_cost": storage,
        "dph_base": base, "dph_total": total, "dph_total_adj": total, "min_bid": min_bid / MICROS, "is_bid": bids,
        "rentable": True, "rented": holder is not None, "external": False, "start_date": box.starts_at,
        "end_date": box.ends_at, "duration": box.ends_at - now, "dlperf_per_dphtotal": row["dlperf"] / total,
        "flops_per_dphtotal": row["total_flops"] / total, "score": row["dlperf"] / total * box.reliability,
        "vram_costperhour": total / row["gpu_total_ram"], "search": prices, "instance": prices,
        "discount_rate": None, "discounted_hourly": 0, "discounted_dph_total": total, "credit_discount_max": 0.4,
        "expected_reliability": None, "reliability_mult": None, "is_vm_deverified": False, "vericode": 1,
        "avail_vol_ask_id": None, "avail_vol_dph": None, "avail_vol_size": None, "time_remaining": "",
        "time_remaining_isbid": "", "platform_fee": None, "hostname": None, "geolocode": 0,
    }  # fmt: skip


def _disk_left(world: World, box: Box) -> float:
    return box.disk_gb - sum(rental.disk_gb for rental in world.present if rental.box is box)
