"""Whether a store refuses to overwrite, found out before anybody relies on it."""

import random
import uuid

import pytest

from dumont.clock import SystemClock
from dumont.errors import NotPossibleHere, StoreError
from dumont.store.account import read_account
from dumont.store.address import parse
from dumont.store.base import Data
from dumont.store.cloud import CloudStore, open_cloud
from dumont.store.conditional import probe_conditional_writes, require_conditional_writes
from dumont.store.memory import MemoryStore
from dumont.store.patience import Patience
from tests.integration.bad_proxy import answering, between
from tests.integration.s3_server import BUCKET, S3Server


class Overwriting(MemoryStore):
    """A store that takes every write, as services do that ignore If-None-Match."""

    async def put(self, key: str, data: Data) -> None:
        await self.delete(key)
        await super().put(key, data)


class Keeping(MemoryStore):
    """A store whose keys may not delete."""

    async def delete(self, key: str) -> None:
        raise StoreError("permission denied")


async def test_a_store_that_keeps_its_promise_passes_and_is_left_clean() -> None:
    """The probe is nobody's object."""
    store = MemoryStore()
    assert await probe_conditional_writes(store, "n1")
    await require_conditional_writes(store, "n2", "here")
    assert [key async for key in store.keys("")] == []


async def test_a_store_that_overwrites_is_refused_in_words() -> None:
    """Two writers would destroy each other's history there, weeks later and in silence."""
    assert not await probe_conditional_writes(Overwriting(), "n1")
    with pytest.raises(NotPossibleHere, match=r"s3://old overwrites objects.*use a store with conditional writes"):
        await require_conditional_writes(Overwriting(), "n2", "s3://old")


async def test_a_key_that_may_not_delete_is_no_reason_to_refuse() -> None:
    """Such keys are what a careful operator hands out."""
    assert await probe_conditional_writes(Keeping(), "n1")


async def test_a_real_server_passes(s3_server: S3Server) -> None:
    """The one that the other tests rely on."""
    store = open_cloud(parse(f"s3://{BUCKET}/{uuid.uuid4().hex}"), s3_server.environment())
    assert await probe_conditional_writes(store, "n1")
    assert [key async for key in store.keys("")] == []


async def test_a_service_that_knows_no_conditional_writes_is_refused_in_words(s3_server: S3Server) -> None:
    """B2 answers 501 to If-None-Match."""
    async with between(s3_server.port) as proxy:
        proxy.fail("PUT", answering("501 Not Implemented", "NotImplemented", "A header implies functionality"))
        account = read_account(parse(f"s3://{BUCKET}/x"), s3_server.environment(port=proxy.port))
        store = CloudStore(account, Patience(), SystemClock(), random.Random(1))
        with pytest.raises(StoreError, match="does not support conditional writes"):
            await require_conditional_writes(store, "n1", "b2://bucket")
        assert proxy.seen == ["PUT"]
