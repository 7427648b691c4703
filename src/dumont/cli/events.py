"""`dumont events`: a workspace's timeline."""

from typing import Annotated

import typer

from dumont.cli.call import Json, Name, call
from dumont.cli.output import console, event_line, print_json
from dumont.client import Dumont
from dumont.client.results import Happened
from dumont.i18n import _


def events(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help=_("Go on with what happens from now on."))] = False,
    limit: Annotated[int, typer.Option(help=_("At most so many, the newest."))] = 50,
    as_json: Json = False,
) -> None:
    """With --json one array, or with --follow one object a line."""
    if follow:
        call(lambda dumont: _follow(dumont, name, limit, as_json), as_json=as_json)
        return
    found = call(lambda dumont: dumont.events(name, limit), as_json=as_json)
    if as_json:
        print_json(found)
    else:
        for event in found:
            console.print(event_line(event))


async def _follow(dumont: Dumont, name: str, limit: int, as_json: bool) -> None:
    async for event in dumont.follow(name, limit):
        _print(event, as_json)


def _print(event: Happened, as_json: bool) -> None:
    if as_json:
        print_json(event)
    else:
        console.print(event_line(event))
