"""Packs on their way: one is carried while the next is filled; none is told stored before it is, none is spoilt."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import blake3
import pytest

from dumont.errors import StoreError
from dumont.repository.codec import RAW, Coder
from dumont.repository.hands import Blocking, ThreadHand
from dumont.repository.keys import Keys, keys_of
from dumont.repository.pack import Chunks, PackBuilder, PackReader
from dumont.repository.record import DATA, Pack, pack_key
from dumont.repository.saving.sending import FIRST_BYTES, Sending
from dumont.store.base import Data
from dumont.store.directory import DirectoryStore
from dumont.store.memory import MemoryStore

KEYS = keys_of(bytes(32), bytes(16))
CONTENTS = [bytes([number]) * 5_000 for number in range(4)]


class SlowStore(MemoryStore):
    """Stores when it is let; `under_way` counts puts that began and did not end. Fails where it is told to."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.let = asyncio.Event()
        self.began = asyncio.Event()
        self.under_way = 0
        self.fails = fails

    async def put(self, key: str, data: Data) -> None:
        self.under_way += 1
        self.began.set()
        try:
            await self.let.wait()
            if self.fails:
                raise StoreError("the line was cut")
            await super().put(key, data)
        finally:
            self.under_way -= 1


def sending_over(store: MemoryStore, keys: Keys = KEYS) -> Sending:
    """Over a store that the running loop carries to, with packs of 6,000 bytes: one of CONTENTS each."""
    loop = asyncio.get_running_loop()

    def begin(work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, loop)

    names = iter(f"{number:032x}" for number in range(100))
    blocking = Blocking(store, lambda work: begin(work).result(), begin)
    builder = PackBuilder(keys, lambda: next(names), lambda: 7, 6_000)
    return Sending(blocking, builder, lambda _seconds, _size: None)


def fill(sending: Sending, content: bytes) -> None:
    """A pack's worth of bytes, and not sent yet."""
    chunk = blake3.blake3(content, key=KEYS.chunk_key).digest()
    sending.builder.add(RAW, DATA, content, Chunks([chunk], [len(content)], len(content)))


async def content_of(store: MemoryStore, pack: Pack) -> bytes:
    """What a stored pack holds, opened with its seal and hashed."""
    body, frame = await store.get(pack_key(pack.name)), pack.frames[0]
    reader = PackReader(KEYS, pack, Coder())
    plain = reader.frame(0, body[frame.offset : frame.offset + frame.length])
    return bytes(reader.chunk(0, plain, 0, frame.lengths[0], frame.ids))


async def in_thread(step: Callable[[], object]) -> None:
    await asyncio.to_thread(step)


async def test_the_next_pack_is_filled_while_one_is_carried_and_spoils_it_not() -> None:
    """Both hand and line are busy; the bytes under way must not be those that the next pack overwrites."""
    store = SlowStore()
    sending = sending_over(store)
    fill(sending, CONTENTS[0])
    await in_thread(sending.send)
    await store.began.wait()
    fill(sending, CONTENTS[1])
    assert store.under_way == 1
    assert sending.taken() == [], "a pack that is under way is not stored"
    store.let.set()
    await in_thread(sending.send)
    for content in CONTENTS[2:]:
        fill(sending, content)
        await in_thread(sending.send)
    await in_thread(sending.settle)
    assert [await content_of(store, pack) for pack in sending.taken()] == CONTENTS


async def test_what_carrying_a_pack_raised_is_raised_by_the_next_step_and_the_pack_is_not_told_stored() -> None:
    """Or a save would rely on a pack that is not there."""
    store = SlowStore(fails=True)
    sending = sending_over(store)
    fill(sending, CONTENTS[0])
    await in_thread(sending.send)
    store.let.set()
    with pytest.raises(StoreError, match="the line was cut"):
        await in_thread(sending.settle)
    assert sending.taken() == []


async def test_a_closed_hand_leaves_no_pack_under_way() -> None:
    """A save that failed elsewhere ends its hands; what they were still carrying ends with them."""
    store = SlowStore()
    hand = ThreadHand(lambda _message, blocking: Leaving(blocking), store)
    await hand.ask(b"begin")
    await hand.ask(b"put")
    await store.began.wait()
    await hand.close()
    assert store.under_way == 0


class Leaving:
    """A worker that begins a put and does not wait for it."""

    def __init__(self, blocking: Blocking) -> None:
        self.blocking = blocking

    def handle(self, message: bytes) -> bytes:
        self.blocking.begin_put("a", message)
        return b""

    def end(self) -> None:
        return


async def test_the_first_pack_over_a_line_is_small_and_those_in_a_directory_are_not(tmp_path: Any) -> None:
    """A line has nothing to carry before the first is full; a directory has no line, and wants few files."""
    far = PackBuilder(KEYS, lambda: "0" * 32, lambda: 7)
    near = PackBuilder(KEYS, lambda: "0" * 32, lambda: 7)
    whole = near.pack_bytes
    Sending(Blocking(MemoryStore(), asyncio.run), far, lambda _seconds, _size: None)
    Sending(Blocking(DirectoryStore(tmp_path), asyncio.run), near, lambda _seconds, _size: None)
    assert (far.pack_bytes, near.pack_bytes) == (FIRST_BYTES, whole)
