"""`dumont launch`: create a workspace."""

import asyncio
from typing import Annotated

import typer

from dumont.cli.call import Json, Name, call
from dumont.cli.output import console, print_json, state
from dumont.client import Dumont
from dumont.client.results import Launch, Wish, WorkspaceShown
from dumont.i18n import _

LOOK_EVERY_S = 0.2


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
    race: Annotated[int, typer.Option(help=_("Start so many GPU machines at once; the first ready one stays."))] = 1,
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
        price_micros_per_hour_max=None if max_price is None else round(max_price * 1_000_000),
    )
    wish = Launch(
        name=name, run=run, on_standby=on_standby, on_switch=on_switch, return_to_gpu=not no_return, gpu=wanted
    )
    shown = call(lambda dumont: _launch(dumont, wish, wait_s), as_json=as_json)
    if as_json:
        print_json(shown)
        return
    console.print(f"[bold]{shown.name}[/]  {state(shown.state)}")
    console.print(_("Log in with `dumont ssh {name}`; HTTP is at {url}.").format(name=name, url=_url(shown)))


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
