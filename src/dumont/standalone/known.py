"""What this machine knows of how to open the repository at an address: its config and a slot, nothing secret."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from dumont.repository.cache import Cache
from dumont.repository.keys import Slot
from dumont.repository.record import Config
from dumont.store.address import Address, Scheme

_NAME = "known"


class Known(msgspec.Struct, frozen=True):
    """How to open the repository at an address; `slot` is the one that opened it last, `name` what it is called."""

    config: Config
    slot: Slot
    name: str = ""


def recall(caches: Path, where: str) -> Known | None:
    """What is known of the repository at `where`."""
    body = _kept(caches, where).read(_NAME)
    try:
        return msgspec.msgpack.decode(body, type=Known) if body else None
    except msgspec.DecodeError:
        return None


def remember(caches: Path, where: str, known: Known) -> None:
    """Keep it for the next run."""
    _kept(caches, where).write(_NAME, msgspec.msgpack.encode(known))


def where_is(address: Address) -> str:
    """An address as it is told and cached: absolute, if it is a directory's."""
    return os.path.realpath(address.path) if address.scheme is Scheme.FILE else str(address)


def caches_of(environment: Mapping[str, str]) -> Path:
    """The directory of all caches: DUMONT_CACHE, or `dumont` in the user's cache directory."""
    if own := environment.get("DUMONT_CACHE", ""):
        return Path(own)
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "dumont"


def _kept(caches: Path, where: str) -> Cache:
    return Cache(caches / f"door-{hashlib.sha256(where.encode()).hexdigest()[:32]}", b"")
