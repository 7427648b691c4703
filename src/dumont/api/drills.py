"""Drills: real interruptions on purpose, each ending in a receipt that is kept."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from fastapi import APIRouter
from pydantic import BaseModel

from dumont.api.names import find_workspace
from dumont.api.site import Here
from dumont.client.results import Receipt
from dumont.control.drill import drill

router = APIRouter()


class DrillWish(BaseModel):
    """What to do to the primary's machine."""

    kind: str = "killed"


@router.post("/workspaces/{name}/drills", status_code=201)
async def make_drill(site: Here, name: str, wish: DrillWish) -> Receipt:
    """Answers once a new primary serves, or after half a minute."""
    await find_workspace(site, name)
    receipt = Receipt(**asdict(await drill(site.parts, name, wish.kind)))
    await asyncio.to_thread(_keep, site.receipts / f"{name}-{receipt.at}.json", receipt)
    return receipt


def _keep(path: Path, receipt: Receipt) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(json.dumps(asdict(receipt), indent=2) + "\n")
