"""A problem: how the API says what went wrong (RFC 9457), and the error it becomes again on this side.

The advice, what to do next, travels as a note of the exception (`error.__notes__`).
"""

import re
from typing import Any

import msgspec

from dumont import errors
from dumont.errors import BadInput, DumontError, ProviderError

PREFIX = "urn:dumont:problem:"


class Problem(msgspec.Struct, kw_only=True):
    """The body of a response that is no success. `type` is PREFIX and a stable word."""

    type: str = PREFIX + "dumont-error"
    title: str = ""
    status: int = 500
    detail: str = ""
    advice: str = ""


class Unauthorized(DumontError):
    """The API did not accept our token."""


def _word(error: type[DumontError]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__).lower()


_KNOWN: dict[str, type[DumontError]] = {
    _word(kind): kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DumontError)
} | {"unauthorized": Unauthorized}


def type_of(error: DumontError) -> str:
    """The stable name of an error's kind, as a URN."""
    return PREFIX + _word(type(error))


def error_of(problem: Problem) -> DumontError:
    """The error that the other side meant."""
    kind = _KNOWN.get(problem.type.removeprefix(PREFIX), BadInput if problem.status < 500 else ProviderError)
    error = kind(problem.detail or problem.title)
    if problem.advice:
        error.add_note(problem.advice)
    return error


def read_problem(status: int, body: bytes) -> DumontError:
    """The error in a response, whatever its body holds."""
    try:
        return error_of(msgspec.json.decode(body, type=Problem))
    except msgspec.DecodeError:
        return error_of(Problem(status=status, detail=f"the server answered {status}: {body[:200]!r}"))


def advice_of(error: BaseException) -> str:
    """What to do next; "" when nobody said."""
    notes: list[Any] = getattr(error, "__notes__", [])
    return "\n".join(str(note) for note in notes)
