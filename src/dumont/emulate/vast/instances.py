"""The emulated contracts: listed page by page, shown, started, stopped, bid for, labelled, destroyed, read from."""

import base64
import binascii
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from dumont.emulate.vast.answer import Refusal, body_of, done, refused
from dumont.emulate.vast.create import BID_USD_MIN
from dumont.emulate.vast.query import Invalid, Row, ordered, passes, structured
from dumont.emulate.vast.rental import MICROS, Halt, Rental
from dumont.emulate.vast.world import World

PAGE_MAX = 25
PAGE_OF_NONSENSE = 5
STORED = frozenset({"id", "label", "actual_status", "gpu_name", "verification", "machine_id", "cur_state"})
"""Columns that a filter may name; what is computed for the answer can't be searched."""


async def list_retired(world: World, request: Request) -> Response:
    msg = "/api/v0/instances/ is deprecated. Use /api/v1/instances/ instead."
    return refused(410, "deprecated_endpoint", msg)


async def list_instances(world: World, request: Request) -> Response:
    """One page by keyset: the cursor holds the last row's place in the order, so rows may come and go meanwhile."""
    params = request.query_params
    try:
        filters = structured(params.get("select_filters"), {})
        order = [(str(o["col"]), str(o.get("dir", "asc"))) for o in structured(params.get("order_by"), [])]
        columns = structured(params.get("select_cols"), ["*"])
        for name in filters:
            if name not in STORED:
                raise Invalid(f"{name} is not a valid search key")
        rows = [row for row in map(_row(world), _listed(world)) if passes(row, filters)]
    except (Invalid, KeyError, TypeError, AttributeError) as error:
        raise Refusal(400, "invalid_request", str(error)) from error
    known = set(rows[0]) if rows else {"id"}
    if rows and any(name not in known for name, _ in order):
        raise Refusal(400, "invalid_request", "unknown column in order_by")
    order = [*order, ("id", "asc")]
    rows = ordered(rows, order)
    limit = _limit(params.get("limit"))
    start = _start(rows, order, params.get("after_token"))
    page = rows[start : start + limit]
    more = start + limit < len(rows)
    labels: dict[str, int] = {}
    for row in rows:
        labels[row["label"] or ""] = labels.get(row["label"] or "", 0) + 1
    token = _token([page[-1].get(name) for name, _ in order]) if more and page else None
    if columns != ["*"]:
        page = [{name: row.get(name) for name in columns} for row in page]
    return done(
        instances_found=len(rows), total_instances=len(rows), label_counts=labels, next_token=token, instances=page
    )


async def show(world: World, request: Request) -> Response:
    rental = world.rentals.get(int(request.path_params["id"]))
    if rental is None or rental not in _listed(world):
        if world.habits.shows_404:
            return refused(404, "no_such_instance", "Instance not found.")
        return JSONResponse({"instances": None})
    return JSONResponse({"instances": _row(world)(rental)})


async def change(world: World, request: Request) -> Response:
    """State or label of one."""
    return _changed(world, _present(world, int(request.path_params["id"])), await body_of(request))


async def change_many(world: World, request: Request) -> Response:
    body = await body_of(request)
    ids = body.get("ids")
    if not isinstance(ids, list):
        raise Refusal(400, "missing_input", "ids must be a list")
    answers = [_changed(world, _present(world, int(number)), body) for number in ids]
    return answers[-1] if answers else done()


def _changed(world: World, rental: Rental, body: Row) -> Response:
    if "label" in body:
        label = body["label"]
        if len(str(label)) > 1024:
            raise Refusal(400, "label_too_long", "The label takes at most 1024 characters.")
        rental.label = label
        return done(msg=f"Label of instance {rental.id} set")
    if body.get("state") == "stopped":
        rental.wanted, rental.queued_since, rental.races = False, None, False
        world.settle()
        return done()
    if body.get("state") == "running":
        return _started(world, rental)
    raise Refusal(400, "invalid_args", "state must be running or stopped")


def _started(world: World, rental: Rental) -> Response:
    if world.account.credit <= 0:
        raise Refusal(400, "missing_billing", "Your account lacks credit; see the billing page.")
    if rental.halt is Halt.ENDED:
        raise Refusal(400, "invalid_args", "The contract has ended.")
    rental.wanted, rental.halt, rental.races, rental.failure = True, Halt.NONE, False, ""
    world.settle()
    if rental.holding is not None:
        return done()
    rental.queued_since = world.now()
    msg = "Required resources are currently unavailable, state change queued."
    return refused(200, "resources_unavailable", msg)


