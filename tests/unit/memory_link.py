"""A link in memory: both ends, in one process, without time."""

import asyncio
from typing import Any

from dumont.errors import LinkClosed


class Line:
    """One end of a link in memory."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.other: Line | None = None
        self.closed = False

    async def send(self, message: Any) -> None:
        if self.closed or self.other is None or self.other.closed:
            raise LinkClosed("closed")
        self.other.inbox.put_nowait(message)

    async def receive(self) -> Any:
        message = await self.inbox.get()
        if message is None:
            self.inbox.put_nowait(None)
            raise LinkClosed("closed")
        return message

    def close(self) -> None:
        for end in (self, self.other):
            if end and not end.closed:
                end.closed = True
                end.inbox.put_nowait(None)


def line(peer: str) -> tuple[Line, Line]:
    """The far side's end, and the hub's, on which that side is named `peer`."""
    far, near = Line("server"), Line(peer)
    far.other, near.other = near, far
    return far, near
