"""The emulator's knobs under `/_emulator/`: what a person or a test makes happen to the emulated service."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from fractions import Fraction

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dumont.emulate.vast.answer import Refusal, body_of, done
from dumont.emulate.vast.faults import Fault, Kind
from dumont.emulate.vast.market import Box
from dumont.emulate.vast.rental import MICROS, Rental
from dumont.emulate.vast.world import World

Knob = Callable[[World, Request], Awaitable[Response]]


async def state(world: World, request: Request) -> Response:
    """The truth: what exists and what it costs, whatever the service's own answers say."""
    now = world.now()
    rentals = [
        {
            "id": rental.id, "label": rental.label, "machine_id": rental.box.machine_id, "gpus": rental.gpus,
            "bid_micros": rental.bid, "gpu_micros": float(rental.gpu_micros), "disk_micros": float(rental.disk_micros),
            "runs": world.ground.is_running(rental.name), **rental.fields(now, world.habits),
        }
        for rental in world.present
    ]  # fmt: skip
    return JSONResponse(
        {
            "now": now, "credit_micros": float(world.account.credit), "instances": rentals,
            "habits": asdict(world.habits), "faults": [asdict(fault) for fault in world.book.entries],
            "endpoints_heard": len(world.heard),
        }
    )  # fmt: skip


async def faults(world: World, request: Request) -> Response:
    """Add faults (`{"faults": [{"endpoint", "kind", …}]}`), after clearing the book when `clear` is true."""
    body = await body_of(request)
    if body.get("clear"):
        world.book.clear()
    for entry in body.get("faults", []):
        world.book.add(Fault(**{**entry, "kind": Kind(entry["kind"])}))
    return done(faults=[asdict(fault) for fault in world.book.entries])


async def habits(world: World, request: Request) -> Response:
    world.habits.change(await body_of(request))
    return done(habits=asdict(world.habits))


async def outbid(world: World, request: Request) -> Response:
    """`{"id", "by_micros"}`: somebody bids that much more for each of its GPUs."""
    body = await body_of(request)
    rival = world.outbid(_rental(world, body["id"]), int(body.get("by_micros", 10_000)))
    return done(bid_micros_per_gpu=rival.bid)


async def displace(world: World, request: Request) -> Response:
    world.displace(_rental(world, (await body_of(request))["id"]))
    return done()


async def withdraw(world: World, request: Request) -> Response:
    """`{"machine_id"}`: all other renters of a machine leave; who was outbid there resumes."""
    world.withdraw(_box(world, (await body_of(request))["machine_id"]))
    return done()


async def halt(world: World, request: Request) -> Response:
    world.halt(_rental(world, (await body_of(request))["id"]))
    return done()


async def host(world: World, request: Request) -> Response:
    """`{"machine_id", "online", "listed"}`: the host stops reporting, or takes its offers off the market."""
    body = await body_of(request)
    box = _box(world, body["machine_id"])
    box.online, box.listed = bool(body.get("online", box.online)), bool(body.get("listed", box.listed))
    world.settle()
    return done()


async def credit(world: World, request: Request) -> Response:
    world.account.credit = Fraction(str((await body_of(request))["usd"])) * MICROS
    world.settle()
    return done()


async def keys(world: World, request: Request) -> Response:
    """`{"key", "categories"}`: a key, all of whose rights are these; null: all rights. `revoke` takes one away."""
    body = await body_of(request)
    if "revoke" in body:
        world.account.keys.pop(str(body["revoke"]), None)
    if "key" in body:
        categories = body.get("categories")
        world.account.keys[str(body["key"])] = None if categories is None else frozenset(categories)
    return done()


async def advance(world: World, request: Request) -> Response:
    """`{"seconds"}`: so much time passes at once."""
    seconds = float((await body_of(request))["seconds"])
    if seconds < 0:
        raise Refusal(400, "invalid_args", "time does not go back")
    world.shift_s += seconds
    world.settle()
    return done(now=world.now())


KNOBS: dict[str, Knob] = {
    "/_emulator/state": state,
    "/_emulator/faults": faults,
    "/_emulator/habits": habits,
    "/_emulator/outbid": outbid,
    "/_emulator/displace": displace,
    "/_emulator/withdraw": withdraw,
    "/_emulator/halt": halt,
    "/_emulator/host": host,
    "/_emulator/credit": credit,
    "/_emulator/keys": keys,
    "/_emulator/advance": advance,
}


def _rental(world: World, number: object) -> Rental:
    rental = world.rentals.get(int(str(number)))
    if rental is None or rental.gone_at is not None:
        raise Refusal(404, "no_such_instance", f"there is no instance {number}")
    return rental


def _box(world: World, number: object) -> Box:
    box = world.boxes.get(int(str(number)))
    if box is None:
        raise Refusal(404, "no_such_machine", f"there is no machine {number}")
    return box