async def bid(world: World, request: Request) -> Response:
    rental = _present(world, int(request.path_params["id"]))
    price = (await body_of(request)).get("price")
    if rental.bid is None:
        return refused(200, "invalid_args", "This instance is not interruptible.")
    if price is None:
        micros = world.winning_bid(rental.box, rental.gpus) or rental.bid
    elif isinstance(price, bool) or not isinstance(price, int | float) or price < BID_USD_MIN:
        raise Refusal(400, "invalid_args", "Please set a bid price >= 0.001.")
    elif price > 32 * rental.gpus:
        raise Refusal(400, "invalid_args", f"Please set a bid price <= {32 * rental.gpus}.")
    else:
        micros = round(price * MICROS)
    rental.bid = micros
    world.settle()
    return done()


async def reboot(world: World, request: Request) -> Response:
    """Stop and start with the GPUs kept: here its container begins a new boot at once."""
    rental = _present(world, int(request.path_params["id"]))
    world.reboot(rental)
    return done()


async def recycle(world: World, request: Request) -> Response:
    """Pull and create the container again: its disk is lost, its GPUs are kept."""
    world.recycle(_present(world, int(request.path_params["id"])))
    return done()


async def destroy(world: World, request: Request) -> Response:
    world.end(_present(world, int(request.path_params["id"])))
    return done()


async def destroy_many(world: World, request: Request) -> Response:
    ids = (await body_of(request)).get("instance_ids")
    if not isinstance(ids, list):
        raise Refusal(400, "invalid_args", "instance_ids must be a list")
    for number in ids:
        world.end(_present(world, int(number)))
    return done()


async def request_logs(world: World, request: Request) -> Response:
    """Its text is at an address that needs no key, and only after some polls, as the host has to upload it."""
    rental = _present(world, int(request.path_params["id"]))
    tail = (await body_of(request)).get("tail", "1000")
    if not isinstance(tail, str):
        raise Refusal(400, "invalid_args", "tail must be a string")
    fields = rental.fields(world.now(), world.habits)
    lines = [f"instance {rental.id} on machine {rental.box.machine_id}", str(fields["status_msg"] or "").strip()]
    name = f"{rental.key}{len(world.logs):x}"
    world.logs[name] = ("\n".join([line for line in lines if line][-int(tail) :]) + "\n", world.habits.log_polls)
    url = f"{request.url.scheme}://{request.url.netloc}/instance_logs/{name}.log"
    return done(result_url=url, msg="logs requested")


async def result(world: World, request: Request) -> Response:
    name = request.path_params["name"].removesuffix(".log")
    text, polls_left = world.logs.get(name, ("", 1))
    if polls_left:
        world.logs[name] = (text, polls_left - 1)
        return PlainTextResponse("not here yet", 404)
    return PlainTextResponse(text)


def _row(world: World) -> Any:
    def of(rental: Rental) -> Row:
        address = world.ground.address(rental.name) if rental.up else rental.box.address
        ports = {f"{n}/tcp": world.ground.outside(rental.name, n) for n in rental.opened()} if rental.up else {}
        return rental.row(world.now(), world.habits, address, ports)

    return of


def _listed(world: World) -> list[Rental]:
    now, habits = world.now(), world.habits
    return [
        rental
        for rental in world.rentals.values()
        if rental.since + habits.listing_lag_s <= now
        and (rental.gone_at is None or now < rental.gone_at + habits.gone_lag_s)
    ]


def _present(world: World, number: int) -> Rental:
    rental = world.rentals.get(number)
    if rental is None or rental.gone_at is not None:
        raise Refusal(404, "no_such_instance", f"Instance {number} not found.")
    return rental


def _limit(text: str | None) -> int:
    try:
        asked = PAGE_MAX if text is None else int(text)
    except ValueError as error:
        raise Refusal(400, "invalid_request", "limit must be a number") from error
    return min(asked, PAGE_MAX) if asked > 0 else PAGE_OF_NONSENSE


def _token(key: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _start(rows: list[Row], order: list[tuple[str, str]], token: str | None) -> int:
    """The first row after the one that the cursor names, which may be gone by now."""
    if token is None:
        return 0
    try:
        key = json.loads(base64.urlsafe_b64decode(token))
        if len(key) != len(order):
            raise ValueError("a cursor of another order")
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, "invalid_token", "Invalid after_token") from error
    last: Row = {name: value for (name, _), value in zip(order, key, strict=True)} | {"_cursor": True}
    for place, row in enumerate(ordered([*rows, last], order)):
        if row is last:
            following = ordered([*rows, last], order)[place + 1 :]
            return len(rows) - len([row for row in following if row["id"] != last["id"]])
    return 0
