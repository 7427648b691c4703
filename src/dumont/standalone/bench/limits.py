"""The limits of this machine, measured before the contest: no engine is faster than the slowest part it needs.

Memory, the work directory, the store drivers, the codecs, the hash and the seal, each alone and, where it may, on all
processors at once. In GB/s (1e9 bytes of input per second), the best of a few tries.
"""

import asyncio
import importlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import lz4.block
import numpy as np
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dumont.store.base import Store
from dumont.store.directory import DirectoryStore

BLOCK_BYTES = 4 * 2**20
OBJECT_BYTES, OBJECTS = 16 * 2**20, 16
TRIES = 3
WORKERS = os.cpu_count() or 1

Limits = dict[str, float | None]
Work = Callable[[bytes], object]


def measure(work: Path, weights: bytes, text: bytes) -> Limits:
    """All limits but those of S3. `weights` are bf16, `text` is code; both multiples of BLOCK_BYTES long."""
    found: Limits = {"memory_copy": _memory_copy(len(weights))}
    found |= _files(work, weights)
    found |= asyncio.run(_directory_store(work, weights))
    seal = AESGCM(AESGCM.generate_key(256))
    kinds: list[tuple[str, Work, bytes]] = [
        ("lz4_weights", _lz4, weights),
        ("lz4_text", _lz4, text),
        ("zstd1_text", _zstd(1), text),
        ("zstd3_text", _zstd(3), text),
        ("zstd1_weights", _zstd(1), weights),
        ("blake3", lambda block: blake3(block).digest(), weights),
        ("aes_256_gcm", lambda block: seal.encrypt(secrets.token_bytes(12), block, None), weights),
    ]
    for name, step, data in kinds:
        for workers in sorted({1, WORKERS}):
            found[f"{name}_{workers}_threads"] = _blockwise(step, data, workers)
    blosc2 = _blosc2()
    for threads in sorted({1, WORKERS}):
        rate = None if blosc2 is None else _blockwise(_bitshuffle(blosc2, threads), weights, 1)
        found[f"bitshuffle_lz4_weights_{threads}_threads"] = rate
    return found


async def measure_store(store: Store, objects: int = OBJECTS, at_once: int = 8) -> tuple[float, float]:
    """Put and get of `objects` of 16 MiB, `at_once` together. Answers both in GB/s."""
    data = np.random.default_rng(1).bytes(OBJECT_BYTES)
    gate = asyncio.Semaphore(at_once)
    keys = [f"limits/{secrets.token_hex(8)}" for _ in range(objects)]

    async def put(key: str) -> None:
        async with gate:
            await store.put(key, data)

    async def get(key: str) -> None:
        async with gate:
            await store.get(key)

    rates: list[float] = []
    for step in (put, get):
        began = time.perf_counter()
        await asyncio.gather(*(step(key) for key in keys))
        rates.append(objects * OBJECT_BYTES / (time.perf_counter() - began) / 1e9)
    for key in keys:
        await store.delete(key)
    return rates[0], rates[1]


async def _directory_store(work: Path, weights: bytes) -> Limits:
    root = work / "limits-store"
    root.mkdir()
    objects = max(2, min(OBJECTS, len(weights) // OBJECT_BYTES * 2))
    put, get = await measure_store(DirectoryStore(root), objects, at_once=WORKERS)
    shutil.rmtree(root)
    return {"directory_put": put, "directory_get": get}


def _memory_copy(size: int) -> float:
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)

    def copy() -> None:
        np.copyto(target, source)

    return _best(copy, size)


def _files(work: Path, data: bytes) -> Limits:
    path = work / "limits-file"
    buffer = bytearray(BLOCK_BYTES)

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for at in range(0, len(data), BLOCK_BYTES):
                file.write(memoryview(data)[at : at + BLOCK_BYTES])

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    rates = {"file_write": _best(write, len(data)), "file_read": _best(read, len(data))}
    path.unlink()
    return dict(rates)


def _blockwise(step: Work, data: bytes, workers: int) -> float:
    blocks = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
    with ThreadPoolExecutor(workers) as pool:
        return _best(lambda: _all(pool, step, blocks), len(data))


def _all(pool: ThreadPoolExecutor, step: Work, blocks: Sequence[bytes]) -> None:
    for _done in pool.map(step, blocks):
        pass


def _best(step: Callable[[], None], size: int) -> float:
    best = float("inf")
    for _ in range(TRIES):
        began = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - began)
    return size / best / 1e9


def _lz4(block: bytes) -> bytes:
    packed: bytes = lz4.block.compress(block, store_size=False)
    return packed


def _zstd(level: int) -> Work:
    return lambda block: zstandard.ZstdCompressor(level=level).compress(block)


def _bitshuffle(blosc2: ModuleType, threads: int) -> Work:
    """Through blosc2, in threads of its own: two Python threads take turns in it."""
    settings = {
        "codec": blosc2.Codec.LZ4,
        "filters": [blosc2.Filter.BITSHUFFLE],
        "filters_meta": [0],
        "typesize": 2,
        "clevel": 5,
        "nthreads": threads,
    }
    return lambda block: blosc2.compress2(block, **settings)


def _blosc2() -> ModuleType | None:
    try:
        return importlib.import_module("blosc2")
    except ImportError:
        return None
