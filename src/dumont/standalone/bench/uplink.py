"""What an S3 store can take and give, alone: put and get of objects, over the shaped link and at full speed."""

import asyncio
import importlib
import os
import time
from typing import Any

from dumont.standalone.bench.cloud import Cloud
from dumont.standalone.bench.limits import OBJECT_BYTES, Limits
from dumont.standalone.bench.peers import Bucket

OBJECTS, AT_ONCE = 12, 6


def store_rates(server: Cloud) -> Limits:
    """Put and get in GB/s through obstore, shaped to 1 Gbit/s and unshaped; the link is shaped again afterwards."""
    try:
        stores = importlib.import_module("obstore.store")
    except ImportError:
        return dict.fromkeys(("s3_put_1gbit", "s3_get_1gbit", "s3_put_unshaped", "s3_get_unshaped"))
    put_1gbit, get_1gbit = asyncio.run(_rates(stores, server.bucket("limits")))
    server.link.open_up()
    try:
        put, get = asyncio.run(_rates(stores, server.bucket("limits")))
    finally:
        server.link.shape()
    return {"s3_put_1gbit": put_1gbit, "s3_get_1gbit": get_1gbit, "s3_put_unshaped": put, "s3_get_unshaped": get}


async def _rates(stores: Any, bucket: Bucket) -> tuple[float, float]:
    store = stores.S3Store(
        bucket.name, endpoint=bucket.endpoint, region="us-east-1", access_key_id=bucket.access_key,
        secret_access_key=bucket.secret_key,
        virtual_hosted_style_request=False, unsigned_payload=True, client_options={"allow_http": True},
    )  # fmt: skip
    data = os.urandom(OBJECT_BYTES)
    gate = asyncio.Semaphore(AT_ONCE)

    async def put(key: str) -> None:
        async with gate:
            await store.put_async(key, data, use_multipart=False)

    async def get(key: str) -> None:
        async with gate:
            await (await store.get_async(key)).bytes_async()

    keys = [f"limits/{number}" for number in range(OBJECTS)]
    rates: list[float] = []
    for step in (put, get):
        began = time.perf_counter()
        await asyncio.gather(*(step(key) for key in keys))
        rates.append(len(keys) * OBJECT_BYTES / (time.perf_counter() - began) / 1e9)
    await store.delete_async(keys)
    return rates[0], rates[1]
