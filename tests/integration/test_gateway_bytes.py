"""What the gateway does to the bytes between a client and a primary: nothing, and never too many at once."""

import asyncio
import hashlib
import random
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dumont.gateway import splice as splice_module
from tests.integration.gateway_world import World, eventually, is_cut, running_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(tmp_path) as world:
        yield world


async def test_half_close_is_passed_on_both_ways(world: World) -> None:
    """`tar | ssh` and HTTP/1.0 depend on it: one side is done, the other goes on."""
    a = await world.primary("a", 1)
    world.hub.tell(world.route(a, 1))
    reader, writer = await world.connect()
    writer.write(b"last\n")
    writer.write_eof()
    assert await reader.read() == b"I am a\na:last\nend\n"
    heard = asyncio.Event()

    async def end_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye\n")
        writer.write_eof()
        assert await reader.read() == b"and you\n"
        heard.set()

    a.on_ssh = end_first
    reader, writer = await world.connect()
    assert await reader.read() == b"bye\n"
    writer.write(b"and you\n")
    writer.close()
    async with asyncio.timeout(2):
        await heard.wait()
    await eventually(lambda: world.gateway.addresses["w"].clients == 0)


async def test_64_mib_both_ways_at_once_arrive_unchanged(world: World) -> None:
    """Whole, in order, and without a deadlock when both directions are full."""
    a = await world.primary("a", 1)
    block = random.Random(7).randbytes(2**20)
    whole = hashlib.sha256()
    for _ in range(64):
        whole.update(block)
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def pour(writer: asyncio.StreamWriter) -> None:
        for _ in range(64):
            writer.write(block)
            await writer.drain()
        writer.write_eof()

    async def drink(reader: asyncio.StreamReader) -> str:
        digest = hashlib.sha256()
        while data := await reader.read(2**20):
            digest.update(data)
        return digest.hexdigest()

    async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, digest = await asyncio.gather(pour(writer), drink(reader))
        seen.set_result(digest)

    a.on_ssh = both
    world.hub.tell(world.route(a, 1))
    reader, writer = await world.connect()
    began = time.monotonic()
    _, digest = await asyncio.gather(pour(writer), drink(reader))
    seconds = time.monotonic() - began
    print(f"64 MiB both ways in {seconds:.2f} s: {128 / seconds:.0f} MiB/s through one loop with both ends")
    assert digest == whole.hexdigest()
    assert await seen == whole.hexdigest()


async def test_a_slow_reader_does_not_grow_memory(world: World) -> None:
    """What the client does not take, the primary is not read for."""
    a = await world.primary("a", 1)
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(b"x" * 2**18)
            await writer.drain()
            sent += 2**18

    a.on_ssh = flood
    world.hub.tell(world.route(a, 1))
    reader, _ = await world.connect()
    await reader.read(1)
    await asyncio.sleep(0.3)
    before = sent
    await asyncio.sleep(0.5)
    assert sent == before  # it stands still
    kernel_bytes = 3 * 8 * 2**20  # loopback's socket buffers grow to a few MiB each
    assert sent < kernel_bytes + splice_module.IN_FLIGHT_BYTES_MAX + splice_module.READ_BYTES_MAX
    (splice,) = world.gateway.addresses["w"]._splices
    assert splice.client._transport is not None
    buffered = splice.client._transport.get_write_buffer_size()
    assert buffered <= splice_module.IN_FLIGHT_BYTES_MAX + splice_module.READ_BYTES_MAX


async def test_a_broken_primary_never_looks_like_an_orderly_end(world: World) -> None:
    """Half a download that ends in order would be taken for a whole one."""
    a = await world.primary("a", 1)

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half of")
        await reader.readline()
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, splice_module._RESET_ON_CLOSE)
        writer.transport.abort()

    a.on_ssh = break_off
    world.hub.tell(world.route(a, 1))
    reader, writer = await world.connect()
    assert await reader.read(7) == b"half of"
    writer.write(b"go\n")
    assert await is_cut(reader)
