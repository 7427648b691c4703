"""Histories: what removed workspaces left in the store, how long it is kept, and its deletion."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from dumont.api.site import Here
from dumont.client.results import HistoryShown
from dumont.control import keeping

router = APIRouter()


class TermWish(BaseModel):
    """How long from now on: a number of days, or `for-ever`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    keep: str


@router.get("/histories")
async def list_histories(site: Here) -> list[HistoryShown]:
    """In the order in which their workspaces were removed."""
    return [_shown(kept) for kept in await keeping.histories(site.parts)]


@router.patch("/histories/{history}")
async def keep_history(site: Here, history: str, wish: TermWish) -> HistoryShown:
    """Keep it for another time."""
    return _shown(await keeping.extend(site.parts, history, wish.keep))


@router.delete("/histories/{history}")
async def delete_history(site: Here, history: str, again: str = "") -> HistoryShown:
    """Delete it now, for good; `again` is its name once more. Answers once that is decided."""
    return _shown(await keeping.end(site.parts, history, again))


def _shown(kept: keeping.Kept) -> HistoryShown:
    past = kept.past
    return HistoryShown(
        history=past.folder,
        workspace=past.workspace,
        removed_at=past.removed_at.isoformat(),
        keep_until=past.keep_until.isoformat() if past.keep_until else None,
        deleting=past.ending,
        objects=kept.amount.objects,
        bytes=kept.amount.bytes,
    )
