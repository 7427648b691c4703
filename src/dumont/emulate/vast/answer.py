"""What the emulated service answers: its envelopes, its refusals, and each shape that a fault gives a response."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from dumont.emulate.vast.faults import Fault, Kind


class Refusal(Exception):
    """A call that the service refuses, with the answer that says so."""

    def __init__(self, status: int, error: str, msg: str, **extra: Any) -> None:
        super().__init__(msg)
        self.response = refused(status, error, msg, **extra)


class Cut(Response):
    """An answer that breaks off: the connection closes before it is whole."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"4096")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        raise Disconnected("a fault of the book cuts this connection")


class Hung(Response):
    """No answer for some seconds, and then none at all."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(self._seconds)
        await Cut()(scope, receive, send)


class Disconnected(Exception):
    """Ends a connection; the server drops it because the answer is shorter than it announced."""


def done(**fields: Any) -> JSONResponse:
    return JSONResponse({"success": True, **fields})


def refused(status: int, error: str, msg: str, **extra: Any) -> JSONResponse:
    return JSONResponse({"success": False, "error": error, "msg": msg, **extra}, status_code=status)


def struck(fault: Fault, now: float) -> Response:
    """The answer that a fault makes. `now` in Unix seconds, for the reset of the daily quota."""
    frequent = "API requests too frequent"
    named = f"{frequent} endpoint threshold={fault.threshold_s}"
    headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
    match fault.kind:
        case Kind.RATE_TEXT:
            return PlainTextResponse(frequent, 429, headers)
        case Kind.RATE_TEXT_THRESHOLD:
            return PlainTextResponse(f"{frequent}: endpoint threshold={fault.threshold_s}", 429, headers)
        case Kind.RATE_DETAIL:
            return JSONResponse({"detail": named}, 429, headers)
        case Kind.RATE_ENVELOPE:
            content = {"success": False, "error": "rate_limit_exceeded", "msg": named}
            return JSONResponse(content, 429, headers)
        case Kind.RATE_BODY:
            return JSONResponse({"detail": frequent, "retry_after": fault.retry_after_s or 1.0}, 429)
        case Kind.QUOTA:
            content = {"success": False, "error": "search_quota_exceeded", "msg": "Daily search quota exceeded."}
            return JSONResponse(content, 429, {"X-RateLimit-Reset": str(_next_midnight(now))})
        case Kind.HTML_403:
            return Response("<html><body><h1>403 Forbidden</h1></body></html>", 403, media_type="text/html")
        case Kind.KEY_404:
            return refused(404, "auth_error", "Invalid user key")
        case Kind.KEY_401:
            return refused(401, "auth_error", "Invalid user key")
        case Kind.STATUS:
            return JSONResponse(fault.body, fault.status)
        case Kind.LOST_504:
            return Response("<html><body>504 Gateway Time-out</body></html>", 504, media_type="text/html")
        case Kind.GARBLED:
            return JSONResponse(fault.body)
        case Kind.NO_SUCH_ASK_400:
            return refused(400, "no_such_ask", "error 400/3605: no_such_ask")
        case Kind.NO_SUCH_ASK_404:
            return no_such_ask(404, 0)
        case Kind.NO_SUCH_ASK_410:
            return no_such_ask(410, 0)
        case Kind.HUNG:
            return Hung(fault.retry_after_s or 1.0)
        case Kind.DROPPED | Kind.LOST:
            return Cut()


def no_such_ask(status: int, ask: int) -> JSONResponse:
    """An offer that is gone (404), or that somebody else was faster with (410)."""
    if status == 410:
        return refused(410, "no_such_ask", "error 410/3907: no_such_ask", ask_id=ask)
    msg = f"error 404/3603: no_such_ask Instance type by id {ask} is not available."
    return refused(404, "invalid_args", msg, ask_id=ask)


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object of a request; {} when it has none. Raises Refusal."""
    if not await request.body():
        return {}
    try:
        content = await request.json()
    except ValueError:
        raise Refusal(400, "invalid_request", "Invalid json body") from None
    if not isinstance(content, dict):
        raise Refusal(400, "invalid_request", "Invalid json body")
    return content


def _next_midnight(now: float) -> int:
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return int((day + timedelta(days=1)).timestamp())
