"""The emulated service as a Starlette application: who asks, how often, which fault strikes, and then the endpoint."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dumont.emulate.vast import account, create, instances, knobs, offers
from dumont.emulate.vast.answer import Refusal, refused, struck
from dumont.emulate.vast.world import World

Endpoint = Callable[[World, Request], Awaitable[Response]]
ENDPOINTS: tuple[tuple[str, str, str, Endpoint], ...] = (
    ("POST", "/api/v0/bundles", "search", offers.search),
    ("PUT", "/api/v0/search/asks", "search", offers.search_asks),
    ("GET", "/api/v0/gpu_names/unique", "names", offers.gpu_names),
    ("PUT", "/api/v0/asks/{id:int}", "create", create.create),
    ("GET", "/api/v0/instances", "list", instances.list_retired),
    ("PUT", "/api/v0/instances", "state", instances.change_many),
    ("DELETE", "/api/v0/instances", "destroy", instances.destroy_many),
    ("GET", "/api/v1/instances", "list", instances.list_instances),
    ("GET", "/api/v0/instances/{id:int}", "show", instances.show),
    ("PUT", "/api/v0/instances/{id:int}", "state", instances.change),
    ("DELETE", "/api/v0/instances/{id:int}", "destroy", instances.destroy),
    ("PUT", "/api/v0/instances/bid_price/{id:int}", "bid", instances.bid),
    ("PUT", "/api/v0/instances/reboot/{id:int}", "reboot", instances.reboot),
    ("PUT", "/api/v0/instances/recycle/{id:int}", "recycle", instances.recycle),
    ("PUT", "/api/v0/instances/request_logs/{id:int}", "logs", instances.request_logs),
    ("GET", "/instance_logs/{name}", "result", instances.result),
    ("GET", "/api/v0/instances/{id:int}/ssh", "keys", account.instance_ssh_keys),
    ("POST", "/api/v0/instances/{id:int}/ssh", "keys", account.instance_ssh_keys),
    ("GET", "/api/v0/users/current", "user", account.user),
    ("GET", "/api/v0/ssh", "keys", account.ssh_keys),
    ("POST", "/api/v0/ssh", "keys", account.add_ssh_key),
    ("DELETE", "/api/v0/ssh/{key:int}", "keys", account.remove_ssh_key),
    ("GET", "/api/v0/charges", "charges", account.charges),
    ("GET", "/api/v0/volumes", "user", account.volumes),
)


def application(world: World) -> ASGIApp:
    """The whole service of one world, its knobs under `/_emulator/` included."""
    lock = asyncio.Lock()
    routes = [
        Route(path, Guarded(world, lock, name, endpoint), methods=[method])
        for method, path, name, endpoint in ENDPOINTS
    ]
    routes += [Route(path, Turned(world, lock, knob), methods=["GET", "POST"]) for path, knob in knobs.KNOBS.items()]
    return WithoutSlash(Starlette(routes=routes))


@dataclass(frozen=True)
class WithoutSlash:
    """Takes paths with and without a slash at their end, as the service does."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and len(scope["path"]) > 1:
            scope = {**scope, "path": scope["path"].rstrip("/")}
        await self.app(scope, receive, send)


class Guarded:
    """One endpoint behind the rate limits, the faults and the key, one call at a time."""

    def __init__(self, world: World, lock: asyncio.Lock, name: str, endpoint: Endpoint) -> None:
        self._world, self._lock, self._name, self._endpoint = world, lock, name, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        async with self._lock:
            response = await self._answer(request)
            await asyncio.sleep(0)  # what the ground was told begins before the caller hears of it
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        world, now = self._world, self._world.now()
        world.settle()
        world.heard.append((self._name, request.method, request.url.path))
        if (fault := world.book.take(self._name, after=False)) is not None:
            return struck(fault, now)
        try:
            caller = account.caller_of(world, request, self._name)
            if world.habits.limits and (late := world.limits.refusal(self._name, caller, now)) is not None:
                return struck(late, now)
            response = await self._endpoint(world, request)
        except Refusal as refusal:
            return refusal.response
        if (fault := world.book.take(self._name, after=True)) is not None:
            return struck(fault, now)
        return response


class Turned:
    """One knob. It meets no fault and asks for no key: it is not part of the service."""

    def __init__(self, world: World, lock: asyncio.Lock, knob: knobs.Knob) -> None:
        self._world, self._lock, self._knob = world, lock, knob

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        async with self._lock:
            self._world.settle()
            try:
                response = await self._knob(self._world, request)
            except Refusal as refusal:
                response = refusal.response
            except (KeyError, TypeError, ValueError) as error:
                response = refused(400, "invalid_args", f"{type(error).__name__}: {error}")
        await response(scope, receive, send)
