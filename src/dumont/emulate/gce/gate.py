"""The gate before the emulated API: time passes, then faults meet the call, then it is carried out."""

import json
import logging
from collections.abc import Awaitable, Callable

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dumont.emulate.gce.refusal import Refusal
from dumont.emulate.gce.world import World

PREFIX = "/compute/v1/projects/"
DENIALS = {
    "authError": Refusal(401, "authError", "Invalid Credentials"),
    "forbidden": Refusal(403, "forbidden", "Required 'compute.instances.list' permission"),
    "accessNotConfigured": Refusal(403, "accessNotConfigured", "Compute Engine API has not been used or is disabled."),
    "insufficientPermissions": Refusal(
        403, "insufficientPermissions", "Request had insufficient authentication scopes."
    ),
}


class CutOff(Exception):
    """The connection ends without an answer; raised on purpose, so that the server closes it."""


def is_no_cut(record: logging.LogRecord) -> bool:
    """A log filter: what we cut off on purpose is no error of the server's."""
    return not (record.exc_info and isinstance(record.exc_info[1], CutOff))


class Gate:
    """ASGI middleware. Calls below `/_emulator` pass untouched but for time."""

    def __init__(self, app: ASGIApp, world: World) -> None:
        self.app = app
        self.world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self.world.timeline.run_due()
        path = str(scope["path"])
        if not path.startswith(PREFIX):
            await self.app(scope, receive, send)
            return
        call = f"{scope['method']} {path.removeprefix(PREFIX).partition('/')[2]}"
        faults = self.world.faults
        if faults.slow_s:
            await self.world.timeline.clock.sleep(faults.slow_s)
            await self.world.timeline.run_due()
        if answer := self._refused(call):
            await answer(scope, receive, send)
        elif faults.met("lost_before", call, self.world.rng):
            await _cut(send)
        elif scope["method"] != "GET" and faults.met("lost_answers", call, self.world.rng):
            await self.app(scope, receive, _swallow)
            await _cut(send)
        else:
            await self.app(scope, receive, send)

    def _refused(self, call: str) -> Callable[[Scope, Receive, Send], Awaitable[None]] | None:
        faults, rng = self.world.faults, self.world.rng
        refusal: Refusal | None = None
        if faults.denied:
            refusal = DENIALS[faults.denied]
        elif faults.met("rate_limited", call, rng):
            refusal = Refusal(faults.rate_status, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries'.")
        elif faults.met("server_errors", call, rng):
            refusal = Refusal(faults.server_error_status, "backendError", "Backend Error")
        elif faults.met("garbled", call, rng):
            return PlainTextResponse("<html>Sign in to the network</html>", media_type="text/html")
        elif faults.met("emptied", call, rng):
            return JSONResponse({})
        return JSONResponse(refusal.envelope(), refusal.code) if refusal else None


async def _swallow(message: Message) -> None:
    return None


async def _cut(send: Send) -> None:
    """Promise a body and end before it: the client sees a connection that breaks."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"4096")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"kind": "compute#"}).encode(), "more_body": True})
    raise CutOff
