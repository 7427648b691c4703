"""The API's application: every resource behind one bearer token, in the caller's language, errors as problems."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from dumont import __version__
from dumont.api import (
    advice,
    branches,
    calibration,
    doctor,
    drills,
    events,
    health,
    histories,
    keys,
    offers,
    providers,
    retention,
    sync,
    workspaces,
)
from dumont.api.problem import describe, problem_response
from dumont.api.site import Site
from dumont.client.problem import PREFIX, Problem
from dumont.errors import DumontError
from dumont.i18n import _, use

RESOURCES = (
    *(health, doctor, providers, offers, advice, calibration, workspaces),
    *(retention, histories, events, branches, sync, drills, keys),
)


def create_app(site: Site, token: str) -> FastAPI:
    """The application over one server's parts. Whoever shows `token` may do everything."""
    app = FastAPI(title="Dumont", version=__version__, docs_url=None, redoc_url=None)
    app.state.site = site
    for resource in RESOURCES:
        app.include_router(resource.router, prefix="/v1")
    app.include_router(advice.router, prefix="/api/v1", include_in_schema=False)  # where it was promised as well

    @app.middleware("http")
    async def admit(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        use(request.headers.get("accept-language", "en"))
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(shown.encode(), token.encode()):
            return problem_response(
                Problem(
                    type=PREFIX + "unauthorized",
                    title=_("Not allowed"),
                    status=401,
                    detail=_("The API's token is missing or wrong."),
                    advice=_("Read it from run/api.token in Dumont's home."),
                )
            )
        return await proceed(request)

    @app.exception_handler(DumontError)
    async def on_dumont_error(request: Request, error: DumontError) -> JSONResponse:
        return problem_response(describe(error))

    @app.exception_handler(RequestValidationError)
    async def on_bad_request(request: Request, error: RequestValidationError) -> JSONResponse:
        where = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        return problem_response(
            Problem(type=PREFIX + "bad-input", title=_("That makes no sense"), status=422, detail=where)
        )

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        return problem_response(
            Problem(type=PREFIX + "no-such-resource", title=str(error.detail), status=error.status_code)
        )

    return app
