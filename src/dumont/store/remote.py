"""The agent's store: a driver that reaches its workspace's part of the store over a link to the server."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

from dumont.errors import AlreadyStored, Corrupt, LinkClosed, NotStored, StoreError
from dumont.wire.link import Link
from dumont.wire.store import (
    VERSION,
    FromStore,
    StoreData,
    StoreDone,
    StoreExists,
    StoreFailed,
    StoreGet,
    StoreHello,
    StoreKeys,
    StoreList,
    StorePut,
    ToStore,
)

Dial = Callable[[], Awaitable[Link[ToStore, FromStore]]]
"""Opens an authenticated link to the server, or raises LinkClosed."""

_ERRORS: dict[str, type[StoreError]] = {"already_stored": AlreadyStored, "not_stored": NotStored}


class RemoteStore:
    """Dials at first use and again after a broken link. Deletes nothing: a host has no right to destroy history."""

    def __init__(self, dial: Dial, instance_id: str) -> None:
        self._dial = dial
        self._instance_id = instance_id
        self._link: Link[ToStore, FromStore] | None = None
        self._dialling = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Queue[FromStore]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def put(self, key: str, data: bytes) -> None:
        """Raises AlreadyStored, or StoreError when the link broke: then it may or may not have been written."""
        await self._ask(StorePut(next(self._numbers), key, data))

    async def get(self, key: str) -> bytes:
        """The whole object. Raises NotStored, StoreError."""
        answer = await self._ask(StoreGet(next(self._numbers), key))
        if not isinstance(answer, StoreData):
            raise StoreError(f"the server answered {type(answer).__name__} when asked for {key}")
        return answer.data

    async def exists(self, key: str) -> bool:
        """Raises StoreError when the server can't tell."""
        answer = await self._ask(StoreExists(next(self._numbers), key))
        return isinstance(answer, StoreDone) and answer.found

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        """Keys under `prefix`, in order of names."""
        request = StoreList(next(self._numbers), prefix)
        answers = await self._send(request)
        try:
            while True:
                answer = _checked(await answers.get())
                if not isinstance(answer, StoreKeys):
                    raise StoreError(f"the server answered {type(answer).__name__} when asked for keys")
                for key in answer.keys:
                    yield key
                if answer.last:
                    return
        finally:
            self._waiting.pop(request.request, None)

    async def delete(self, key: str) -> None:
        """Raises StoreError, always."""
        raise StoreError(f"an instance may not delete {key}: history is pruned by the server")

    def close(self) -> None:
        """Let the link go; what is still asked fails with StoreError."""
        if self._link:
            self._link.close()

    async def _ask(self, request: StorePut | StoreGet | StoreExists) -> FromStore:
        answers = await self._send(request)
        try:
            return _checked(await answers.get())
        finally:
            self._waiting.pop(request.request, None)

    async def _send(self, request: StorePut | StoreGet | StoreExists | StoreList) -> "asyncio.Queue[FromStore]":
        link = await self._connected()
        answers = self._waiting[request.request] = asyncio.Queue()
        try:
            await link.send(request)
        except LinkClosed as error:
            self._waiting.pop(request.request, None)
            raise StoreError(f"the store can't be reached: {error}") from error
        return answers

    async def _connected(self) -> Link[ToStore, FromStore]:
        async with self._dialling:
            if self._link is None:
                try:
                    link = await self._dial()
                    await link.send(StoreHello(VERSION, self._instance_id))
                except LinkClosed as error:
                    raise StoreError(f"the store can't be reached: {error}") from error
                self._link = link
                self._reader = asyncio.create_task(self._read(link))
            return self._link

    async def _read(self, link: Link[ToStore, FromStore]) -> None:
        try:
            while True:
                answer = await link.receive()
                if waiting := self._waiting.get(answer.request):
                    waiting.put_nowait(answer)
        except (LinkClosed, Corrupt) as error:
            link.close()
            self._link = None
            for request, waiting in self._waiting.items():
                waiting.put_nowait(StoreFailed(request, "store_error", f"the link to the store broke: {error}"))


def _checked(answer: FromStore) -> FromStore:
    if isinstance(answer, StoreFailed):
        raise _ERRORS.get(answer.error, StoreError)(answer.message)
    return answer
