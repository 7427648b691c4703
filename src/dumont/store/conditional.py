"""Conditional writes: whether a store keeps the promise of `put`, found out by trying before the first real write."""

import contextlib

from dumont.errors import AlreadyStored, NotPossibleHere, StoreError
from dumont.store.base import Store

_FOLDER = "probe"


async def probe_conditional_writes(store: Store, nonce: str) -> bool:
    """Whether `store` refuses to overwrite. `nonce` is a name that nobody else uses. Raises StoreError.

    Writes `probe/<nonce>` twice, with different bytes, and removes it again.
    """
    key = f"{_FOLDER}/{nonce}"
    first, second = b"first " + nonce.encode(), b"second " + nonce.encode()
    await store.put(key, first)
    try:
        await store.put(key, second)
    except AlreadyStored:
        return await store.get(key) == first
    else:
        return False
    finally:
        with contextlib.suppress(StoreError):  # keys that may not delete are good keys; a probe is a few bytes
            await store.delete(key)


async def require_conditional_writes(store: Store, nonce: str, where: str) -> None:
    """Refuse a store at `where` that lets writers overwrite one another. Raises NotPossibleHere, StoreError."""
    if not await probe_conditional_writes(store, nonce):
        raise NotPossibleHere(
            f"{where} overwrites objects although it is asked not to (If-None-Match), so two writers could destroy "
            "each other's history there: use a store with conditional writes, like S3, R2, Google, Azure or a directory"
        )
