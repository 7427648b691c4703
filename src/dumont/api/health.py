"""Health: whether this server is whole. And the switch that ends it."""

import os

from fastapi import APIRouter
from pydantic import BaseModel

from dumont import __version__
from dumont.api.site import Here
from dumont.client.results import Health

LOOP_MS_MAX = 2_000

router = APIRouter()


@router.get("/health")
async def health(site: Here) -> Health:
    """Answers also while the server is not whole."""
    loop_ms = (site.parts.clock.monotonic() - site.parts.shell.passed_at) * 1000
    ago = round(loop_ms) if loop_ms < 1e12 else -1
    gateway = site.parts.hub.gateway_connected
    return Health(
        ok=gateway and 0 <= ago < LOOP_MS_MAX,
        version=__version__,
        pid=os.getpid(),
        home=str(site.home),
        hub_port=site.hub_port,
        gateway=gateway,
        loop_ms_ago=ago,
    )


class Stop(BaseModel):
    """How to stop."""

    release: bool = False


@router.post("/stop")
async def stop(site: Here, how: Stop) -> dict[str, int]:
    """End this server process, after every machine was released if that is asked for."""
    released = await site.release() if how.release else 0
    site.stop.set()
    return {"released": released}
