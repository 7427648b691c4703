"""Output: how values are written for people, and as JSON for programs. Units in the reader's language."""

import json
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from dumont.client.results import Happened, WorkspaceShown
from dumont.i18n import _, language

console = Console(highlight=False, soft_wrap=True)

STATE_STYLES = {
    "running": "green",
    "degraded": "bold red",
    "lost": "bold red",
    "failing_over": "bold yellow",
    "switching": "cyan",
    "launching": "cyan",
    "deleting": "dim",
}


def print_json(value: Any) -> None:
    """One JSON value on one line; records become objects with their fields as keys."""
    print(json.dumps(value, default=_plain, ensure_ascii=False), flush=True)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def number(value: float, digits: int = 0) -> str:
    """With the separators of the reader's language."""
    text = f"{value:,.{digits}f}"
    return text.translate(str.maketrans(",.", ".,")) if language() == "pt_BR" else text


def size(count: float | None) -> str:
    """Bytes, in the unit that suits; "?" when unknown."""
    if count is None:
        return "?"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{number(count, 0 if unit == 'B' else 1)} {unit}"
        count /= 1024
    return f"{number(count, 1)} TiB"


def instant(text: str | None) -> str:
    """An ISO instant in the reader's own time zone, to the second."""
    if not text:
        return "–"
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(text: str) -> str:
    """How long ago an ISO instant was."""
    seconds = max(0, round((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()))
    if seconds < 60:
        return _("{n} s").format(n=seconds)
    if seconds < 3600:
        return _("{n} min").format(n=seconds // 60)
    return _("{n} h").format(n=number(seconds / 3600, 1))


def price(micros_per_hour: int) -> str:
    """Dollars an hour, exactly as they are kept: in millionths."""
    return f"US$ {number(micros_per_hour / 1e6, 4)}/h"


def state(name: str) -> str:
    """A workspace's state in the reader's language, marked up."""
    return f"[{STATE_STYLES.get(name, 'default')}]{state_word(name)}[/]"


def state_word(name: str) -> str:
    """A workspace's state in the reader's language."""
    words = {
        "launching": _("launching"),
        "running": _("running"),
        "degraded": _("degraded"),
        "failing_over": _("failing over"),
        "switching": _("switching"),
        "lost": _("lost"),
        "deleting": _("deleting"),
        "deleted": _("deleted"),
    }
    return words.get(name, name)


def role_word(name: str) -> str:
    """A replica's role in the reader's language."""
    return {"primary": _("primary"), "standby": _("standby"), "none": _("none")}.get(name, name)


def table(*columns: str) -> Table:
    """An empty table without lines."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column)
    return made


def at_risk(workspace: WorkspaceShown) -> str:
    """The data-at-risk gauge in one line. Unknown is not zero."""
    if workspace.state == "lost":
        nobody = _("no copy can be reached")
        return f"[bold red]{nobody}[/]"
    if workspace.single_copy_since:
        since = _("single copy since {when}").format(when=instant(workspace.single_copy_since))
        return f"[bold red]{since} ({ago(workspace.single_copy_since)})[/]"
    if workspace.at_risk is None:
        return f"[yellow]{_('unknown')}[/]"
    seconds, count = workspace.at_risk.seconds, workspace.at_risk.bytes
    style = "green" if seconds < 1 else "yellow" if seconds < 10 else "bold red"
    text = _("{bytes} written in the last {seconds} s").format(bytes=size(count), seconds=number(seconds, 1))
    return f"[{style}]{text if count or seconds else _('nothing')}[/]"


def event_line(event: Happened) -> str:
    """One event for a timeline."""
    facts = "  ".join(f"{name}={value}" for name, value in event.facts.items() if value not in ("", False))
    return f"{instant(event.at)}  [bold]{event_word(event.kind)}[/]  [dim]{facts}[/]"


def event_word(kind: str) -> str:
    """An event's kind in the reader's language; a kind we have no word for as it is."""
    words = {
        "launched": _("launched"),
        "advised": _("advised"),
        "measured": _("GPU memory"),
        "renting": _("renting"),
        "rented": _("rented"),
        "rent_failed": _("not rented"),
        "no_offer": _("nothing on offer that is wanted"),
        "promoted": _("promoted"),
        "first": _("serving for the first time"),
        "failover": _("failover"),
        "switchover": _("switchover"),
        "switch_began": _("switchover began"),
        "give_up": _("switchover given up"),
        "restore": _("restored from the store"),
        "restored_from_store": _("restored from the store"),
        "database_was_restored": _("the database was restored"),
        "recover": _("recovered"),
        "restart": _("going on after a restart"),
        "restarted_single_copy": _("the only copy restarted"),
        "ack_set": _("ack set changed"),
        "fenced": _("fenced"),
        "releasing": _("letting go"),
        "released": _("let go"),
        "branch": _("branch kept"),
        "branch_given_up": _("branch given up"),
        "drill": _("drill"),
        "removing": _("removing"),
        "orphan_ended": _("unknown machine ended"),
        "store_thinned": _("older commits let go"),
        "store_upkeep_failed": _("the store could not be looked after"),
        "retention_changed": _("other rules for what is kept"),
        "history_kept": _("history kept for another time"),
        "history_ending": _("history to be deleted"),
        "history_deleted": _("history deleted"),
        "history_not_deleted": _("the history could not be deleted"),
    }
    return words.get(kind) or state_word(kind)
