"""`dumont drill`: a real interruption on purpose, ending in a receipt."""

from typing import Annotated

import typer

from dumont.cli.call import Json, Name, call
from dumont.cli.output import console, print_json, size
from dumont.client.results import Receipt
from dumont.i18n import _


def drill(
    name: Name,
    kind: Annotated[str, typer.Option(help=_("What to do to the primary's machine: killed."))] = "killed",
    as_json: Json = False,
) -> None:
    """Ends with 0 only when nothing acknowledged was lost."""
    receipt = call(lambda dumont: dumont.drill(name, kind), as_json=as_json)
    if as_json:
        print_json(receipt)
    else:
        _print(receipt)
    if not receipt.ok:
        raise typer.Exit(1)


def _print(receipt: Receipt) -> None:
    style = "green" if receipt.ok else "bold red"
    console.print(f"[{style}]{_verdict(receipt)}[/]")
    rows = {
        _("primary"): f"{receipt.primary_before} → {receipt.primary_after or '–'}",
        _("epoch"): f"{receipt.epoch_before} → {receipt.epoch_after}",
        _("barrier before"): f"{receipt.barrier}  {receipt.barrier_root}",
        _("promoted commit"): f"{receipt.promoted_commit}  {receipt.promoted_root}",
        _("detected after"): _ms(receipt.detected_ms),
        _("decided after"): _ms(receipt.decided_ms),
        _("serving after"): _ms(receipt.promoted_ms),
        _("at risk at the kill"): size(receipt.at_risk_bytes),
        _("why"): receipt.why,
    }
    width = max(map(len, rows))
    for label, value in rows.items():
        console.print(f"[bold]{label:<{width}}[/]  {value}")


def _verdict(receipt: Receipt) -> str:
    if receipt.ok:
        return _("Nothing acknowledged was lost.")
    if not receipt.primary_after:
        return _("Nobody was promoted in time.")
    return _("LOST: the promoted commit lies before the barrier.")


def _ms(value: int | None) -> str:
    return "?" if value is None else f"{value} ms"
