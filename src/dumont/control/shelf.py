"""The store as instances see it: one workspace's part of it, to add to and to read, never to change (I7).

A host is a stranger: only the primary may name a commit, only at an epoch that has been, a fenced one only in its own
branch; and what is named after its content must be that content.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import blake3

from dumont.errors import AlreadyStored, BadInput, LinkClosed, NotStored, StoreError
from dumont.store.base import Store
from dumont.store.prefix import PrefixStore, workspace_prefix
from dumont.wire.link import Link
from dumont.wire.store import (
    FromStore,
    StoreData,
    StoreDone,
    StoreExists,
    StoreFailed,
    StoreGet,
    StoreKeys,
    StoreList,
    StorePut,
    ToStore,
)

AT_ONCE_MAX = 8
KEYS_PER_MESSAGE = 1000
_NAMED_AFTER_CONTENT = ("packs", "trees")

Request = StorePut | StoreGet | StoreExists | StoreList


@dataclass(frozen=True)
class Standing:
    """What the database last said of an instance: its workspace and epoch, whether it leads, its branch if fenced."""

    workspace: str
    epoch: int
    leads: bool
    branch: str = ""


def refusal(standing: Standing, key: str, data: bytes) -> str:
    """Why an instance of that standing may not write this object; "" when it may."""
    top, _, rest = key.partition("/")
    if top == "commits":
        epoch = rest.partition("-")[0]
        named = standing.leads and epoch.isdigit() and int(epoch) <= standing.epoch
        return "" if named else f"only the primary may store {key}"
    if top == "branches":
        own = bool(standing.branch) and rest.startswith(f"{standing.branch}/")
        return "" if own else f"{key} lies in nobody's branch, or in another's"
    if top in _NAMED_AFTER_CONTENT and blake3.blake3(data).hexdigest() != rest:
        return f"{key} is not named after its content"
    return ""


async def serve_store(link: Link[FromStore, ToStore], store: Store, standing: Callable[[], Standing]) -> None:
    """Answer requests, AT_ONCE_MAX at a time, until the link closes. Raises LinkClosed, BadInput.

    `standing` is asked at each write, and raises BadInput once the instance is gone.
    """
    part = PrefixStore(store, workspace_prefix(standing().workspace))
    free = asyncio.Semaphore(AT_ONCE_MAX)
    answering: set[asyncio.Task[None]] = set()

    async def answer(request: Request) -> None:
        try:
            why = refusal(standing(), request.key, request.data) if isinstance(request, StorePut) else ""
            if why:
                await link.send(StoreFailed(request.request, "store_error", why))
            else:
                await _answer(link, part, request)
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


async def _answer(link: Link[FromStore, ToStore], part: PrefixStore, request: Request) -> None:
    number = request.request
    try:
        match request:
            case StorePut():
                await part.put(request.key, request.data)
                await link.send(StoreDone(number))
            case StoreGet():
                await link.send(StoreData(number, await part.get(request.key)))
            case StoreExists():
                await link.send(StoreDone(number, found=await part.exists(request.key)))
            case StoreList():
                await _list(link, part, request)
    except AlreadyStored as error:
        await link.send(StoreFailed(number, "already_stored", str(error)))
    except NotStored as error:
        await link.send(StoreFailed(number, "not_stored", str(error)))
    except (StoreError, BadInput) as error:
        await link.send(StoreFailed(number, "store_error", str(error)))


async def _list(link: Link[FromStore, ToStore], part: PrefixStore, request: StoreList) -> None:
    some: list[str] = []
    async for key in part.keys(request.prefix):
        some.append(key)
        if len(some) == KEYS_PER_MESSAGE:
            await link.send(StoreKeys(request.request, tuple(some), last=False))
            some = []
    await link.send(StoreKeys(request.request, tuple(some), last=True))
