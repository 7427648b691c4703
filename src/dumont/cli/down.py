"""`dumont down`: stop server and gateway. The machines, and the work on them, go on without them."""

from typing import Annotated

import typer

from dumont.cli.call import Json, call
from dumont.cli.output import console, print_json
from dumont.cli.process import gateway_of, server_of
from dumont.cli.up import start
from dumont.client import Dumont, find_home
from dumont.i18n import _

UP_S_MAX = 30.0


def down(
    everything: Annotated[
        bool, typer.Option("--all", help=_("Also let every machine go, with all that is not in the store."))
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help=_("Do not ask."))] = False,
    as_json: Json = False,
) -> None:
    """Idempotent."""
    if everything:
        if not yes:
            question = _("Let every machine go? What only they hold is lost.")
            typer.confirm(question, abort=True, err=True)
        call(_release, as_json=as_json)
    home = find_home()
    gateway = gateway_of(home).end()
    server = server_of(home).end() or everything
    if as_json:
        print_json({"server": server, "gateway": gateway, "released": everything})
    elif server or gateway:
        console.print(_("Dumont is down."))
    else:
        console.print(_("Nothing was running."))


async def _release(dumont: Dumont) -> None:
    """Only a server can let machines go, so one is started if need be."""
    await start(dumont, UP_S_MAX)
    await dumont.stop(release=True)
