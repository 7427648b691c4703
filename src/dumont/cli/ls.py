"""`dumont ls`: all workspaces."""

from dumont.cli.call import Json, call
from dumont.cli.output import at_risk, console, print_json, state, table
from dumont.i18n import _


def ls(as_json: Json = False) -> None:
    """List the workspaces."""
    found = call(lambda dumont: dumont.workspaces(), as_json=as_json)
    if as_json:
        print_json(found)
        return
    if not found:
        console.print(_("No workspaces. `dumont launch NAME` creates one."))
        return
    rows = table(_("NAME"), _("STATE"), _("PRIMARY"), _("COPIES"), _("AT RISK"), _("SSH PORT"))
    for one in found:
        rows.add_row(
            one.name, state(one.state), one.primary or "–", str(one.copies), at_risk(one), str(one.address.ssh_port)
        )
    console.print(rows)
