"""Names in a path: the workspace that was meant, or an error that says which one might have been."""

import difflib

from dumont.api.site import Site
from dumont.errors import NoSuchWorkspace
from dumont.i18n import _
from dumont.model.workspace import State, Workspace


async def find_workspace(site: Site, name: str) -> Workspace:
    """The workspace of that name, unless it is deleted. Raises NoSuchWorkspace with the nearest names there are."""
    rows = {row.name: row for row in await site.parts.database.workspaces()}
    if name in rows and rows[name].state is not State.DELETED:
        return rows[name]
    detail = _("There is no workspace named {name}.").format(name=name)
    if near := difflib.get_close_matches(name, rows, n=3, cutoff=0.5):
        detail += " " + _("Did you mean {names}?").format(names=", ".join(near))
    raise NoSuchWorkspace(detail)
