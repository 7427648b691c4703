"""`dumont show`: one workspace, with the gauge of what a crash would lose now."""

import asyncio
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table

from dumont.cli.call import Json, Name, call
from dumont.cli.output import at_risk, console, instant, price, print_json, role_word, size, state, table
from dumont.client import Dumont
from dumont.client.results import Retention, WorkspaceShown
from dumont.i18n import _

WATCH_EVERY_S = 0.5


def show(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", "-w", help=_("Keep showing it as it changes."))] = False,
    as_json: Json = False,
) -> None:
    """Show a workspace."""
    if watch:
        call(lambda dumont: _watch(dumont, name, as_json), as_json=as_json)
        return
    shown = call(lambda dumont: dumont.workspace(name), as_json=as_json)
    if as_json:
        print_json(shown)
    else:
        console.print(render(shown))


async def _watch(dumont: Dumont, name: str, as_json: bool) -> None:
    if as_json:
        while True:
            print_json(await dumont.workspace(name))
            await asyncio.sleep(WATCH_EVERY_S)
    with Live(render(await dumont.workspace(name)), console=console, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            live.update(render(await dumont.workspace(name)), refresh=True)


def render(shown: WorkspaceShown) -> RenderableType:
    """For a person."""
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="bold")
    facts.add_column()
    facts.add_row(_("Workspace"), f"[bold]{shown.name}[/]  {state(shown.state)}")
    facts.add_row(_("Epoch"), str(shown.epoch))
    facts.add_row(_("Primary"), f"{shown.primary or '–'} {shown.machine.upper()}".strip())
    facts.add_row(_("Address"), f"ssh {shown.address.host}:{shown.address.ssh_port}  http {shown.address.http_port}")
    facts.add_row(_("Copies"), str(shown.copies))
    facts.add_row(_("At risk"), at_risk(shown))
    facts.add_row(_("Commit"), _commit(shown))
    facts.add_row(_("In the store"), shown.stored or "–")
    facts.add_row(_("The store keeps"), kept_words(shown.retention))
    if shown.switching_to:
        facts.add_row(_("Moving to"), shown.switching_to)
    if shown.workload:
        facts.add_row(_("Workload"), shown.workload)
    if shown.halted:
        facts.add_row(_("Halted"), f"[bold red]{shown.halted}[/]")
    return Group(facts, "", _replicas(shown))


def kept_words(retention: Retention) -> str:
    """The rules, in the reader's language."""
    rules = {
        _("{n} newest"): retention.last,
        _("{n} hourly"): retention.hourly,
        _("{n} daily"): retention.daily,
        _("{n} weekly"): retention.weekly,
    }
    return ", ".join(rule.format(n=count) for rule, count in rules.items() if count) or _("every commit")


def _commit(shown: WorkspaceShown) -> str:
    if shown.head is None:
        return "–"
    kind = _("consistent") if shown.consistent else _("fuzzy: {files}").format(files=", ".join(shown.fuzzy))
    text = f"{shown.head}  {(shown.root or '')[:12]}  {kind}"
    if shown.uncovered:
        text += "  " + _("not covered: {files}").format(files=", ".join(shown.uncovered))
    return text


def _replicas(shown: WorkspaceShown) -> Table:
    rows = table(
        _("INSTANCE"), _("ROLE"), _("STATE"), _("HEAD"), _("ACKS"), _("HEARD"), _("CPU"), _("MEMORY"), _("PRICE")
    )
    for one in shown.replicas:
        heard = "–" if one.heard_ms_ago is None else _("{n} ms ago").format(n=one.heard_ms_ago)
        cpu = "?" if one.meters.cpu_percent is None else f"{one.meters.cpu_percent:.0f} %"
        name = f"[red]{one.id}[/]" if one.lost else one.id
        acks = _("yes") if one.in_ack_set else "–"
        memory = size(one.meters.memory_bytes)
        rows.add_row(
            name,
            role_word(one.role),
            one.state,
            one.head or "–",
            acks,
            heard,
            cpu,
            memory,
            price(one.price_micros_per_hour),
        )
    if not shown.replicas:
        rows.add_row(_("none yet (since {when})").format(when=instant(shown.created_at)))
    return rows
