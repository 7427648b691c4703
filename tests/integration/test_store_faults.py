"""A store in a bucket when the network and the service misbehave: what passes is repeated, what does not gets words."""

import os
import random
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import obstore
import pytest
from obstore.store import S3Store

from dumont.clock import SystemClock
from dumont.errors import AlreadyStored, NotStored, StoreError
from dumont.store.account import Account, read_account
from dumont.store.address import parse
from dumont.store.cloud import CloudStore
from dumont.store.patience import Attempt, Patience
from tests.integration.bad_proxy import (
    BadProxy,
    Fault,
    answering,
    between,
    cut_body,
    lost_response,
    never,
    reset,
    short_body,
    stuck_body,
)
from tests.integration.s3_server import BUCKET, S3Server

QUICK = Patience(attempt_s=5.0, total_s=20.0, first_pause_s=0.01, longest_pause_s=0.05)
SHORT = replace(QUICK, attempt_s=0.5, total_s=1.5)
SLOW_DOWN = answering("503 Slow Down", "SlowDown", "Please reduce your request rate.")
BODY = os.urandom(300_000)


@pytest.fixture
async def proxy(s3_server: S3Server) -> AsyncIterator[BadProxy]:
    async with between(s3_server.port) as proxy:
        yield proxy


class Place:
    """One prefix of the bucket, reached directly and through the proxy."""

    def __init__(self, server: S3Server, proxy: BadProxy) -> None:
        self._server = server
        self._proxy = proxy
        self._prefix = uuid.uuid4().hex

    def straight(self) -> CloudStore:
        """A driver without faults: what is really there."""
        return self._store(0, QUICK, "owner", BUCKET)

    def through(self, patience: Patience = QUICK, name: str = "owner", bucket: str = BUCKET) -> CloudStore:
        """A driver behind the proxy."""
        return self._store(self._proxy.port, patience, name, bucket)

    def _store(self, port: int, patience: Patience, name: str, bucket: str) -> CloudStore:
        return CloudStore(self.account(port, name, bucket), patience, SystemClock(), random.Random(7))

    def account(self, port: int, name: str, bucket: str) -> Account:
        """An identity's account, reached through `port` if it is not 0."""
        return read_account(parse(f"s3://{bucket}/{self._prefix}"), self._server.environment(name, port))


@pytest.fixture
def place(s3_server: S3Server, proxy: BadProxy) -> Place:
    return Place(s3_server, proxy)


async def test_a_proxy_without_faults_changes_nothing(place: Place) -> None:
    """Otherwise the other tests would prove nothing."""
    store = place.through()
    await store.put("a/b", BODY)
    assert await store.get("a/b") == BODY
    assert await store.get_range("a/b", 5, 7) == BODY[5:12]
    assert await store.size("a/b") == len(BODY)
    assert [key async for key in store.keys("")] == ["a/b"]
    await store.delete("a/b")
    assert not await store.exists("a/b")


