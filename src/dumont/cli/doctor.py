"""`dumont doctor`: what this machine lacks, and the one line that helps."""

import shutil

import typer

from dumont.cli.call import Json, call
from dumont.cli.output import console, print_json
from dumont.client import Dumont
from dumont.client.results import Check
from dumont.errors import ServerAway
from dumont.i18n import _

PROGRAMS = {"ssh": "openssh-client", "rsync": "rsync"}


def doctor(as_json: Json = False) -> None:
    """Ends with 1 when something that Dumont needs is missing."""
    checks = call(_examine, as_json=as_json)
    if as_json:
        print_json(checks)
    else:
        for check in checks:
            mark = "[green]✓[/]" if check.ok else "[bold red]✗[/]" if check.needed else "[yellow]–[/]"
            console.print(f"{mark} [bold]{check.name}[/]  {check.detail}")
            if not check.ok and check.fix:
                console.print(f"    {check.fix}")
    if any(check.needed and not check.ok for check in checks):
        raise typer.Exit(1)


async def _examine(dumont: Dumont) -> list[Check]:
    try:
        health = await dumont.health()
        checks = await dumont.doctor()
    except ServerAway as error:
        return [*_programs(), Check(name=_("server"), ok=False, detail=str(error), fix="dumont up")]
    known = {check.name for check in checks}
    server = Check(
        name=_("server"),
        ok=True,
        detail=_("version {version}, pid {pid}").format(version=health.version, pid=health.pid),
    )
    gateway = Check(
        name=_("gateway"), ok=health.gateway, detail=_("connected") if health.gateway else _("away"), fix="dumont up"
    )
    return [*(check for check in _programs() if check.name not in known), *checks, server, gateway]


def _programs() -> list[Check]:
    checks = []
    for name, package in PROGRAMS.items():
        found = shutil.which(name)
        fix = f"sudo apt-get install -y {package}"
        checks.append(Check(name=name, ok=bool(found), detail=found or _("not found"), fix=fix, needed=name == "ssh"))
    return checks
