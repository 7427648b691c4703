"""What the server answers to a host that asks its store for what makes no sense: words, and the link lives on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest

from dumont.control.scrutiny import Standing
from dumont.control.shelf import Shelf
from dumont.control.vault import Vault
from dumont.errors import LinkClosed
from dumont.store.memory import MemoryStore
from dumont.wire.store import (
    PUT_BYTES_MAX,
    RANGE_BYTES_MAX,
    FromStore,
    StoreData,
    StoreFailed,
    StoreGet,
    StoreGranted,
    StoreLength,
    StoreRange,
    StoreSize,
    ToStore,
)
from tests.unit.memory_link import Line, line

HUGE = PUT_BYTES_MAX + 1


@pytest.fixture
async def host() -> AsyncIterator[Line]:
    """The host's end of a link to a server whose store holds a small object and one that no message holds."""
    far, near = line("gpu-1")
    store = MemoryStore()
    await store.put("workspaces/train/small", b"0123456789")
    await store.put("workspaces/train/huge", bytes(HUGE))
    await store.put("workspaces/other/small", b"a secret")
    shelf = Shelf(Vault(store, bytes(32), Random(1).randbytes), anything)
    serving = asyncio.create_task(
        shelf.serve(near, lambda: Standing("train", 3, leads=True))  # type: ignore[arg-type]
    )
    assert isinstance(await far.receive(), StoreGranted)
    yield far
    far.close()
    with contextlib.suppress(LinkClosed):
        await serving


async def anything(standing: Callable[[], Standing], key: str, data: bytes) -> str:
    """Refuse nothing: what may be added is looked at elsewhere."""
    return ""


async def ask(host: Line, question: ToStore) -> FromStore:
    await host.send(question)
    answer: FromStore = await host.receive()
    return answer


async def test_ranges_and_sizes_are_answered(host: Line) -> None:
    """A restore needs no more of a pack than the chunks it lacks."""
    assert await ask(host, StoreRange(1, "small", 8, 5)) == StoreData(1, b"89")
    assert await ask(host, StoreSize(2, "huge")) == StoreLength(2, HUGE)


@pytest.mark.parametrize(
    ("question", "error", "words"),
    [
        (StoreRange(7, "small", -1, 5), "bad_input", "no range"),
        (StoreRange(7, "small", 0, -1), "bad_input", "no range"),
        (StoreRange(7, "huge", 0, RANGE_BYTES_MAX + 1), "bad_input", "too many"),
        (StoreGet(7, "huge"), "bad_input", "ask for ranges"),
        (StoreRange(7, "../other/small", 0, 1), "bad_input", "not the key"),
        (StoreSize(7, "../other/small"), "bad_input", "not the key"),
        (StoreRange(7, "none", 0, 1), "not_stored", "there is no"),
        (StoreSize(7, "none"), "not_stored", "there is no"),
    ],
)
async def test_what_makes_no_sense_is_answered_in_words(host: Line, question: ToStore, error: str, words: str) -> None:
    """A request that is never answered would hold a worker for ever, and one host must not break the server."""
    answer = await ask(host, question)
    assert isinstance(answer, StoreFailed)
    assert (answer.request, answer.error) == (7, error)
    assert words in answer.message
    assert await ask(host, StoreSize(8, "small")) == StoreLength(8, 10)
