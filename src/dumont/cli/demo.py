"""`dumont demo`: machines are killed and cut off under a real workload, and the outcome is judged from outside."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from dumont.cli.call import Json
from dumont.demo.harness import Options
from dumont.demo.main import demo as play
from dumont.i18n import _


def demo(
    rounds: Annotated[int, typer.Option(help=_("How many rounds."), min=1)] = 4,
    kind: Annotated[str, typer.Option(help=_("killed, cut_off, both, or planned (pauses of moves)."))] = "both",
    seed: Annotated[int | None, typer.Option(help=_("The same seed breaks at the same instants."))] = None,
    fast: Annotated[bool, typer.Option("--fast", help=_("Small tree, no return to a GPU between rounds."))] = False,
    home: Annotated[
        Path | None, typer.Option(help=_("Play in this home; default: one of its own, removed at the end."))
    ] = None,
    cloud: Annotated[str, typer.Option(help=_("local, or emulated: Vast.ai and Google as emulators."))] = "local",
    as_json: Json = False,
) -> None:
    """Ends with 0 only when every promise held."""
    chosen = seed if seed is not None else secrets.randbelow(2**31)
    options = Options(rounds=rounds, kind=kind, seed=chosen, fast=fast, home=home, cloud=cloud)
    raise typer.Exit(play(options, as_object=as_json))
