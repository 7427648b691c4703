"""`dumont provider`: the accounts that machines are rented under; add, list, check and try them."""

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from dumont.cli.call import Json, call, fail
from dumont.cli.output import console, price, print_json, table
from dumont.client.clouds import FILE, Clouds, GceAccount, ServerAddress, VastAccount, read_clouds, write_clouds
from dumont.client.home import Home, find_home
from dumont.client.results import Checked, Tried
from dumont.errors import BadInput, DumontError
from dumont.i18n import _

VAST_KEY = "keys/vast"
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
add = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(add, name="add", help=_("Add an account; `dumont up` after it uses it."))

Host = Annotated[str, typer.Option("--server-host", help=_("The address under which machines reach this server."))]
Url = Annotated[str, typer.Option(help=_("Another address than the provider's own, such as an emulator's."))]


@add.command("vast", help=_("Add an account of Vast.ai."))
def add_vast(
    key_file: Annotated[Path | None, typer.Option(help=_("A file with the API key; - is the input."))] = None,
    server_host: Host = "",
    url: Url = "",
    image: Annotated[str, typer.Option(help=_("The container image that GPU machines start from."))] = "",
) -> None:
    """The key is copied into Dumont's home, where only its owner may read it."""
    try:
        home = find_home(os.environ)
        key = _read_key(key_file)
        account = VastAccount()
        account = msgspec.structs.replace(account, url=url or account.url, image=image or account.image)
        _save(home, Clouds(vast=account), server_host)
        _write_private(home.path / VAST_KEY, key)
    except DumontError as error:
        fail(error, as_json=False)
    _say_added("vast")


@add.command("gce", help=_("Add a project of Google Cloud."))
def add_gce(
    project: Annotated[str, typer.Option(help=_("The project's id."))],
    zone: Annotated[list[str], typer.Option("--zone", help=_("A zone, the preferred one first; may be repeated."))],
    credentials: Annotated[Path | None, typer.Option(help=_("A service account's key file."))] = None,
    server_host: Host = "",
    url: Url = "",
) -> None:
    """Without a key file Google's own defaults are used, such as those of `gcloud auth application-default login`."""
    try:
        home = find_home(os.environ)
        if credentials and not credentials.is_file():
            raise BadInput(_("{file} is no file").format(file=credentials))
        file = str(credentials.absolute()) if credentials else ""
        account = GceAccount(project=project, zones=tuple(zone), credentials_file=file, endpoint=url)
        _save(home, Clouds(gce=account), server_host)
    except DumontError as error:
        fail(error, as_json=False)
    _say_added("gce")


@app.command("ls", help=_("List the providers, and what is rented there."))
def ls(as_json: Json = False) -> None:
    """As the running server knows them."""
    found = call(lambda dumont: dumont.providers(), as_json=as_json)
    if as_json:
        print_json(found)
        return
    rows = table(_("NAME"), _("OFFERS"), _("INSTANCES"), _("SPENDING"))
    for one in found:
        rows.add_row(one.name, str(one.offers), str(one.instances), price(one.spend_micros_per_hour))
    console.print(rows)


@app.command("check", help=_("Check the accounts: keys, rights, quota, credit. Rents nothing."))
def check(name: Annotated[str, typer.Argument(metavar="[NAME]")] = "", as_json: Json = False) -> None:
    """Ends with 1 when something is missing."""
    names = [name] if name else [one.name for one in call(lambda dumont: dumont.providers(), as_json=as_json)]
    found = {one: call(lambda dumont, one=one: dumont.check_provider(one), as_json=as_json) for one in names}  # type: ignore[misc]
    if as_json:
        print_json(found)
    else:
        for provider, findings in found.items():
            console.print(f"[bold]{provider}[/]")
            for finding in findings:
                _show(finding)
    if any(finding.ok is False for findings in found.values() for finding in findings):
        raise typer.Exit(1)


@app.command("probe", help=_("Try an account for a few cents, and end what was rented."))
def probe(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help=_("Do not ask."))] = False,
    as_json: Json = False,
) -> None:
    """Ends with 1 when the live service behaves otherwise than assumed."""
    if not yes and not typer.confirm(_("This rents a machine of {name} for some minutes. Go on?").format(name=name)):
        raise typer.Exit(1)
    steps = call(lambda dumont: dumont.probe_provider(name), as_json=as_json)
    if as_json:
        print_json(steps)
    else:
        for step in steps:
            _tell(step)
    if any(step.outcome in ("refuted", "failed") for step in steps):
        raise typer.Exit(1)


def _show(finding: Checked) -> None:
    mark = {True: "[green]✓[/]", False: "[bold red]✗[/]", None: "[yellow]?[/]"}[finding.ok]
    console.print(f"{mark} [bold]{finding.name}[/]  {finding.detail}")
    if finding.ok is not True and finding.remedy:
        console.print(f"    {finding.remedy}")


def _tell(step: Tried) -> None:
    words = {"confirmed": _("confirmed"), "refuted": _("refuted"), "failed": _("failed"), "skipped": _("skipped")}
    console.print(f"[bold]{step.name}[/]: {words[step.outcome]}  {step.assumption}")
    if step.detail:
        console.print(f"    {step.detail}")


def _save(home: Home, added: Clouds, server_host: str) -> None:
    """Add to what `providers.toml` says. Raises BadInput when nobody ever said where machines find the server."""
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    present = read_clouds(home.path) if (home.path / FILE).exists() else Clouds()
    server = present.server
    if server_host:  # what a person set beside it stays: the times after which machines end themselves, above all
        server = msgspec.structs.replace(server, host=server_host) if server else ServerAddress(host=server_host)
    if server is None:
        raise BadInput(_("Give --server-host: the address under which machines out there reach this server."))
    vast, gce = added.vast or present.vast, added.gce or present.gce
    write_clouds(home.path, Clouds(server=server, vast=vast, gce=gce, history=present.history))


def _read_key(file: Path | None) -> str:
    key = os.environ.get("VAST_API_KEY", "")
    if file is not None:
        key = sys.stdin.read() if str(file) == "-" else _content(file)
    if not key.strip():
        raise BadInput(_("Give the API key with --key-file or in VAST_API_KEY."))
    return key.strip()


def _content(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise BadInput(_("{file} can't be read: {why}").format(file=file, why=error.strerror)) from error


def _write_private(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.touch(0o600)
    draft.write_text(text + "\n")
    draft.rename(file)


def _say_added(name: str) -> None:
    console.print(_("{name} is added. Restart the server with `dumont down` and `dumont up`.").format(name=name))
    console.print(_("Then `dumont provider check {name}` says what is missing.").format(name=name))
