"""Problems: each of our errors as an answer that says, in the reader's language, what went wrong and what to do."""

import msgspec
from fastapi.responses import JSONResponse

from dumont.client.problem import Problem, advice_of, type_of
from dumont.errors import (
    BadInput,
    DumontError,
    NameTaken,
    NoCapacity,
    NoSuchHistory,
    NoSuchWorkspace,
    NotPossibleHere,
    NotStored,
    ProviderError,
    StoreError,
)
from dumont.i18n import _

_STATUS: tuple[tuple[type[DumontError], int], ...] = (
    (NoSuchWorkspace, 404),
    (NoSuchHistory, 404),
    (NameTaken, 409),
    (NotStored, 404),
    (BadInput, 422),
    (NoCapacity, 503),
    (ProviderError, 502),
    (StoreError, 502),
    (NotPossibleHere, 501),
)


def describe(error: DumontError) -> Problem:
    """The problem that tells of `error`."""
    title, advice = _words(error)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return Problem(
        type=type_of(error), title=title, status=status, detail=str(error), advice=advice_of(error) or advice
    )


def _words(error: DumontError) -> tuple[str, str]:
    match error:
        case NoSuchWorkspace():
            return _("No such workspace"), _("`dumont ls` lists the workspaces there are.")
        case NoSuchHistory():
            return _("No such history"), _("`dumont history` lists the histories there are.")
        case NameTaken():
            return _("That name is taken"), _("Pick another name, or remove the workspace with `dumont rm` first.")
        case NotStored():
            return _("Not in the store"), _("`dumont branches NAME --ls BRANCH` lists what a branch holds.")
        case BadInput():
            return _("That can't be done now"), ""
        case NoCapacity():
            return _("No machine to rent"), _("Another region or a higher price may help.")
        case ProviderError():
            return _("The provider did not answer as it should"), _("Nothing was concluded from it; try again later.")
        case StoreError():
            return _("The store did not do what was asked"), _("See log/server.log in Dumont's home.")
        case NotPossibleHere():
            return _("Not possible on this machine"), _("`dumont doctor` says what is missing.")
        case _:
            return _("Something went wrong"), _("See log/server.log in Dumont's home.")


def problem_response(problem: Problem) -> JSONResponse:
    """As RFC 9457 wants it."""
    return JSONResponse(msgspec.to_builtins(problem), status_code=problem.status, media_type="application/problem+json")
