"""`dumont keep`: which commits of a workspace the store keeps, and other rules for it."""

import sys
from typing import Annotated

import typer

from dumont.cli.call import Json, Name, call, fail
from dumont.cli.launch import read_retention
from dumont.cli.output import console, instant, print_json, table
from dumont.cli.show import kept_words
from dumont.client.results import Keeping
from dumont.errors import BadInput
from dumont.i18n import _

LINES_MAX = 20


def keep(
    name: Name,
    rules: Annotated[str, typer.Argument(metavar="RULES", help=_("Such as last=60,daily=14; or all."))] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help=_("Change nothing; say what would go."))] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help=_("Do not ask."))] = False,
    as_json: Json = False,
) -> None:
    """Without rules: those that hold now. Asks first when commits would go that those keep, unless --yes is given."""
    try:
        wished = read_retention(rules)
    except BadInput as error:
        fail(error, as_json=as_json)
    if not rules:
        _tell(call(lambda dumont: dumont.retention(name), as_json=as_json), as_json=as_json)
        return
    found = call(lambda dumont: dumont.keep(name, wished, dry_run=True), as_json=as_json)
    if dry_run:
        _tell(found, as_json=as_json)
        return
    if not as_json:
        _list(found)
    if found.takes and not yes:
        if as_json or not sys.stdin.isatty():
            fail(BadInput(_("Nothing was changed: say --yes to let commits go that stay now.")), as_json=as_json)
        typer.confirm(_("Keep {rules} from now on?").format(rules=kept_words(wished)), abort=True, err=True)
    done = call(lambda dumont: dumont.keep(name, wished, agreed=found.takes), as_json=as_json)
    if as_json:
        print_json(done)
    else:
        console.print(_("{name}: the store keeps {rules}.").format(name=name, rules=kept_words(done.rules)))


def _tell(found: Keeping, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    console.print(_("{name}: the store keeps {rules}.").format(name=found.name, rules=kept_words(found.before)))
    if found.rules != found.before:
        console.print(_("It would keep {rules}.").format(rules=kept_words(found.rules)))
    console.print(_("Its place in the store: {place}").format(place=f"workspaces/{found.history}"))
    _list(found)


def _list(found: Keeping) -> None:
    """What the next round lets go, by the rules that are asked about."""
    if found.why:
        console.print(_("Nothing can go yet: {why}.").format(why=found.why), markup=False)
        return
    counts = {"n": len(found.let_go), "kept": found.kept}
    console.print(_("The next round lets go of {n} commits and keeps {kept}.").format(**counts))
    if not found.let_go:
        return
    rows = table(_("COMMIT"), _("STORED"), "")
    for one in found.let_go[:LINES_MAX]:
        rows.add_row(one.id, instant(one.at), _("stays by the rules that hold now") if one.taken else "")
    console.print(rows)
    if (more := len(found.let_go) - LINES_MAX) > 0:
        console.print(_("and {n} more; --json lists them all").format(n=more))
