"""Owner keys: whose owners may log in to every workspace."""

from fastapi import APIRouter
from pydantic import BaseModel

from dumont.api.site import Here
from dumont.client.results import OwnerKeys
from dumont.control import ask

router = APIRouter()


class KeyWish(BaseModel):
    """One line of a .pub file."""

    key: str


@router.get("/keys")
async def list_keys(site: Here) -> OwnerKeys:
    """Public keys only."""
    return OwnerKeys(keys=list(site.parts.keyring.keys()))


@router.post("/keys", status_code=201)
async def add_key(site: Here, wish: KeyWish) -> OwnerKeys:
    """Takes effect in running workspaces at once."""
    return OwnerKeys(keys=list(await ask.add_key(site.parts, wish.key)))
