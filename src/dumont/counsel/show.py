"""Showing advice to a person: a table of choices, a bar of memory for each, reasons, assumptions and the command."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dumont.client.advice import Advice, Choice, Elsewhere, Line
from dumont.i18n import _, language

console = Console(highlight=False, soft_wrap=True)

BAR_WIDTH = 24
FULL, WORST, FREE = "█", "▒", "·"


def number(value: float, digits: int = 1) -> str:
    """With the separators of the reader's language."""
    text = f"{value:,.{digits}f}"
    return text.translate(str.maketrans(",.", ".,")) if language() == "pt_BR" else text


def show_advice(found: Advice) -> None:
    """Everything, in reading order: what was understood, the answer, what it rests on, what to do next."""
    for note in found.notes:
        console.print(f"[yellow]{escape(note)}[/]")
    if found.reading.get("task", "unknown") != "unknown":
        said = "  ".join(f"{name}={_plain(value)}" for name, value in found.reading.items())
        console.print(f"[dim]{_('understood')}: {escape(said)}[/]")
    if found.message:
        console.print(f"[bold]{escape(found.message)}[/]")
    if found.choices:
        console.print(_table(found))
        for titles, choice in _merged(found.choices):
            _show_choice(titles, choice, found)
    for way in found.cheaper_cards:
        console.print(f"→ {escape(way.text)}")
    if found.assumptions:
        console.print(f"[bold]{_('Assumed; say otherwise in the text or with --set:')}[/]")
        for one in found.assumptions:
            console.print(f"  [dim]{escape(one.text)}[/]")
    if found.questions:
        console.print(f"[bold]{_('An answer to this would change the recommendation:')}[/]")
        for question in found.questions:
            console.print(f"  ? {escape(question)}")
    _show_launch(found)


def bar(choice: Choice) -> str:
    """The card's memory as a bar: what the work takes, what it may take at worst, and what stays free."""
    memory = choice.memory_gb
    if memory is None or choice.card_gb <= 0:
        return "?" * BAR_WIDTH
    taken = min(BAR_WIDTH, round(memory.point / choice.card_gb * BAR_WIDTH))
    worst = min(BAR_WIDTH, max(taken, round(memory.high / choice.card_gb * BAR_WIDTH)))
    return FULL * taken + WORST * (worst - taken) + FREE * (BAR_WIDTH - worst)


def name_word(name: str) -> str:
    """What a choice is called, in the reader's language."""
    words = {"cheapest": _("cheapest that fits"), "best_value": _("best value"), "fastest": _("fastest")}
    return words.get(name, name)


def _merged(choices: list[Choice]) -> list[tuple[str, Choice]]:
    """Choices that are the same offer shown once, with all their titles."""
    found: dict[str, tuple[list[str], Choice]] = {}
    for one in choices:
        found.setdefault(one.offer, ([], one))[0].append(name_word(one.name))
    return [(" = ".join(titles), one) for titles, one in found.values()]


def _table(found: Advice) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    local = () if found.exchange.currency == "USD" else (found.exchange.currency,)
    columns = (_("CHOICE"), _("GPU"), _("WHERE"), _("FITS"), _("TIME"), _("COST US$"), *local, "US$/h")
    for column in columns:
        table.add_column(column)
    for titles, one in _merged(found.choices):
        table.add_row(*_row(titles, one, found))
    return table


def _row(titles: str, one: Choice, found: Advice) -> tuple[str, ...]:
    fits = {True: _("yes"), False: _("no"), None: "?"}[one.fits]
    return (
        titles,
        f"{one.gpus} × {one.gpu}" if one.gpus > 1 else one.gpu,
        f"{one.provider} {one.region}".strip(),
        fits,
        "?" if one.hours is None else f"{number(one.hours)} h",
        "?" if one.cost is None else number(one.cost, 2),
        *([] if found.exchange.currency == "USD" else ["–" if one.cost_local is None else number(one.cost_local, 2)]),
        number(one.cost_micros_per_hour / 1e6, 3),
    )


def _show_choice(titles: str, one: Choice, found: Advice) -> None:
    name = f"{one.gpus} × {one.gpu}" if one.gpus > 1 else one.gpu
    console.print(f"[bold]{escape(titles)}[/]: {escape(name)}")
    room = "" if one.memory_gb is None else f" {number(one.memory_gb.point)}–{number(one.memory_gb.high)} GB"
    console.print(f"  {bar(one)}{room} / {number(one.card_gb)} GB")
    for reason in one.reasons:
        console.print(f"  {escape(reason)}")
    for other in one.elsewhere:
        _show_elsewhere(other)
    for line in one.explain:
        _show_line(line)


def _show_elsewhere(one: Elsewhere) -> None:
    name = one.provider.upper()
    if one.micros_per_hour is None:
        console.print(f"  [dim]{name}: {escape(one.why)}[/]")
        return
    whole = "" if one.cost is None else f"US$ {number(one.cost, 2)}, "
    price = f"{whole}US$ {number(one.micros_per_hour / 1e6, 2)}/h"
    what = f"{one.gpu}, {one.instance}, {one.region}, {one.as_of}, {one.source}"
    said = "" if one.exact else f"; {one.why}"
    console.print(f"  [dim]{name} {_('on demand')}: {price} ({escape(what + said)})[/]")


def _show_line(line: Line) -> None:
    sections = {"memory": _("memory"), "speed": _("speed"), "time": _("time"), "cost": _("cost")}
    amount = "?" if line.amount is None else f"{line.amount:g}"
    about = "  ".join(filter(None, (line.formula, f"[{line.source}]" if line.source else "")))
    shown = f"    {sections.get(line.section, line.section):<10}{line.what:<24}{amount:>14} {line.unit:<12}"
    console.print(escape(f"{shown} {about}".rstrip()))


def _show_launch(found: Advice) -> None:
    best = next((one for one in found.choices if one.name == "best_value"), None)
    if best is not None:
        console.print(f"[bold]{_('To launch the best value:')}[/]")
        console.print(f"  {escape(best.launch)}")


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(str(part) for part in value.values())
    return str(value)
