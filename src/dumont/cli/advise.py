"""`dumont advise`: only listed here, for `dumont --help`; the composition root runs it without importing this."""

import typer

from dumont.i18n import _


def advise() -> None:
    """Only reached when something other than the program `dumont` runs this command line."""
    typer.echo(_("run it as `dumont advise`; `dumont advise --help` shows how"), err=True)
    raise typer.Exit(2)
