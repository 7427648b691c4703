"""The notice: a machine at Google asks its metadata server whether it is taken back, about 30 s before the end."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random
from urllib.parse import urlencode

from dumont.clock import Clock
from dumont.wire.http import get

HOST = "metadata.google.internal"
PATH = "/computeMetadata/v1/instance/preempted"
LEFT_S = 30.0
"""Soft-off to the end, best effort (documented). A machine with a notice of its own setting has more."""
WAIT_S = 60
"""How long one question hangs; the server answers at once when the value changes."""
SPARE_S = 10.0
STRANGE_MAX = 8
"""So many questions without any answer, and this machine is not at Google."""
PAUSE_S = (0.5, 15.0)


@dataclass(frozen=True)
class Notice:
    """The machine is being taken back. `heard_at` is of the clock's `monotonic`; about `left_s` are left from then."""

    heard_at: float
    left_s: float = LEFT_S


@dataclass(frozen=True)
class Answer:
    """One answer of the metadata server."""

    status: int
    value: str
    etag: str


class Silent(Exception):
    """The metadata server gave no answer that can be read."""


def metadata_address(environ: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Host and port of the metadata server; `GCE_METADATA_HOST` replaces Google's, as for Google's own libraries."""
    host, _, port = environ.get("GCE_METADATA_HOST", HOST).partition(":")
    return host, int(port) if port.isdecimal() else 80


async def watch_notice(
    address: tuple[str, int], tell: Callable[[Notice], Awaitable[None]], clock: Clock, rng: Random
) -> bool:
    """Wait until this machine is being taken back, call `tell` once, and return True.

    Returns False when there is no such server, or it knows no such value: then this machine is not one of Google's.
    A server that answered once is asked for ever; it may fail for a while.
    """
    etag, known, silent = "", False, 0
    while True:
        try:
            answer = await ask(address, etag)
        except Silent:
            silent += 1
            if not known and silent >= STRANGE_MAX:
                return False
            await clock.sleep(min(PAUSE_S[1], PAUSE_S[0] * 2.0 ** min(silent - 1, 10)) * rng.uniform(0.5, 1.0))
            continue
        if answer.status == 404 and not known:
            return False
        if answer.status != 200 or answer.value not in ("TRUE", "FALSE"):
            silent += 1
            await clock.sleep(PAUSE_S[0] * 2.0 ** min(silent, 4) * rng.uniform(0.5, 1.0))
            continue
        known, silent, etag = True, 0, answer.etag
        if answer.value == "TRUE":
            await tell(Notice(clock.monotonic()))
            return True
        if not etag:  # it can't be waited for a change
            await clock.sleep(PAUSE_S[0])


async def ask(address: tuple[str, int], last_etag: str) -> Answer:
    """The value now; with the ETag of the last answer, as soon as it is another one. Raises Silent."""
    query = {"wait_for_change": "true", "last_etag": last_etag, "timeout_sec": str(WAIT_S)} if last_etag else {}
    path = f"{PATH}?{urlencode(query)}" if query else PATH
    try:
        async with asyncio.timeout((WAIT_S if query else 0) + SPARE_S):
            found = await get(address, path, {"Metadata-Flavor": "Google"})
    except (OSError, ValueError) as error:
        raise Silent(f"{type(error).__name__}: {error}") from error
    return Answer(found.status, found.body.decode("latin-1").strip(), found.headers.get("etag", ""))
