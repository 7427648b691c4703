"""The agent's store: a driver that reaches its workspace's part of the store over a link to the server."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

from dumont.errors import AlreadyStored, BadInput, Corrupt, LinkClosed, NotStored, StoreError
from dumont.store.base import Data
from dumont.store.prefix import checked_key, checked_range
from dumont.wire.link import Link
from dumont.wire.store import (
    PUT_BYTES_MAX,
    RANGE_BYTES_MAX,
    VERSION,
    FromStore,
    StoreAnswer,
    StoreData,
    StoreDone,
    StoreExists,
    StoreFailed,
    StoreGranted,
    StoreHello,
    StoreKeys,
    StoreLength,
    StoreList,
    StorePut,
    StoreRange,
    StoreSize,
    ToStore,
)

Dial = Callable[[], Awaitable[Link[ToStore, FromStore]]]
"""Opens an authenticated link to the server, or raises LinkClosed."""

_Question = StorePut | StoreRange | StoreSize | StoreExists

_ERRORS: dict[str, type[StoreError] | type[BadInput]] = {
    "already_stored": AlreadyStored,
    "not_stored": NotStored,
    "bad_input": BadInput,
}


class RemoteStore:
    """Dials at first use and again after a broken link. Deletes nothing: a host has no right to destroy history."""

    def __init__(self, dial: Dial, instance_id: str) -> None:
        self._dial = dial
        self._instance_id = instance_id
        self._link: Link[ToStore, FromStore] | None = None
        self._dialling = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Queue[StoreAnswer]] = {}
        self._keys = b""
        self._reader: asyncio.Task[None] | None = None

    async def granted(self) -> bytes:
        """The keys that the server gave at the present link. Raises StoreError."""
        await self._connected()
        return self._keys

    async def put(self, key: str, data: Data) -> None:
        """Raises AlreadyStored, or StoreError when the link broke: then it may or may not have been written."""
        if (size := memoryview(data).nbytes) > PUT_BYTES_MAX:
            raise BadInput(f"{key} has {size} bytes; what an instance stores goes in one message of {PUT_BYTES_MAX}")
        await self._ask(StorePut(next(self._numbers), key, data if isinstance(data, bytes) else bytes(data)))

    async def get(self, key: str) -> bytes:
        """The whole object, asked for in ranges until one comes short. Raises NotStored, StoreError."""
        parts: list[bytes] = []
        while not parts or len(parts[-1]) == RANGE_BYTES_MAX:
            parts.append(await self._range(key, len(parts) * RANGE_BYTES_MAX, RANGE_BYTES_MAX))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Raises NotStored, StoreError."""
        checked_range(start, length)
        parts: list[bytes] = []
        for at in range(0, max(length, 1), RANGE_BYTES_MAX):
            parts.append(await self._range(key, start + at, min(RANGE_BYTES_MAX, length - at)))
            if len(parts[-1]) < RANGE_BYTES_MAX:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def size(self, key: str) -> int:
        """Raises NotStored, StoreError."""
        answer = await self._ask(StoreSize(next(self._numbers), key))
        if not isinstance(answer, StoreLength):
            raise StoreError(f"the server answered {type(answer).__name__} when asked how long {key} is")
        return answer.length

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
        checked_key(key)
        raise StoreError(f"an instance may not delete {key}: history is pruned by the server")

    def close(self) -> None:
        """Let the link go; what is still asked fails with StoreError."""
        if self._link:
            self._link.close()

    async def _range(self, key: str, start: int, length: int) -> bytes:
        answer = await self._ask(StoreRange(next(self._numbers), key, start, length))
        if not isinstance(answer, StoreData):
            raise StoreError(f"the server answered {type(answer).__name__} when asked for {key}")
        if len(answer.data) > length:
            raise StoreError(f"the server answered with {len(answer.data)} bytes of {key} when asked for {length}")
        return answer.data

    async def _ask(self, request: _Question) -> StoreAnswer:
        answers = await self._send(request)
        try:
            return _checked(await answers.get())
        finally:
            self._waiting.pop(request.request, None)

    async def _send(self, request: _Question | StoreList) -> "asyncio.Queue[StoreAnswer]":
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
                    self._keys = await self._greet(link)
                except (LinkClosed, Corrupt) as error:
                    raise StoreError(f"the store can't be reached: {error}") from error
                self._link = link
                self._reader = asyncio.create_task(self._read(link))
            return self._link

    async def _greet(self, link: Link[ToStore, FromStore]) -> bytes:
        """Say who we are; the keys that this opens. What fails on the way, cancelled or not, leaves no link behind."""
        granted = False
        try:
            await link.send(StoreHello(VERSION, self._instance_id))
            answer = await link.receive()
            if not isinstance(answer, StoreGranted):
                raise Corrupt(f"the server began a store link with {type(answer).__name__}")
            granted = True
            return answer.keys
        finally:
            if not granted:
                link.close()

    async def _read(self, link: Link[ToStore, FromStore]) -> None:
        try:
            while True:
                answer = await link.receive()
                if isinstance(answer, StoreGranted):
                    raise Corrupt("the server granted keys in the middle of a link")
                if waiting := self._waiting.get(answer.request):
                    waiting.put_nowait(answer)
        except (LinkClosed, Corrupt) as error:
            link.close()
            self._link = None
            for request, waiting in self._waiting.items():
                waiting.put_nowait(StoreFailed(request, "store_error", f"the link to the store broke: {error}"))


def _checked(answer: StoreAnswer) -> StoreAnswer:
    if isinstance(answer, StoreFailed):
        raise _ERRORS.get(answer.error, StoreError)(answer.message)
    return answer
