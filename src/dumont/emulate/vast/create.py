"""The emulated create: what it validates, whether the bid wins, and the contract that it leaves."""

from fractions import Fraction
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dumont.emulate.vast.answer import Refusal, body_of, done, no_such_ask
from dumont.emulate.vast.query import Row
from dumont.emulate.vast.rental import MICROS, Rental
from dumont.emulate.vast.world import World

ONSTART_BYTES_MAX = 4096
ENTRY_CHARS_MAX = 256
ENVIRONMENT_CHARS_MAX = 32768
LABEL_CHARS_MAX = 256
DISK_GB_MIN = 8
BID_USD_MIN, BID_USD_MAX = Fraction("0.001"), 128
RUNTYPES = frozenset(
    {
        "ssh", "ssh_proxy", "ssh_direct", "jupyter", "jupyter_proxy", "jupyter_direct", "args",
        "ssh_direc ssh_proxy", "jupyter_proxy ssh_proxy", "jupyter_direc ssh_direc ssh_proxy",
    }
)  # fmt: skip
RENAMED = {"ssh": "ssh_proxy", "ssh_direct": "ssh_direc ssh_proxy"}


async def create(world: World, request: Request) -> Response:
    """`PUT /asks/{id}/`. A bid that does not win leaves a stopped contract unless `cancel_unavail` is set."""
    ask = int(request.path_params["id"])
    body = await body_of(request)
    wanted = world.asks.slices.get(ask)
    if wanted is None:
        return no_such_ask(404, ask)
    _validate(body, ask)
    bid = _bid(body, ask)
    if world.account.credit <= 0:
        raise Refusal(400, "insufficient_credit", "Your account lacks credit; see the billing page.", ask_id=ask)
    box = world.boxes[wanted.machine_id]
    if wanted not in world.slices(box, bids=bid is not None):
        return no_such_ask(404, ask)
    now = world.now()
    number = next(world.numbers)
    rental = Rental(
        id=number, box=box, gpus=wanted.gpus, bid=bid, listed_price=box.price * wanted.gpus,
        disk_gb=max(float(body.get("disk") or DISK_GB_MIN), DISK_GB_MIN), image=body["image"],
        runtype=_runtype(body), label=body.get("label"), environment=_environment(body), key=f"{number:032x}",
        onstart=body.get("onstart") or "", since=now, billed_to=now, races=world.habits.races,
    )  # fmt: skip
    world.rentals[number] = rental
    world.settle()
    contract = {"new_contract": number, "instance_api_key": rental.key}
    if rental.holding is not None or rental.races:
        return done(**contract)
    if body.get("cancel_unavail", bid is None) and not world.habits.leaves_contract:
        del world.rentals[number]
        return no_such_ask(410, ask)
    msg = "Your bid is too low; the instance was created and is stopped."
    return JSONResponse({"success": False, "error": "bid_too_low", "msg": msg, **contract})


def _validate(body: Row, ask: int) -> None:
    problem = ""
    image, label = body.get("image"), body.get("label")
    if not isinstance(image, str) or not 0 < len(image) <= 1024:
        problem = "image is required, at most 1024 characters"
    elif label is not None and (not isinstance(label, str) or len(label) > LABEL_CHARS_MAX):
        problem = f"label takes at most {LABEL_CHARS_MAX} characters"
    elif len(str(body.get("onstart") or "").encode()) > ONSTART_BYTES_MAX:
        problem = f"args, args_str and onstart take at most {ONSTART_BYTES_MAX} characters together"
    elif body.get("runtype") not in (None, *RUNTYPES):
        problem = f"unknown runtype {body['runtype']!r}"
    elif not isinstance(body.get("env") or {}, dict):
        problem = "env must be an object"
    if problem:
        raise Refusal(400, "invalid_args", problem, ask_id=ask)


def _bid(body: Row, ask: int) -> int | None:
    """Micro-dollars an hour for the whole contract; None: on demand."""
    price = body.get("price")
    if price is None:
        return None
    if isinstance(price, bool) or not isinstance(price, int | float) or Fraction(str(price)) < BID_USD_MIN:
        raise Refusal(400, "invalid_price", "Please set a bid price >= 0.001.", ask_id=ask)
    if price > BID_USD_MAX:
        raise Refusal(400, "invalid_price", f"price must be at most {BID_USD_MAX}", ask_id=ask)
    return round(Fraction(str(price)) * MICROS)


def _environment(body: Row) -> dict[str, str]:
    """As given; docker flags other than ports, host names, volumes and networks are dropped, as the service does."""
    given: dict[str, Any] = body.get("env") or {}
    kept = {}
    for name, value in given.items():
        entry = f"{name}={value}"
        if len(entry) > ENTRY_CHARS_MAX:
            raise Refusal(400, "invalid_args", f"the env entry {name[:40]!r} is longer than {ENTRY_CHARS_MAX}")
        if name.startswith("-p ") and not _is_port_pair(name):
            raise Refusal(400, "invalid_args", f"{name!r} opens no port")
        if not name.startswith("-") or name.startswith(("-p ", "-h ", "-v ", "-n ")):
            kept[name] = str(value)
    if sum(len(name) + len(value) for name, value in kept.items()) > ENVIRONMENT_CHARS_MAX:
        raise Refusal(400, "invalid_args", f"env takes at most {ENVIRONMENT_CHARS_MAX} characters")
    return kept


def _is_port_pair(name: str) -> bool:
    outer, _, inner = name.removeprefix("-p ").partition(":")
    return outer.isdecimal() and inner.removesuffix("/udp").removesuffix("/tcp").isdecimal()


def _runtype(body: Row) -> str:
    runtype = body.get("runtype") or ("args" if body.get("args") else "ssh")
    return RENAMED.get(runtype, runtype)
