"""Doctor: what the server finds of the machine it runs on."""

from fastapi import APIRouter

from dumont.api.site import Here
from dumont.client.results import Check

router = APIRouter()


@router.get("/doctor")
async def doctor(site: Here) -> list[Check]:
    """Checks of the server's side; the CLI adds those of its own."""
    return await site.examine()
