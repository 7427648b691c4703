"""Keeping: what people ask of the histories in the store: other rules for one, and a term for a removed workspace's."""

from dataclasses import dataclass, replace

import msgspec

from dumont.control.act import Fact
from dumont.control.ask import Parts
from dumont.control.clearing import Amount, measure
from dumont.control.thinning import Forecast, forecast
from dumont.control.upkeep import anchors_of, read_dated, unlearned
from dumont.errors import BadInput, NoSuchHistory
from dumont.model.past import Past, kept_until, read_term
from dumont.model.policy import Retention
from dumont.model.workspace import Wanted, Workspace
from dumont.repository.apart import apart
from dumont.store.prefix import PrefixStore, workspace_prefix

CHANGED = "retention_changed"


@dataclass(frozen=True)
class Kept:
    """A removed workspace's history, and how much of it there is."""

    past: Past
    amount: Amount


async def foresee(parts: Parts, row: Workspace, wished: Retention) -> Forecast:
    """What the next round of upkeep would make of a workspace's commits by the rules `wished`. Changes nothing.

    Raises StoreError, and Corrupt when a record of a commit can't be read.
    """
    anchors = await anchors_of(row, parts.database, parts.observatory)
    repo = unlearned(await parts.vault.open(row.name))
    now_s = int(parts.clock.now().timestamp())
    records = await apart(lambda: read_dated(repo, now_s))
    return forecast(records, row.policy.retention, wished, anchors, now_s)


async def keep(parts: Parts, name: str, wished: Retention, *, agreed: bool) -> tuple[Workspace, Forecast]:
    """Have a workspace's store kept by other rules from the next round on.

    Raises BadInput when commits would go that now stay, unless that is `agreed`; NoSuchWorkspace; and as `foresee`.
    """
    row = await parts.database.workspace(name)
    found = await foresee(parts, row, wished)
    if found.takes and not agreed:
        raise BadInput(_takes(found))
    async with parts.acts.lock(name):
        row = await parts.database.workspace(name)
        before = row.policy.retention
        if row.wanted is Wanted.DELETED:
            raise BadInput(f"{name} is being deleted: `dumont history` says until when its history is kept")
        if before != wished:
            policy = msgspec.structs.replace(row.policy, retention=wished)
            await parts.database.describe(replace(row, policy=policy))
            facts: dict[str, Fact] = {"rules": spelled(wished), "before": spelled(before)}
            await parts.acts.note(name, CHANGED, facts)
        return await parts.database.workspace(name), found


def spelled(rules: Retention) -> str:
    """As `dumont keep` takes them: `last=60,daily=14`, or `all`."""
    counts = msgspec.structs.asdict(rules)
    return ",".join(f"{name}={count}" for name, count in counts.items() if count) or "all"


async def histories(parts: Parts) -> list[Kept]:
    """Those that removed workspaces left, the one removed first coming first. Raises StoreError."""
    return [await _kept(parts, past) for past in await parts.database.pasts()]


async def extend(parts: Parts, folder: str, term: str) -> Kept:
    """Have a removed workspace's history kept for `term` from now on (`read_term`). Raises NoSuchHistory, BadInput."""
    past = await _find(parts, folder)
    until = kept_until(parts.clock.now(), read_term(term))
    changed = replace(past, keep_until=until)
    if not await parts.database.change_past(past, changed):
        raise BadInput(f"the history {folder} is being deleted, or was just changed: `dumont history` shows it")
    await parts.acts.note(past.workspace, "history_kept", {"history": folder, "until": _told(changed)})
    return await _kept(parts, changed)


async def end(parts: Parts, folder: str, again: str) -> Kept:
    """Have a removed workspace's history deleted now, for good. `again` is its name once more.

    Raises NoSuchHistory, and BadInput when the two differ.
    """
    past = await _find(parts, folder)
    if again != folder:
        raise BadInput(
            f"nothing was deleted: to delete the history {folder} for good, say its name again, not {again!r}"
        )
    ending = replace(past, ending=True)
    if not past.ending:
        if not await parts.database.change_past(past, ending):
            raise BadInput(f"the history {folder} was just changed: look with `dumont history`, and say it again")
        await parts.acts.note(past.workspace, "history_ending", {"history": folder})
    parts.upkeep_due.set()
    return await _kept(parts, ending)


async def _find(parts: Parts, folder: str) -> Past:
    for past in await parts.database.pasts():
        if past.folder == folder:
            return past
    raise NoSuchHistory(f"no removed workspace left a history {folder}")


async def _kept(parts: Parts, past: Past) -> Kept:
    part = PrefixStore(parts.vault.store, workspace_prefix(past.folder))
    return Kept(past, await apart(lambda: measure(part)))


def _takes(found: Forecast) -> str:
    if found.why:
        return f"these rules keep less, and what goes can't be told yet ({found.why}): agree to it, as `--yes` does"
    return (
        f"by these rules the next round lets go of {len(found.taken)} commits that now stay: "
        "agree to it, as `--yes` does, or keep more"
    )


def _told(past: Past) -> str:
    return past.keep_until.isoformat() if past.keep_until else "for ever"
