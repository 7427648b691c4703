"""The pause: how long nobody answered at the address while a workspace moved, as a client sees it that asks and asks.

Each question is an HTTP request on a connection of its own, through the gateway, that only a primary with open doors
answers. What the gateway holds back and answers later counts from when it is answered.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from dumont.wire.http import get

ASK_EVERY_S = 0.02
"""The resolution: a pause reads up to so much too long."""
AT_ONCE_MAX = 16
ANSWER_S_MAX = 10.0


@dataclass(frozen=True)
class Served:
    """One answer of a primary: when it was whole (seconds of CLOCK_MONOTONIC), by whom, at which epoch."""

    at: float
    instance_id: str
    epoch: int


@dataclass
class Answers:
    """Every answer so far, in the order in which they came."""

    all: list[Served] = field(default_factory=list)

    def pause_ms(self, epoch: int) -> int | None:
        """From the last answer of lower epochs to the first one of `epoch` or higher; None when either is missing."""
        before = [answer.at for answer in self.all if answer.epoch < epoch]
        after = [answer.at for answer in self.all if answer.epoch >= epoch]
        return round((min(after) - max(before)) * 1000) if before and after else None


@contextlib.asynccontextmanager
async def asking(url: str) -> AsyncIterator[Answers]:
    """Ask at this URL (of `/.dumont/probe`) every 20 ms meanwhile, so that a question that hangs hides nothing."""
    answers = Answers()
    asked: set[asyncio.Task[None]] = set()

    async def ask_for_ever() -> None:
        while True:
            if len(asked) < AT_ONCE_MAX:
                task = asyncio.create_task(_ask(url, answers))
                asked.add(task)
                task.add_done_callback(asked.discard)
            await asyncio.sleep(ASK_EVERY_S)

    work = asyncio.create_task(ask_for_ever())
    try:
        yield answers
    finally:
        for task in (work, *asked):
            task.cancel()
        await asyncio.gather(work, *asked, return_exceptions=True)


async def _ask(url: str, answers: Answers) -> None:
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            answer = await get((str(parts.hostname), parts.port or 80), parts.path)
        told = json.loads(answer.body)
    except (OSError, ValueError):
        return  # nobody answered; that is what is measured
    if answer.status == 200 and isinstance(told, dict) and told.get("serving") is True:
        answers.all.append(Served(time.monotonic(), str(told.get("instance")), int(told.get("epoch", 0))))
