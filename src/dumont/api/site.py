"""A site: what the API serves, and how a request gets hold of it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from dumont.advisor.llm import LlmReader
from dumont.api.glance import Glance
from dumont.client.results import Check
from dumont.control.ask import Parts


@dataclass(frozen=True)
class Site:
    """One server process: its parts, where it lives, and the switch that ends it.

    `examine` finds out what this machine allows its provider. `stop` is set to end the server; `releasing` first lets
    every machine go. `reader` reads descriptions with a language model, where a key for one is set;
    `glance` is what advice is given on.
    """

    parts: Parts
    home: Path
    hub_port: int
    examine: Callable[[], Awaitable[list[Check]]]
    release: Callable[[], Awaitable[int]]
    reader: LlmReader | None = None
    glance: Glance = field(default_factory=Glance)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def receipts(self) -> Path:
        return self.home / "receipts"


def _site(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


Here = Annotated[Site, Depends(_site)]