PASSING = {
    "slow down": SLOW_DOWN,
    "too many requests": answering("429 Too Many Requests"),
    "internal error": answering("500 Internal Server Error", "InternalError", "We encountered an internal error."),
    "bad gateway": answering("502 Bad Gateway"),
    "request timeout": answering("400 Bad Request", "RequestTimeout", "Your socket connection was idle."),
    "reset": reset,
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
async def test_what_passes_is_waited_for(place: Place, proxy: BadProxy, fault: Fault) -> None:
    """A service that is busy for a moment must not fail a night's training."""
    store = place.through()
    proxy.fail("PUT", fault, times=4)
    await store.put("a/b", BODY)
    proxy.fail("GET", fault, times=3)
    assert await store.get("a/b") == BODY
    proxy.fail("GET", fault, times=3)
    assert await store.get_range("a/b", 1, 1000) == BODY[1:1001]
    if fault is not PASSING["request timeout"]:  # an answer to HEAD has no code
        proxy.fail("HEAD", fault, times=3)
    assert await store.size("a/b") == len(BODY)
    proxy.fail("GET", fault, times=2)
    assert [key async for key in store.keys("a/")] == ["a/b"]
    proxy.fail("DELETE", fault, times=3)
    await store.delete("a/b")
    assert proxy.faults == []
    assert not await place.straight().exists("a/b")


async def test_an_answer_that_is_cut_off_is_asked_for_again(place: Place, proxy: BadProxy) -> None:
    """Half an object must never be taken for a whole one."""
    store = place.through()
    await store.put("a/b", BODY)
    proxy.fail("GET", cut_body, times=2)
    assert await store.get("a/b") == BODY
    proxy.fail("GET", cut_body, times=2)
    assert await store.get_range("a/b", 10, 100_000) == BODY[10:100_010]


async def test_a_range_that_is_shorter_than_asked_for_is_asked_for_again(place: Place, proxy: BadProxy) -> None:
    """The answer is well-formed, and only who asked knows that a byte is missing."""
    store = place.through()
    await store.put("a/b", BODY)
    proxy.fail("GET", short_body, times=2)
    assert await store.get_range("a/b", 10, 100_000) == BODY[10:100_010]
    assert proxy.faults == []


async def test_control_nothing_below_notices_a_short_range(place: Place, proxy: BadProxy) -> None:
    """If obstore did, the check above would guard nothing."""
    await place.straight().put("a/b", BODY)
    proxy.fail("GET", short_body)
    account = place.account(proxy.port, "owner", BUCKET)
    bucket = S3Store(BUCKET, config=account.config, client_options={"allow_http": True})
    answer = await obstore.get_async(bucket, f"{account.address.prefix}/a/b", options={"range": (10, 100_010)})
    assert len(await answer.bytes_async()) == 99_999


async def test_a_list_that_is_cut_off_is_asked_for_again(place: Place, proxy: BadProxy) -> None:
    """A list that ends early would make history look lost."""
    store = place.through()
    for number in range(5):
        await store.put(f"a/{number}", b"")
    proxy.fail("GET", cut_body, times=2)
    assert [key async for key in store.keys("a/")] == [f"a/{number}" for number in range(5)]


async def test_a_lost_answer_is_no_lost_write(place: Place, proxy: BadProxy) -> None:
    """The writer's own object must not be refused to it: the upload would never end."""
    proxy.fail("PUT", lost_response)
    await place.through().put("a/b", BODY)
    assert proxy.seen.count("PUT") == 2
    assert await place.straight().get("a/b") == BODY


async def test_after_a_retry_another_writers_object_is_not_taken_for_ours(place: Place, proxy: BadProxy) -> None:
    """Otherwise two writers would both believe that they own the name."""
    await place.straight().put("same-size", BODY[::-1])
    await place.straight().put("other-size", BODY[1:])
    for key in ("same-size", "other-size"):
        proxy.fail("PUT", lost_response)
        with pytest.raises(AlreadyStored):
            await place.through().put(key, BODY)
        assert await place.straight().get(key) != BODY


class Trusting(CloudStore):
    """Believes after a retry that what is stored is its own."""

    async def _holds(self, attempt: Attempt, key: str, body: memoryview) -> bool:
        return True


async def test_control_a_driver_that_does_not_compare_loses_a_write(place: Place, proxy: BadProxy) -> None:
    """The comparison is what keeps the two tests above apart."""
    await place.straight().put("a/b", BODY[::-1])
    proxy.fail("PUT", lost_response)
    trusting = Trusting(place.account(proxy.port, "owner", BUCKET), QUICK, SystemClock(), random.Random(7))
    await trusting.put("a/b", BODY)
    assert await place.straight().get("a/b") != BODY


async def test_without_a_retry_equal_bytes_are_already_stored(place: Place) -> None:
    """Nothing was unheard, so somebody else wrote them."""
    await place.straight().put("a/b", BODY)
    with pytest.raises(AlreadyStored):
        await place.through().put("a/b", BODY)


async def test_a_conflict_with_a_write_under_way_is_tried_again(place: Place, proxy: BadProxy) -> None:
    """Amazon answers 409 when nothing is decided yet; AlreadyStored would speak of an object that is not there."""
    proxy.fail("PUT", answering("409 Conflict", "ConditionalRequestConflict", "A conflicting operation is under way."))
    await place.through().put("a/b", BODY)
    assert await place.straight().get("a/b") == BODY


@pytest.mark.parametrize("fault", [never, stuck_body])
async def test_a_connection_that_stands_still_is_left(place: Place, proxy: BadProxy, fault: Fault) -> None:
    """A silent connection stays open for hours by itself."""
    await place.straight().put("a/b", BODY)
    store = place.through(replace(SHORT, slowest_bytes_per_s=2**20))
    proxy.fail("GET", fault)
    assert await store.get("a/b") == BODY
    assert proxy.seen.count("GET") == 2


async def test_a_put_that_is_not_answered_is_sent_again(place: Place, proxy: BadProxy) -> None:
    """The same for what is written."""
    proxy.fail("PUT", never)
    await place.through(SHORT).put("a/b", b"small")
    assert await place.straight().get("a/b") == b"small"


STANDING = {
    "overloaded": (SLOW_DOWN, "overloaded or failing; try again later"),
    "silent": (never, "did not answer in time"),
    "reset": (reset, "can't be reached"),
}


@pytest.mark.parametrize(("fault", "words"), STANDING.values(), ids=STANDING.keys())
@pytest.mark.parametrize("verb", ["put", "get", "size", "keys", "delete"])
async def test_what_does_not_pass_becomes_an_error_in_bounded_time(
    place: Place, proxy: BadProxy, verb: str, fault: Fault, words: str
) -> None:
    """A call that never returns says less than an error; the error says what to do."""
    store = place.through(SHORT)
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        proxy.fail(method, fault, times=1000)
    calls = {
        "put": lambda: store.put("a/b", b"x"),
        "get": lambda: store.get("a/b"),
        "size": lambda: store.size("a/b"),
        "keys": lambda: _listed(store),
        "delete": lambda: store.delete("a/b"),
    }
    begun = time.monotonic()
    with pytest.raises(StoreError, match=words) as caught:
        await calls[verb]()
    assert not isinstance(caught.value, AlreadyStored | NotStored)
    assert time.monotonic() - begun < 20  # bounds of 1.5 s, on a machine that may be busy


async def _listed(store: CloudStore) -> list[str]:
    return [key async for key in store.keys("")]


FINAL = {
    "clock": ("403 Forbidden", "RequestTimeTooSkewed", "clock is wrong by many minutes.*timedatectl"),
    "denied": ("403 Forbidden", "AccessDenied", "permission denied.*AWS_ACCESS_KEY_ID"),
    "key": ("403 Forbidden", "InvalidAccessKeyId", "does not accept the credentials.*check AWS_ACCESS_KEY_ID"),
    "secret": ("403 Forbidden", "SignatureDoesNotMatch", "does not accept the credentials"),
    "expired": ("400 Bad Request", "ExpiredToken", "have expired: get new ones"),
    "bucket": ("404 Not Found", "NoSuchBucket", "there is no bucket dumont: create it"),
    "region": ("301 Moved Permanently", "PermanentRedirect", "set AWS_REGION"),
    "header": ("501 Not Implemented", "NotImplemented", "does not support conditional writes"),
}


@pytest.mark.parametrize("final", FINAL.values(), ids=FINAL.keys())
@pytest.mark.parametrize("verb", ["PUT", "GET"])
async def test_what_a_person_has_to_mend_is_said_at_once(
    place: Place, proxy: BadProxy, verb: str, final: tuple[str, str, str]
) -> None:
    """Repeating a request with the wrong key wastes minutes and hides the reason."""
    status, code, words = final
    proxy.fail(verb, answering(status, code, "As the service says."))
    store = place.through()
    with pytest.raises(StoreError, match=words):
        await (store.put("a/b", BODY) if verb == "PUT" else store.get("a/b"))
    assert proxy.seen == [verb]


async def test_another_services_settings_do_not_leak_in(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who works with Amazon's short-lived keys has a token in the environment, which R2 would refuse."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-somebody-else")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    store = place.through()
    await store.put("a/b", BODY)
    assert await store.get("a/b") == BODY


async def test_a_key_that_may_only_read_is_told_so(place: Place) -> None:
    """The real server's refusal, not one of ours."""
    await place.straight().put("a/b", BODY)
    store = place.through(name="reader")
    assert await store.get("a/b") == BODY
    with pytest.raises(StoreError, match="permission denied"):
        await store.put("a/c", BODY)


@pytest.mark.parametrize("verb", ["get", "size", "exists", "keys"])
async def test_a_missing_bucket_is_not_a_missing_object(place: Place, verb: str) -> None:
    """A mistyped bucket would look like an empty store, and a HEAD says only 404."""
    store = place.through(bucket="no-such-bucket")
    calls = {
        "get": lambda: store.get("a/b"),
        "size": lambda: store.size("a/b"),
        "exists": lambda: store.exists("a/b"),
        "keys": lambda: _listed(store),
    }
    with pytest.raises(StoreError, match="there is no bucket no-such-bucket") as caught:
        await calls[verb]()
    assert not isinstance(caught.value, NotStored)


async def test_nobody_at_the_endpoint_is_said_in_words(s3_server: S3Server) -> None:
    """The most common mistake in an endpoint."""
    environment = s3_server.environment(port=1)
    store = CloudStore(read_account(parse("s3://dumont"), environment), SHORT, SystemClock(), random.Random(7))
    with pytest.raises(StoreError, match=r"can't be reached: the connection is refused.*Check endpoint"):
        await store.get("a")
