"""A call: one verb's work with the SDK, and what a person or a program is shown when it fails."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from dumont.client import Dumont
from dumont.client.problem import advice_of, type_of
from dumont.errors import DumontError
from dumont.i18n import _

Answer = TypeVar("Answer")

Json = Annotated[bool, typer.Option("--json", help=_("Print one JSON value instead of text."))]
Name = Annotated[str, typer.Argument(metavar="NAME", help=_("The workspace's name."))]


def call(work: Callable[[Dumont], Awaitable[Answer]], *, as_json: bool) -> Answer:
    """What `work` answers. An error of ours is shown, with what to do about it, and ends the process with 1."""
    try:
        return asyncio.run(_within(work))
    except DumontError as error:
        fail(error, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(error: DumontError, *, as_json: bool) -> NoReturn:
    """Show an error and end the process with 1."""
    advice = advice_of(error)
    if as_json:
        shown: dict[str, Any] = {"type": type_of(error), "detail": str(error), "advice": advice}
        print(json.dumps({"error": shown}, ensure_ascii=False))
    print(_("Error: {what}").format(what=error), file=sys.stderr)
    if advice:
        print(advice, file=sys.stderr)
    raise typer.Exit(1)


async def _within(work: Callable[[Dumont], Awaitable[Answer]]) -> Answer:
    async with Dumont() as dumont:
        return await work(dumont)
