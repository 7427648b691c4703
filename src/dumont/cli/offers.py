"""`dumont offers`: the market now, by what an hour really costs."""

import time
from collections.abc import Iterable
from typing import Annotated

import typer

from dumont.cli.call import Json, call
from dumont.cli.output import console, number, print_json, table
from dumont.client import Dumont
from dumont.client.results import Compared, OffersFound, OfferShown, PriceShown, Stake
from dumont.i18n import _

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 24
HISTORY_DAYS = 7.0
WATCH_S_MIN = 5.0


def offers(
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="[QUERY]", help=_("Such as 'gpu=RTX 4090 vram>=24 region=BR,US price<0.5 sort=price'.")),
    ] = None,
    limit: Annotated[int, typer.Option(help=_("How many to show."))] = 20,
    explain: Annotated[bool, typer.Option("--explain", help=_("What each expected cost is made of."))] = False,
    watch: Annotated[float, typer.Option(help=_("Look again every so many seconds, at least 5; 0: once."))] = 0.0,
    as_json: Json = False,
) -> None:
    """Cost is expected cost: price, interruptions at their hazard, transfer and the standby."""
    text = " ".join(query or [])
    while True:
        found, history = call(lambda dumont: _look(dumont, text, limit), as_json=as_json)
        if as_json:
            print_json(found)
        else:
            _show(found, history, explain)
        if not watch:
            return
        time.sleep(max(watch, WATCH_S_MIN))


async def _look(dumont: Dumont, text: str, limit: int) -> tuple[OffersFound, list[PriceShown]]:
    found = await dumont.offers(text, limit)
    first = next(iter(found.offers), None)
    history = await dumont.prices(first.gpu or first.name, HISTORY_DAYS) if first else []
    return found, history


def _show(found: OffersFound, history: list[PriceShown], explain: bool) -> None:
    for why in found.unanswered:
        console.print(f"[yellow]{why}[/]")
    if not found.offers:
        console.print(_("Nothing on offer is what you asked for. Ask for less, or another region or price."))
        return
    rows = table(
        _("GPU"), _("MEMORY"), _("WHERE"), _("PROVIDER"), _("KIND"), _("US$/h"), _("COST US$/h"), _("INTERRUPTIONS/DAY")
    )
    for one in found.offers:
        rows.add_row(*_row(one))
    console.print(rows)
    if explain:
        for one in found.offers:
            _explain(one, found.stake)
    _show_history(found.offers[0], history)
    for compared in found.references:
        _show_reference(compared)


def _row(one: OfferShown) -> tuple[str, ...]:
    what = f"{one.gpus} × {one.gpu}" if one.gpus > 1 else one.gpu or one.name
    if one.idle_gpu:
        what += f" + {one.idle_gpu}"
    memory = one.vram_mb if one.gpu else one.ram_mb
    return (
        what,
        f"{number(memory / 1000)} GB" if memory else "?",
        one.zone or one.region or "?",
        one.provider,
        {"never": _("on demand"), "outbid": _("bid"), "preempted": _("spot")}.get(one.interruption, one.interruption),
        number(one.price_micros_per_hour / 1e6, 4),
        number(one.cost_micros_per_hour / 1e6, 4),
        interruptions(one),
    )


def interruptions(one: OfferShown) -> str:
    """A day, with the interval that holds them with a probability of 90 %."""
    mean, low, high = (number(rate * 24, 2) for rate in (one.hazard.per_hour, one.hazard.low, one.hazard.high))
    return f"{mean} ({low}–{high})"


