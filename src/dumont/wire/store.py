"""The store link: an agent's door to its own workspace's part of the store. To add and read, never to change or delete.

The server puts the prefix of the workspace before every key, from the certificate's identity, so that a host can
neither name nor see what belongs to another workspace (I7).
"""

import msgspec

VERSION = 3

PUT_BYTES_MAX = 64 * 2**20 - 4096
"""Of one object that goes over the link: a message with its key, below the link's own bound."""

RANGE_BYTES_MAX = 16 * 2**20
"""Of one answer: a reader that wants more asks again, and nobody's memory holds a whole large object twice."""


class StoreHello(msgspec.Struct, frozen=True, tag="store_hello"):
    """First message of a store link. Answered by StoreGranted."""

    version: int
    instance_id: str


class StoreGranted(msgspec.Struct, frozen=True, tag="store_granted"):
    """The server's first message: `keys` (msgpack) are those of the workspace's own repository, and of no other."""

    keys: bytes


class StorePut(msgspec.Struct, frozen=True, tag="store_put"):
    """Write `data` under `key` if that key is free. Answered by StoreDone or StoreFailed."""

    request: int
    key: str
    data: bytes


class StoreGet(msgspec.Struct, frozen=True, tag="store_get"):
    """Answered by StoreData or StoreFailed."""

    request: int
    key: str


class StoreRange(msgspec.Struct, frozen=True, tag="store_range"):
    """`length` bytes from `start`, at most RANGE_BYTES_MAX. Answered by StoreData or StoreFailed."""

    request: int
    key: str
    start: int
    length: int


class StoreSize(msgspec.Struct, frozen=True, tag="store_size"):
    """How long the object is. Answered by StoreLength or StoreFailed."""

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
    """The whole object, or the range that was asked for; fewer bytes only where the object ends."""

    request: int
    data: bytes


class StoreLength(msgspec.Struct, frozen=True, tag="store_length"):
    """The object's length in bytes."""

    request: int
    length: int


class StoreKeys(msgspec.Struct, frozen=True, tag="store_keys"):
    """Some keys in order of names."""

    request: int
    keys: tuple[str, ...]
    last: bool


class StoreFailed(msgspec.Struct, frozen=True, tag="store_failed"):
    """Why not: `error` is `already_stored`, `not_stored`, `bad_input` or `store_error`; `message` says it in words."""

    request: int
    error: str
    message: str


ToStore = StoreHello | StorePut | StoreGet | StoreRange | StoreSize | StoreExists | StoreList
StoreAnswer = StoreDone | StoreData | StoreLength | StoreKeys | StoreFailed
FromStore = StoreGranted | StoreAnswer
