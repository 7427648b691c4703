"""The store as instances see it: one workspace's part of it, to add to and to read, never to change (I7)."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from dumont.control.scrutiny import Standing
from dumont.control.vault import Vault
from dumont.errors import AlreadyStored, BadInput, LinkClosed, NotStored, StoreError
from dumont.store.base import Store
from dumont.wire.link import Link
from dumont.wire.store import (
    PUT_BYTES_MAX,
    RANGE_BYTES_MAX,
    FromStore,
    StoreAnswer,
    StoreData,
    StoreDone,
    StoreExists,
    StoreFailed,
    StoreGet,
    StoreGranted,
    StoreKeys,
    StoreLength,
    StoreList,
    StorePut,
    StoreRange,
    StoreSize,
    ToStore,
)

AT_ONCE_MAX = 8
KEYS_PER_MESSAGE = 1000

Request = StorePut | StoreGet | StoreRange | StoreSize | StoreExists | StoreList
Refuse = Callable[[Callable[[], Standing], str, bytes], Awaitable[str]]
"""Why an instance may not add this object under this key; "" when it may (`Scrutiny.refusal`)."""


class Shelf:
    """The other end of store links."""

    def __init__(self, vault: Vault, refuse: Refuse) -> None:
        self._vault = vault
        self._refuse = refuse

    async def serve(self, link: Link[FromStore, ToStore], standing: Callable[[], Standing]) -> None:
        """Grant the workspace's keys, then answer requests, AT_ONCE_MAX at a time, until the link closes.

        `standing` is asked at each write, and raises BadInput once the instance is gone. Raises LinkClosed, BadInput,
        and StoreError, WrongKey or Corrupt when the repository can't be opened.
        """
        repo = await self._vault.open(standing().workspace)
        await link.send(StoreGranted(msgspec.msgpack.encode(repo.keys)))
        free = asyncio.Semaphore(AT_ONCE_MAX)
        answering: set[asyncio.Task[None]] = set()

        async def answer(request: Request) -> None:
            try:
                why = await self._why_not(request, standing)
                await (link.send(why) if why else _answer(link, repo.store, request))
            except (LinkClosed, BadInput):
                link.close()  # the reading side notices
            finally:
                free.release()

        try:
            while True:
                await free.acquire()
                request = await link.receive()
                if not isinstance(request, Request):
                    raise BadInput(f"a store link does not say {type(request).__name__} here")
                task = asyncio.create_task(answer(request))
                answering.add(task)
                task.add_done_callback(answering.discard)
        finally:
            for task in answering:
                task.cancel()

    async def _why_not(self, request: Request, standing: Callable[[], Standing]) -> StoreAnswer | None:
        if not isinstance(request, StorePut):
            return None
        try:
            why = await self._refuse(standing, request.key, request.data)
        except StoreError as error:
            why = str(error)
        return StoreFailed(request.request, "store_error", why) if why else None


async def _answer(link: Link[FromStore, ToStore], part: Store, request: Request) -> None:
    number = request.request
    try:
        match request:
            case StorePut():
                await part.put(request.key, request.data)
                await link.send(StoreDone(number))
            case StoreGet():
                await link.send(StoreData(number, await _whole(part, request.key)))
            case StoreRange():
                if request.length > RANGE_BYTES_MAX:
                    raise BadInput(f"{request.length} bytes at once are too many: ask for {RANGE_BYTES_MAX} at most")
                await link.send(StoreData(number, await part.get_range(request.key, request.start, request.length)))
            case StoreSize():
                await link.send(StoreLength(number, await part.size(request.key)))
            case StoreExists():
                await link.send(StoreDone(number, found=await part.exists(request.key)))
            case StoreList():
                await _list(link, part, request)
    except AlreadyStored as error:
        await link.send(StoreFailed(number, "already_stored", str(error)))
    except NotStored as error:
        await link.send(StoreFailed(number, "not_stored", str(error)))
    except BadInput as error:
        await link.send(StoreFailed(number, "bad_input", str(error)))
    except StoreError as error:
        await link.send(StoreFailed(number, "store_error", str(error)))


async def _whole(part: Store, key: str) -> bytes:
    """The object if one message can hold it. Raises BadInput otherwise, before it is read."""
    if (size := await part.size(key)) > PUT_BYTES_MAX:
        raise BadInput(f"{key} has {size} bytes, more than a message holds: ask for ranges of it")
    return await part.get(key)


async def _list(link: Link[FromStore, ToStore], part: Store, request: StoreList) -> None:
    some: list[str] = []
    async for key in part.keys(request.prefix):
        some.append(key)
        if len(some) == KEYS_PER_MESSAGE:
            await link.send(StoreKeys(request.request, tuple(some), last=False))
            some = []
    await link.send(StoreKeys(request.request, tuple(some), last=True))
