"""A local server that speaks OpenRouter's chat-completions wire, well or badly, as the test says answer by answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Reply = tuple[int, bytes]


@dataclass
class Models:
    """The server's state: what it was asked, and how it answers the next questions (the last answer repeats)."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    answers: list[Callable[[], Reply] | None] = field(default_factory=list)
    open: int = 0

    def will(self, *answers: Callable[[], Reply] | None) -> None:
        """Answer like this from now on; None means: take the request and never answer."""
        self.answers = list(answers)


def said(content: Any, cost: float | None = 0.0004, **message: Any) -> Callable[[], Reply]:
    """A well-formed completion whose text is `content` (an object becomes JSON)."""
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    usage: dict[str, Any] = {"prompt_tokens": 900, "completion_tokens": 60, "total_tokens": 960}
    if cost is not None:
        usage["cost"] = cost
    body = {
        "id": "gen-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "tested/model",
        "provider": "Tested",
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls" if message else "stop",
                "native_finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": text, "refusal": None, **message},
            }
        ],
        "usage": usage,
    }
    return lambda: (200, json.dumps(body).encode())


def status(code: int, body: bytes = b'{"error": {"message": "no", "code": 0}}') -> Callable[[], Reply]:
    """An HTTP error."""
    return lambda: (code, body)


def raw(body: bytes) -> Callable[[], Reply]:
    """Status 200 with whatever bytes."""
    return lambda: (200, body)


@asynccontextmanager
async def serving() -> AsyncIterator[Models]:
    """A server on a free loopback port for the time of the block."""
    models = Models()
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _answer(models, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    models.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"
    try:
        yield models
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(models: Models, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length"))
    models.headers.append(head)
    models.asked.append(json.loads(await reader.readexactly(length)))
    chosen = models.answers[min(len(models.asked), len(models.answers)) - 1]
    if chosen is None:
        await asyncio.Event().wait()
        return
    code, body = chosen()
    writer.write(f"HTTP/1.1 {code} Said\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n".encode())
    writer.write(b"connection: close\r\n\r\n")
    for at in range(0, len(body), 65_536):
        writer.write(body[at : at + 65_536])
        await writer.drain()
