"""The port of a store: named objects that, once written, are durable and never change."""

from collections.abc import AsyncIterator
from typing import Protocol, TypeAlias, runtime_checkable

Data: TypeAlias = bytes | bytearray | memoryview
"""What `put` takes: contiguous bytes, which the caller leaves as they are until `put` has returned or raised."""


class Store(Protocol):
    """Object storage as Dumont needs it.

    Keys are relative, `/`-separated ASCII. `put` returns only when the object would survive a power cut, and raises
    AlreadyStored if the key is taken, leaving what is there untouched: of two racing writers one wins. A reader sees
    the whole object or none. `get` raises NotStored. `get_range` gives the bytes from `start`, `length` of them, fewer
    only where the object ends before; `size` is the object's length in bytes; both raise NotStored. `keys` lists in
    order of names, each as of a moment that is not before that of the name ahead of it, and may miss what is written
    meanwhile. `delete` of a missing key is harmless. All raise BadInput for a key or range that makes no sense, and
    StoreError for what the medium refuses: never a part for the whole.
    """

    async def put(self, key: str, data: Data) -> None: ...

    async def get(self, key: str) -> bytes: ...

    async def get_range(self, key: str, start: int, length: int) -> bytes: ...

    async def size(self, key: str) -> int: ...

    async def exists(self, key: str) -> bool: ...

    def keys(self, prefix: str = "") -> AsyncIterator[str]: ...

    async def delete(self, key: str) -> None: ...


@runtime_checkable
class HasFolders(Protocol):
    """A store in which folders stay when their last object is deleted.

    `drop_folders` removes, durably, the empty ones under `prefix`, where nobody may be writing any more; others stay.
    Raises BadInput, StoreError.
    """

    async def drop_folders(self, prefix: str) -> None: ...


@runtime_checkable
class ReadsInto(Protocol):
    """A store on this machine, whose objects a thread that may wait reads straight into memory that is there already.

    `read_into` fills `room` with the bytes from `start` and tells how many there were, fewer only where the object
    ends before. Raises NotStored, BadInput, StoreError.
    """

    def read_into(self, key: str, start: int, room: memoryview) -> int: ...
