"""The port of a store: named objects that, once written, are durable and never change."""

from collections.abc import AsyncIterator
from typing import Protocol


class Store(Protocol):
    """Object storage as Dumont needs it.

    Keys are relative, `/`-separated ASCII. `put` returns only when the object would survive a power cut, and raises
    AlreadyStored if the key is taken, leaving what is there untouched: of two racing writers one wins. A reader sees
    the whole object or none. `get` raises NotStored. `keys` lists in order of names and may miss what is written
    meanwhile. `delete` of a missing key is harmless. All raise StoreError for what the medium refuses.
    """

    async def put(self, key: str, data: bytes) -> None: ...

    async def get(self, key: str) -> bytes: ...

    async def exists(self, key: str) -> bool: ...

    def keys(self, prefix: str = "") -> AsyncIterator[str]: ...

    async def delete(self, key: str) -> None: ...
