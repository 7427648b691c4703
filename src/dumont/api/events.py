"""Events: a workspace's timeline."""

from typing import Annotated

from fastapi import APIRouter, Query

from dumont.api.site import Here
from dumont.client.results import Happened

LIMIT_MAX = 10_000

router = APIRouter()


@router.get("/workspaces/{name}/events")
async def events(site: Here, name: str, limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = 200) -> list[Happened]:
    """The newest `limit` events, oldest first; those of a deleted workspace too."""
    found = await site.parts.database.events(name, limit)
    if not found:
        await site.parts.database.workspace(name)
    return [
        Happened(workspace=event.workspace, at=event.at.isoformat(), kind=event.kind, facts=event.facts)
        for event in found
    ]
