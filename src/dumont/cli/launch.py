"""`dumont launch`: create a workspace."""

import asyncio
import sys
from dataclasses import fields, replace
from typing import Annotated

import typer

from dumont.cli.call import Json, Name, call, fail
from dumont.cli.output import console, print_json, state
from dumont.client import Dumont
from dumont.client.advice import Choice
from dumont.client.results import Fact, Launch, Retention, Wish, WorkspaceShown
from dumont.errors import BadInput
from dumont.i18n import _

LOOK_EVERY_S = 0.2
Keep = Annotated[str, typer.Option(metavar="RULES", help=_("What the store keeps, as last=60,daily=14; or all."))]
Spares = Annotated[
    int, typer.Option(help=_("Hold up to so many GPU machines beside the first, while that saves money."))
]
HourWorth = Annotated[
    float | None, typer.Option(metavar="US$", help=_("What an hour without the GPU is worth to you; 2 if not said."))
]


def launch(
    name: Name,
    run: Annotated[str, typer.Option(help=_("Shell command to run on the GPU."))] = "",
    on_standby: Annotated[str, typer.Option(help=_("What runs instead while a CPU machine is primary."))] = "",
    on_switch: Annotated[str, typer.Option(help=_("What is run before a planned move."))] = "",
    no_return: Annotated[bool, typer.Option("--no-return", help=_("Do not move back to a GPU by itself."))] = False,
    gpu: Annotated[list[str] | None, typer.Option("--gpu", help=_("A GPU that will do; may be repeated."))] = None,
    gpus: Annotated[int, typer.Option(help=_("How many GPUs on one machine."))] = 1,
    vram: Annotated[float, typer.Option(help=_("The least memory of each GPU, in GB."))] = 0.0,
    disk: Annotated[int, typer.Option(help=_("Disk of both machines, in GB."))] = 20,
    region: Annotated[list[str] | None, typer.Option(help=_("Country code or region; may be repeated."))] = None,
    max_price: Annotated[float | None, typer.Option(help=_("The most for the GPU machine, US$ an hour."))] = None,
    on_demand: Annotated[str, typer.Option(help=_("GPUs on demand: never, fallback or always."))] = "never",
    keep: Keep = "",
    race: Annotated[int, typer.Option(help=_("Start so many GPU machines at once; the first ready one stays."))] = 1,
    spares: Spares = 0,
    hour_worth: HourWorth = None,
    advise: Annotated[str, typer.Option(metavar="TEXT", help=_("What you want to do: the best value is rented."))] = "",
    yes: Annotated[bool, typer.Option("--yes", help=_("With --advise: do not ask before renting."))] = False,
    wait_s: Annotated[float, typer.Option("--wait", help=_("Wait so many seconds until it serves."))] = 60.0,
    as_json: Json = False,
) -> None:
    """Create a workspace and wait until it serves."""
    wanted = Wish(
        names=gpu or [],
        gpus=gpus,
        vram_gb_min=vram,
        disk_gb=disk,
        regions=region or [],
        on_demand=on_demand,
        race=race,
        spares=spares,
        price_micros_per_hour_max=None if max_price is None else round(max_price * 1_000_000),
    )
    try:
        retention = read_retention(keep)
    except BadInput as error:
        fail(error, as_json=as_json)
    advised: dict[str, Fact] = {}
    if advise:
        choice = _advised(advise, yes=yes, as_json=as_json)
        wanted, advised = _as_told(choice, wanted), choice.advised
    wish = Launch(
        name=name,
        run=run,
        on_standby=on_standby,
        on_switch=on_switch,
        return_to_gpu=not no_return,
        gpu=wanted,
        advised=advised,
        retention=retention,
        value_micros_per_hour=None if hour_worth is None else round(hour_worth * 1_000_000),
    )
    shown = call(lambda dumont: _launch(dumont, wish, wait_s), as_json=as_json)
    if as_json:
        print_json(shown)
        return
    console.print(f"[bold]{shown.name}[/]  {state(shown.state)}")
    console.print(_("Log in with `dumont ssh {name}`; HTTP is at {url}.").format(name=name, url=_url(shown)))


def read_retention(text: str) -> Retention:
    """The rules in `text`: `last=60,hourly=48`, of which those left out keep nothing; `all`; "" for the usual ones.

    Raises BadInput.
    """
    if not text:
        return Retention()
    counts = {item.name: 0 for item in fields(Retention)}
    for rule in text.split(",") if text != "all" else ():
        name, _equals, count = rule.strip().partition("=")
        if name not in counts or not (count.isascii() and count.isdigit()):
            raise BadInput(
                _("{rule} is no rule of what to keep: say something like last=60,hourly=48,daily=14,weekly=8.").format(
                    rule=rule.strip() or "–"
                )
            )
        counts[name] = int(count)
    return Retention(**counts)


def _advised(text: str, *, yes: bool, as_json: bool) -> Choice:
    """The best value for a description, once a person has agreed to it. Ends with 1 without a choice or a yes."""
    found = call(lambda dumont: dumont.advise(text), as_json=as_json)
    choice = next((one for one in found.choices if one.name == "best_value"), None)
    if choice is None or found.lack:
        said = " ".join([found.message or _("There is nothing to recommend."), *found.questions])
        fail(BadInput(said), as_json=as_json)
    if not found.market.live:
        fail(
            BadInput(_("No provider offers such a machine here: add one with `dumont provider add`.")), as_json=as_json
        )
    if not yes:
        if as_json or not sys.stdin.isatty():
            fail(BadInput(_("Nothing was rented: say --yes to rent what is advised.")), as_json=as_json)
        for line in (f"{choice.gpus} × {choice.gpu}, {choice.provider} {choice.region}", *choice.reasons):
            console.print(line, markup=False)
        typer.confirm(_("Rent it?"), abort=True)
    return choice


def _as_told(choice: Choice, wanted: Wish) -> Wish:
    """The choice's wish; what was said on the command line counts above it."""
    default, advised = Wish(), choice.wish
    said = {
        item.name: value
        for item in fields(Wish)
        if (value := getattr(wanted, item.name)) != getattr(default, item.name)
    }
    return replace(advised, **said)


async def _launch(dumont: Dumont, wish: Launch, wait_s: float) -> WorkspaceShown:
    shown = await dumont.launch(wish)
    loop = asyncio.get_running_loop()
    give_up = loop.time() + wait_s
    while not _serves(shown) and loop.time() < give_up:
        await asyncio.sleep(LOOK_EVERY_S)
        shown = await dumont.workspace(wish.name)
    return shown


def _serves(shown: WorkspaceShown) -> bool:
    return any(replica.ready and replica.id == shown.primary for replica in shown.replicas)


def _url(shown: WorkspaceShown) -> str:
    return f"http://{shown.address.host}:{shown.address.http_port}/"
