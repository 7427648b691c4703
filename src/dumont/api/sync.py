"""Sync: a barrier taken in a workspace on a user's behalf."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from dumont.api.names import find_workspace
from dumont.api.site import Here
from dumont.client.results import SyncAnswer

TIMEOUT_S_MAX = 300.0

router = APIRouter()


class SyncWish(BaseModel):
    """How long to wait before the answer is unknown."""

    timeout_s: float = Field(10.0, gt=0, le=TIMEOUT_S_MAX)


@router.post("/workspaces/{name}/sync")
async def sync(site: Here, name: str, wish: SyncWish) -> SyncAnswer:
    """`ok` once a commit with everything written before is fsynced by the whole ack set; else `unknown`, and why."""
    await find_workspace(site, name)
    synced = await site.parts.hub.sync(name, wish.timeout_s)
    return SyncAnswer(
        outcome=synced.outcome,
        token=str(synced.id) if synced.id else "",
        root=synced.root.hex(),
        consistent=synced.consistent,
        fuzzy=[path.decode(errors="backslashreplace") for path in synced.fuzzy],
        reason=synced.reason,
    )
