"""The store link: an agent's door to its own workspace's part of the store. To add and read, never to change or delete.

The server puts the prefix of the workspace before every key, from the certificate's identity, so that a host can
neither name nor see what belongs to another workspace (I7).
"""

import msgspec

VERSION = 1


class StoreHello(msgspec.Struct, frozen=True, tag="store_hello"):
    """First message of a store link."""

    version: int
    instance_id: str


class StorePut(msgspec.Struct, frozen=True, tag="store_put"):
    """Write `data` under `key` if that key is free. Answered by StoreDone or StoreFailed."""

    request: int
    key: str
    data: bytes


class StoreGet(msgspec.Struct, frozen=True, tag="store_get"):
    """Answered by StoreData or StoreFailed."""

    request: int
    key: str


class StoreExists(msgspec.Struct, frozen=True, tag="store_exists"):
    """Answered by StoreDone, whose `found` is the answer, or StoreFailed."""

    request: int
    key: str


class StoreList(msgspec.Struct, frozen=True, tag="store_list"):
    """Keys that begin with `prefix`. Answered by StoreKeys, the final one marked `last`, or StoreFailed."""

    request: int
    prefix: str = ""


class StoreDone(msgspec.Struct, frozen=True, tag="store_done"):
    """The request was carried out; what it wrote is durable."""

    request: int
    found: bool = True


class StoreData(msgspec.Struct, frozen=True, tag="store_data"):
    """The whole object."""

    request: int
    data: bytes


class StoreKeys(msgspec.Struct, frozen=True, tag="store_keys"):
    """Some keys in order of names."""

    request: int
    keys: tuple[str, ...]
    last: bool


class StoreFailed(msgspec.Struct, frozen=True, tag="store_failed"):
    """Why not: `error` is `already_stored`, `not_stored` or `store_error`; `message` says it in words."""

    request: int
    error: str
    message: str


ToStore = StoreHello | StorePut | StoreGet | StoreExists | StoreList
FromStore = StoreDone | StoreData | StoreKeys | StoreFailed
