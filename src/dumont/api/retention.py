"""Retention: which commits of a workspace its store keeps, what the next round lets go, and other rules for it."""

from datetime import UTC, datetime

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from dumont.api.names import find_workspace
from dumont.api.site import Here
from dumont.client.results import CommitKept, Keeping
from dumont.client.results import Retention as Rules
from dumont.control import keeping
from dumont.control.thinning import Forecast
from dumont.errors import BadInput
from dumont.model.policy import Retention
from dumont.model.workspace import Workspace
from dumont.repository.record import CommitRecord

KEPT_MAX = 10_000

router = APIRouter()


class RulesWish(BaseModel):
    """Other rules; those that are left out stay as they are. `dry_run` changes nothing.

    `agreed`: commits may go that stay by the rules that hold now.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    last: int | None = None
    hourly: int | None = None
    daily: int | None = None
    weekly: int | None = None
    dry_run: bool = False
    agreed: bool = False


@router.get("/workspaces/{name}/retention")
async def show(site: Here, name: str) -> Keeping:
    """The rules that hold now, and what the next round of upkeep would let go by them."""
    row = await find_workspace(site, name)
    return _shown(row, row.policy.retention, await keeping.foresee(site.parts, row, row.policy.retention))


@router.patch("/workspaces/{name}/retention")
async def change(site: Here, name: str, wish: RulesWish) -> Keeping:
    """What the next round would let go by other rules, which hold from then on, unless this is a dry run."""
    row = await find_workspace(site, name)
    counts = wish.model_dump(include={"last", "hourly", "daily", "weekly"}, exclude_none=True)
    if not counts:
        raise BadInput("say which rule is to be another: last, hourly, daily or weekly, each a number of commits")
    wished = read_rules(Rules(**(msgspec.structs.asdict(row.policy.retention) | counts)))
    if wish.dry_run:
        return _shown(row, wished, await keeping.foresee(site.parts, row, wished))
    return _shown(row, wished, (await keeping.keep(site.parts, name, wished, agreed=wish.agreed))[1])


def read_rules(asked: Rules) -> Retention:
    """Raises BadInput for what can't be."""
    if not all(0 <= count <= KEPT_MAX for count in (asked.last, asked.hourly, asked.daily, asked.weekly)):
        raise BadInput(f"the store keeps 0 to {KEPT_MAX} commits by each rule; nothing but zeros keeps all of them")
    return Retention(asked.last, asked.hourly, asked.daily, asked.weekly)


def _shown(row: Workspace, wished: Retention, found: Forecast) -> Keeping:
    taken = {record.commit.id for record in found.taken}
    return Keeping(
        name=row.name,
        history=row.folder,
        rules=Rules(**msgspec.structs.asdict(wished)),
        before=Rules(**msgspec.structs.asdict(row.policy.retention)),
        kept=len(found.kept),
        let_go=[_commit(record, record.commit.id in taken) for record in found.let_go],
        takes=found.takes,
        why=found.why,
    )


def _commit(record: CommitRecord, taken: bool) -> CommitKept:
    at = datetime.fromtimestamp(record.commit.at_ns // 10**9, UTC)
    return CommitKept(id=str(record.commit.id), at=at.isoformat(), taken=taken)