def _explain(one: OfferShown, stake: Stake | None) -> None:
    words = {
        "machine": _("machine"),
        "disk": _("disk"),
        "address": _("address"),
        "restore": _("interruptions: time until it works again"),
        "work": _("interruptions: work done again"),
        "transfer": _("transfer"),
        "standby": _("standby"),
    }
    console.print(f"[bold]{one.gpu or one.name}[/]  {one.provider} {one.id}")
    for part, micros in one.parts.items():
        if micros:
            how = calculation(part, one, stake) if stake else ""
            text = f"    {number(micros / 1e6, 6):>14}  {words.get(part, part)}  [dim]{how}[/]"
            console.print(text, highlight=False, soft_wrap=True)
    console.print(f"    {number(one.cost_micros_per_hour / 1e6, 6):>14}  {_('expected cost, US$ an hour')}")
    if one.bid_micros_per_hour:
        console.print(f"    {_('bid')}: US$ {number(one.bid_micros_per_hour / 1e6, 4)}/h")
    if one.idle_gpu:
        said = _("{provider} rents no machine without a GPU: {gpu} is in the price, and idle")
        console.print(f"    {said.format(provider=one.provider, gpu=one.idle_gpu)}")
    if one.interruption != "never":
        said = _("our own machines behind its interruptions: {lives}, held for {hours} h; taken away: {interrupted}")
        own = one.hazard
        text = said.format(lives=own.own_lives, hours=number(own.own_hours, 1), interrupted=own.own_interrupted)
        console.print(f"    {text}", highlight=False)


def calculation(part: str, one: OfferShown, stake: Stake) -> str:
    """How that part of an hour's expected cost came about."""
    rate = number(one.hazard.per_hour, 4)
    if part == "machine" and one.bid_micros_per_hour and one.min_bid_micros_per_hour:
        lowest = number(one.min_bid_micros_per_hour / 1e6, 4)
        return _("your bid; the lowest that wins now is US$ {lowest}").format(lowest=lowest)
    if part in ("restore", "work"):
        seconds = number(stake.restore_s if part == "restore" else stake.work_at_risk_s, 1)
        value = number(stake.value_micros_per_hour / 1e6, 2)
        said = _("{rate} an hour × {seconds} s × US$ {value} an hour")
        return said.format(rate=rate, seconds=seconds, value=value)
    if part == "transfer":
        fetched, sent = number(stake.transfer_gb, 1), number(stake.sync_gb_per_hour, 2)
        said = _("{rate} an hour × {fetched} GB in, and {sent} GB an hour out")
        return said.format(rate=rate, fetched=fetched, sent=sent)
    return _("as listed")


def _show_history(first: OfferShown, history: list[PriceShown]) -> None:
    """The lowest spot price of the first offer's product over time, as far as it was seen."""
    same = [p for p in history if p.spot and p.provider == first.provider]
    lowest: dict[str, int] = {}
    for point in same:
        lowest[point.at] = min(point.lowest_micros_per_hour, lowest.get(point.at, point.lowest_micros_per_hour))
    values = list(lowest.values())
    if len(values) < 2:
        return
    ends = (number(values[0] / 1e6, 4), number(values[-1] / 1e6, 4))
    said = _("lowest spot price of {name}, {n} looks in {days} days").format(
        name=first.gpu or first.name, n=len(values), days=round(HISTORY_DAYS)
    )
    console.print(f"{ends[0]} {sparkline(values)} {ends[1]}  {said}")


def sparkline(values: Iterable[int], width: int = SPARK_WIDTH) -> str:
    """Values as little columns, the last `width` of them; all alike is a line at the bottom."""
    shown = list(values)[-width:]
    low, high = min(shown), max(shown)
    steps = len(SPARKS) - 1
    return "".join(SPARKS[round((value - low) / (high - low) * steps) if high > low else 0] for value in shown)


def _show_reference(one: Compared) -> None:
    name = one.provider.upper()
    if one.micros_per_hour is None:
        console.print(f"[dim]{name}: {one.why}[/]")
        return
    price = number(one.micros_per_hour / 1e6, 2)
    what = f"{one.gpu}, {one.instance}, {one.region}, {one.as_of}, {one.source}"
    said = "" if one.exact else f"; {one.why}"
    console.print(f"[dim]{name} {_('on demand')}: US$ {price}/h ({what}{said})[/]")
