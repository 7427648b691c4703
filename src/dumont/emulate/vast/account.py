"""The emulated account: who asks and what he may, his credit, his SSH keys, his charges."""

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dumont.emulate.vast.answer import Refusal, body_of, done
from dumont.emulate.vast.query import Invalid, structured
from dumont.emulate.vast.rental import MICROS
from dumont.emulate.vast.world import World

OPEN = frozenset({"search", "names", "result"})
"""Endpoints that answer without a key."""
CATEGORIES = {
    "create": "instance_write", "state": "instance_write", "bid": "instance_write", "destroy": "instance_write",
    "reboot": "instance_write", "recycle": "instance_write", "logs": "instance_read", "list": "instance_read",
    "show": "instance_read", "user": "user_read", "keys": "user_read", "charges": "billing_read", "search": "misc",
}  # fmt: skip
OWN = frozenset({"state", "destroy", "show", "reboot"})
"""What a container's own key may do, to its own contract."""


def caller_of(world: World, request: Request, endpoint: str) -> str:
    """The key that this call bears, when it may. Raises Refusal as the service does: an unknown key is a 404."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else request.query_params.get("api_key", "")
    if not key:
        if endpoint in OPEN:
            return ""
        raise Refusal(403, "auth_error", "This action requires login.")
    own = next((rental for rental in world.present if rental.key == key), None)
    if own is not None:
        if endpoint in OWN and request.path_params.get("id") == own.id:
            return key
        raise Refusal(403, "not_authorized", "This key may only act on its own instance.")
    if key not in world.account.keys:
        raise Refusal(404, "auth_error", "Invalid user key")
    allowed = world.account.keys[key]
    category = CATEGORIES.get(endpoint)
    if endpoint == "keys" and request.method != "GET":
        category = "user_write"
    if allowed is not None and category is not None and category not in allowed:
        raise Refusal(401, "not_authorized", f"This key lacks the permission {category}.")
    return key


async def user(world: World, request: Request) -> Response:
    account = world.account
    credit = float(account.credit) / MICROS
    return JSONResponse(
        {
            "id": account.id, "key_id": 1, "email": "somebody@example.org", "username": "somebody",
            "balance": credit, "credit": credit, "can_pay": True, "has_billing": True, "balance_threshold": 10.0,
            "balance_threshold_enabled": False, "autobill_threshold": None, "autobill_amount": None,
            "total_spend": -float(account.spent) / MICROS, "billed_expected": 0, "billed_verified": True,
            "ssh_key": next(iter(account.ssh_keys.values()), None), "sid": "emulated", "rights": None,
        }
    )  # fmt: skip


async def ssh_keys(world: World, request: Request) -> Response:
    return JSONResponse([_key(world, number) for number in world.account.ssh_keys])


async def add_ssh_key(world: World, request: Request) -> Response:
    number = _add(world, (await body_of(request)).get("ssh_key"))
    return done(key=_key(world, number) | {"deleted_at": None})


async def remove_ssh_key(world: World, request: Request) -> Response:
    if world.account.ssh_keys.pop(int(request.path_params["key"]), None) is None:
        raise Refusal(404, "no_such_key", "There is no such SSH key.")
    return done()


async def instance_ssh_keys(world: World, request: Request) -> Response:
    """A JSON text within JSON, as the service answers."""
    rental = world.rentals.get(int(request.path_params["id"]))
    if rental is None or rental.gone_at is not None:
        raise Refusal(404, "no_such_instance", "Instance not found.")
    if request.method == "GET":
        keys = [{"id": number, "public_key": text} for number, text in rental.keys]
        return done(ssh_keys=json.dumps(keys))
    text = (await body_of(request)).get("ssh_key")
    _valid(text)
    rental.keys.append((len(rental.keys) + 1, str(text)))
    return done(msg="SSH key added to instance.")


async def charges(world: World, request: Request) -> Response:
    try:
        filters = structured(request.query_params.get("select_filters"), {})
        day = filters["day"]
        start, end = float(day["gte"]), float(day["lte"])
    except (Invalid, KeyError, TypeError, ValueError):
        return JSONResponse({"success": False, "msg": "a day range is required"}, 400)
    lines = [
        r.charge(start, end) for r in world.rentals.values() if int(r.since) <= end and r.billed_to >= start
    ]  # asked in whole seconds
    return done(count=len(lines), total=len(lines), next_token=None, results=lines)


async def volumes(world: World, request: Request) -> Response:
    return JSONResponse({"volumes": []})


def _add(world: World, text: object) -> int:
    _valid(text)
    number = max(world.account.ssh_keys, default=100) + 1
    world.account.ssh_keys[number] = str(text)
    return number


def _valid(text: object) -> None:
    if not isinstance(text, str) or not text.startswith(("ssh-", "ecdsa-", "sk-")):
        raise Refusal(400, "invalid_args", "ssh_key must be a public key.")


def _key(world: World, number: int) -> dict[str, object]:
    text = world.account.ssh_keys[number]
    return {"id": number, "user_id": world.account.id, "key": text, "public_key": text, "created_at": "2026-01-01"}
