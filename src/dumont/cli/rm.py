"""`dumont rm`: delete a workspace and let its machines go."""

import asyncio
from typing import Annotated

import typer

from dumont.cli.call import Json, Name, call
from dumont.cli.output import console, print_json
from dumont.client import Dumont
from dumont.client.results import WorkspaceShown
from dumont.errors import NoSuchWorkspace
from dumont.i18n import _

LOOK_EVERY_S = 0.2


def rm(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help=_("Do not ask."))] = False,
    keep_history: Annotated[
        str, typer.Option(metavar="DAYS", help=_("Keep its history in the store so many days, or for-ever."))
    ] = "",
    wait_s: Annotated[float, typer.Option("--wait", help=_("Wait so many seconds until it is gone."))] = 30.0,
    as_json: Json = False,
) -> None:
    """Asks first, unless --yes is given."""
    call(lambda dumont: dumont.workspace(name), as_json=as_json)
    if not yes:
        typer.confirm(_("Delete {name} and let its machines go?").format(name=name), abort=True, err=True)
    last = call(lambda dumont: _remove(dumont, name, keep_history, wait_s), as_json=as_json)
    gone = last is None
    if as_json:
        print_json({"name": name, "gone": gone})
        return
    console.print(_("{name} is gone.").format(name=name) if gone else _("{name} is being deleted.").format(name=name))
    console.print(_("`dumont history` says until when its history is kept in the store."))


async def _remove(dumont: Dumont, name: str, keep_history: str, wait_s: float) -> WorkspaceShown | None:
    """What is left of it; None when that is nothing."""
    shown = await dumont.remove(name, keep_history)
    loop = asyncio.get_running_loop()
    give_up = loop.time() + wait_s
    while loop.time() < give_up:
        try:
            shown = await dumont.workspace(name)
        except NoSuchWorkspace:
            return None
        await asyncio.sleep(LOOK_EVERY_S)
    return shown
