"""`dumont history`: what removed workspaces left in the store; keep it longer, or delete it now."""

import asyncio
import sys
from typing import Annotated

import typer

from dumont.cli.call import Json, call, fail
from dumont.cli.output import console, instant, number, print_json, size, table
from dumont.client import Dumont, find_home
from dumont.client.results import HistoryShown
from dumont.errors import BadInput, NoSuchHistory
from dumont.i18n import _

LOOK_EVERY_S, LOOK_EVERY_S_MAX = 0.1, 2.0


def history(
    name: Annotated[str, typer.Argument(metavar="HISTORY", help=_("One of them, as the list calls it."))] = "",
    keep: Annotated[str, typer.Option(metavar="DAYS", help=_("Keep it so many days from now on, or for-ever."))] = "",
    delete: Annotated[bool, typer.Option("--delete", help=_("Delete it now, for good; asks for its name."))] = False,
    again: Annotated[str, typer.Option(metavar="HISTORY", help=_("Its name once more, instead of being asked."))] = "",
    wait_s: Annotated[float, typer.Option("--wait", help=_("Wait so many seconds until it is gone."))] = 60.0,
    as_json: Json = False,
) -> None:
    """List them, or say what becomes of one."""
    if (keep or delete or again) and not name:
        fail(BadInput(_("Say which history is meant: `dumont history` lists them.")), as_json=as_json)
    if keep and delete:
        fail(BadInput(_("Say either --keep or --delete.")), as_json=as_json)
    if keep:
        _show(call(lambda dumont: dumont.keep_history(name, keep), as_json=as_json), as_json)
        return
    if delete:
        _delete(name, again, wait_s, as_json)
        return
    found = call(lambda dumont: dumont.histories(), as_json=as_json)
    if name:
        one = _only(found, name, as_json)
        _show(one, as_json)
        if not as_json and not one.deleting:
            _tell_restore(one)
    elif as_json:
        print_json(found)
    elif found:
        _list(found)
    else:
        console.print(_("No removed workspace left a history."))


def _show(one: HistoryShown, as_json: bool) -> None:
    if as_json:
        print_json(one)
    else:
        _list([one])


def _list(found: list[HistoryShown]) -> None:
    rows = table(_("HISTORY"), _("REMOVED"), _("KEPT UNTIL"), _("OBJECTS"), _("SIZE"))
    for one in found:
        rows.add_row(one.history, instant(one.removed_at), _until(one), number(one.objects), size(one.bytes))
    console.print(rows)


def _until(one: HistoryShown) -> str:
    """Until when it is kept, in the reader's language."""
    if one.deleting:
        return _("being deleted")
    return instant(one.keep_until) if one.keep_until else _("for ever")


def _tell_restore(one: HistoryShown) -> None:
    home = find_home()
    place, key = home.store / "workspaces" / one.history, home.keys / "store.key"
    console.print(_("Its commits, and how to get one back:"))
    console.print(f"  dumont snapshot ls {place} --key-file {key}", markup=False)
    console.print(f"  dumont snapshot restore {place} DIRECTORY --key-file {key}", markup=False)


def _delete(name: str, again: str, wait_s: float, as_json: bool) -> None:
    one = _only(call(lambda dumont: dumont.histories(), as_json=as_json), name, as_json)
    if not again:
        if as_json or not sys.stdin.isatty():
            why = _("Nothing was deleted: say --again {name} to delete it for good.").format(name=name)
            fail(BadInput(why), as_json=as_json)
        _list([one])
        again = typer.prompt(_("Nothing brings it back. Type its name again to delete it"), err=True)
    left = call(lambda dumont: _deleted(dumont, name, again, wait_s), as_json=as_json)
    if as_json:
        print_json({"history": name, "gone": left is None, "bytes": one.bytes})
    elif left is None:
        console.print(_("The history {name} is gone: {size}.").format(name=name, size=size(one.bytes)))
    else:
        console.print(_("The history {name} is being deleted.").format(name=name))


async def _deleted(dumont: Dumont, name: str, again: str, wait_s: float) -> HistoryShown | None:
    """What is left of it; None when that is nothing."""
    left: HistoryShown | None = await dumont.delete_history(name, again)
    loop = asyncio.get_running_loop()
    give_up = loop.time() + wait_s
    pause_s = LOOK_EVERY_S
    while left is not None and loop.time() < give_up:
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LOOK_EVERY_S_MAX)  # each look measures what is left
        left = next((one for one in await dumont.histories() if one.history == name), None)
    return left


def _only(found: list[HistoryShown], name: str, as_json: bool) -> HistoryShown:
    one = next((one for one in found if one.history == name), None)
    if one is None:
        fail(NoSuchHistory(_("No removed workspace left a history {name}.").format(name=name)), as_json=as_json)
    return one
