"""`dumont sync`: a barrier from outside."""

from typing import Annotated

import typer

from dumont.cli.call import Json, Name, call
from dumont.cli.output import console, print_json
from dumont.i18n import _


def sync(
    name: Name,
    timeout_s: Annotated[float, typer.Option("--timeout", help=_("Seconds until the answer is unknown."))] = 10.0,
    as_json: Json = False,
) -> None:
    """Ends with 0 only when everything written before is on the whole ack set."""
    answer = call(lambda dumont: dumont.sync(name, timeout_s), as_json=as_json)
    if as_json:
        print_json(answer)
    elif answer.outcome == "ok":
        kind = _("consistent") if answer.consistent else _("fuzzy: {files}").format(files=", ".join(answer.fuzzy))
        console.print(f"[green]ok[/]  {answer.token}  {answer.root}  {kind}")
    else:
        console.print(f"[bold red]{_('unknown')}[/]  {answer.reason}")
    if answer.outcome != "ok":
        raise typer.Exit(1)
