"""How the driver reads Vast.ai's answers, how often it asks, and what it repeats, in virtual time."""

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import httpx
import pytest

from dumont.errors import ProviderError
from dumont.provider.vast.client import (
    ATTEMPTS_MAX,
    Call,
    Chance,
    Client,
    KeyRefused,
    Refusal,
    TooFrequent,
    Unanswered,
)
from dumont.provider.vast.limiter import PACES, Limiter, Limiters, Pace
from dumont.provider.vast.roster import Roster
from tests.emulators.vast_stand import StoppedClock

LIST = Call(endpoint="list", method="GET", path="/api/v1/instances/")
CREATE = Call(endpoint="create", method="PUT", path="/api/v0/asks/1/", body={}, repeats=False)
Answer = httpx.Response | httpx.HTTPError


class Script:
    """A service that gives these answers in turn, the last one for ever, and notes when it was asked."""

    def __init__(self, clock: StoppedClock, *answers: Answer) -> None:
        self.clock, self.answers, self.asked_at = clock, list(answers), list[float]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked_at.append(self.clock.monotonic())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, httpx.HTTPError):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def client_of(script: Callable[[httpx.Request], httpx.Response], clock: StoppedClock) -> Client:
    http = httpx.AsyncClient(transport=httpx.MockTransport(script), verify=False)
    return Client("key", "http://vast.test", http, Limiters(clock), Chance(clock, Random(3)))


def says(status: int, content: Any = None, **headers: str) -> httpx.Response:
    return httpx.Response(status, json=content if content is not None else {"success": True}, headers=headers)


GOOD = says(200, {"success": True, "n": 0.1})


async def test_numbers_are_read_as_decimals() -> None:
    """A price that went through a float is another price."""
    clock = StoppedClock()
    assert (await client_of(Script(clock, GOOD), clock).call(LIST))["n"] == Decimal("0.1")


async def test_an_absent_success_is_a_success_and_a_false_one_never() -> None:
    """A 200 can carry a refusal; searches carry no such field at all."""
    clock = StoppedClock()
    assert await client_of(Script(clock, says(200, {"offers": []})), clock).call(LIST) == {"offers": []}
    no = says(200, {"success": False, "error": "resources_unavailable", "msg": "queued"})
    with pytest.raises(Refusal) as refused:
        await client_of(Script(clock, no), clock).call(LIST)
    assert refused.value.code == "resources_unavailable"


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
        (401, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
        (403, {"success": False, "error": "auth_error", "msg": "This action requires login."}),
        (401, {"detail": "Authentication credentials were not provided."}),
        (403, {"success": False, "error": "not_authorized", "msg": "This key lacks a permission."}),
    ],
)
async def test_a_refused_key_is_told_as_one(status: int, content: dict[str, Any]) -> None:
    """Read as "gone", the 404 of an expired key would lose every running machine."""
    clock = StoppedClock()
    with pytest.raises(KeyRefused):
        await client_of(Script(clock, says(status, content)), clock).call(LIST)


RATES = [
    (httpx.Response(429, text="API requests too frequent", headers={"Retry-After": "7"}), 7.0),
    (httpx.Response(429, json={"detail": "too frequent", "retry_after": 6.5}), 6.5),
    (httpx.Response(429, text="API requests too frequent: endpoint threshold=4.5"), 4.5),
    (httpx.Response(429, json={"detail": "API requests too frequent endpoint threshold=4.5"}), 4.5),
    (says(429, {"success": False, "error": "rate_limit_exceeded", "msg": "too frequent endpoint threshold=3.0"}), 3.0),
    (
        httpx.Response(429, json={"retry_after": 2, "detail": "threshold=9"}, headers={"Retry-After": "11"}),
        11.0,
    ),
]


@pytest.mark.parametrize(("refusal", "wait_s"), RATES)
async def test_a_429_of_each_shape_is_waited_out_as_it_says(refusal: httpx.Response, wait_s: float) -> None:
    """Header, then body, then the threshold in the text."""
    clock = StoppedClock()
    script = Script(clock, refusal, GOOD)
    await client_of(script, clock).call(LIST)
    first, second = script.asked_at
    assert wait_s <= second - first <= wait_s + 0.2


async def test_a_429_that_says_nothing_is_backed_off_from_with_jitter() -> None:
    """Many drivers that wait equally long come back together."""
    waits = set()
    for seed in range(4):
        clock = StoppedClock()
        script = Script(clock, httpx.Response(429, text="API requests too frequent"))
        http = httpx.AsyncClient(transport=httpx.MockTransport(script), verify=False)
        paces = {**PACES, "list": Pace(period_s=0.001)}
        client = Client("key", "http://vast.test", http, Limiters(clock, paces), Chance(clock, Random(seed)))
        with pytest.raises(TooFrequent):
            await client.call(LIST)
        assert len(script.asked_at) == ATTEMPTS_MAX, "bounded"
        gaps = [later - earlier for earlier, later in zip(script.asked_at, script.asked_at[1:], strict=False)]
        assert gaps[-1] > gaps[0], "growing"
        waits.add(gaps[0])
    assert len(waits) == 4


async def test_an_unreasonable_wait_is_given_back_and_a_used_up_quota_is_not_asked_again() -> None:
    """A sweep that hangs until midnight observes no machine."""
    clock = StoppedClock()
    for refusal in (
        httpx.Response(429, text="too frequent", headers={"Retry-After": "3600"}),
        httpx.Response(429, json={"error": "search_quota_exceeded"}, headers={"X-RateLimit-Reset": "1767312000"}),
    ):
        script = Script(clock, refusal)
        with pytest.raises(TooFrequent):
            await client_of(script, clock).call(LIST)
        assert len(script.asked_at) == 1


async def test_a_front_door_page_is_waited_out_and_never_a_refused_key() -> None:
    """Under bursts its proxy answers with a page for people."""
    clock = StoppedClock()
    page = httpx.Response(403, html="<html>403 Forbidden</html>")
    script = Script(clock, page, GOOD)
    await client_of(script, clock).call(LIST)
    assert len(script.asked_at) == 2


@pytest.mark.parametrize("trouble", [says(504), says(502), says(500), httpx.ReadTimeout("late"), httpx.ReadError("")])
async def test_only_what_may_be_repeated_is(trouble: Answer) -> None:
    """A create that got a 504 may have created: repeating it costs a second machine."""
    clock = StoppedClock()
    script = Script(clock, trouble, GOOD)
    await client_of(script, clock).call(LIST)
    assert len(script.asked_at) == 2
    script = Script(clock, trouble, GOOD)
    with pytest.raises(Unanswered):
        await client_of(script, clock).call(CREATE)
    assert len(script.asked_at) == 1


async def test_a_create_refused_for_its_rate_did_nothing_and_is_repeated() -> None:
    """Otherwise a busy minute would leave a workspace without a machine."""
    clock = StoppedClock()
    script = Script(clock, RATES[2][0], GOOD)
    await client_of(script, clock).call(CREATE)
    assert len(script.asked_at) == 2


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="null"), httpx.Response(200, text="<html>"), httpx.Response(200, text=""),
        says(200, {"success": True}), says(200, {"success": True, "instances": None}),
        says(200, {"success": True, "instances": {}}), says(200, {"success": True, "instances": [{"label": "x"}]}),
        says(200, {"success": True, "instances": [], "total_instances": 3, "next_token": None}),
        says(200, {"success": True, "instances": [], "next_token": "more"}),
        says(410, {"success": False, "error": "deprecated_endpoint", "msg": "Use /api/v1/instances/ instead."}),
        says(404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
        says(404, {"detail": "Not found."}),
    ],
)  # fmt: skip
async def test_a_list_that_was_not_read_is_never_an_empty_one(answer: httpx.Response) -> None:
    """Read as "no instances", it made others launch until the money was gone."""
    clock = StoppedClock()
    with pytest.raises(ProviderError):
        await Roster(client_of(Script(clock, answer), clock)).rows()


async def test_pages_are_read_to_the_end() -> None:
    """A list comes 25 at a time; the 26th machine bills too."""
    clock = StoppedClock()
    pages = [
        {"instances": [{"id": n} for n in range(25)], "next_token": "t", "total_instances": 26},
        {"instances": [{"id": 25}], "next_token": None, "total_instances": 26},
    ]
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        return says(200, pages[len(asked) - 1])

    assert len(await Roster(client_of(answer, clock)).rows()) == 26
    assert "after_token" not in asked[0] and asked[1]["after_token"] == "t"
    assert json.loads(asked[0]["order_by"]) == [{"col": "id", "dir": "asc"}]


async def test_one_limiter_is_shared_by_all_calls_of_an_endpoint() -> None:
    """Callers that each keep the rate by themselves break it together."""
    clock = StoppedClock()
    script = Script(clock, GOOD)
    client = client_of(script, clock)
    await asyncio.gather(*(client.call(LIST) for _ in range(5)))
    gaps = [later - earlier for earlier, later in zip(script.asked_at, script.asked_at[1:], strict=False)]
    assert all(gap >= PACES["list"].period_s for gap in gaps)


async def test_without_a_shared_limiter_the_rate_is_broken() -> None:
    """The control: five clients of one key, each within the rate, ask in one instant."""
    clock = StoppedClock()
    script = Script(clock, GOOD)
    await asyncio.gather(*(client_of(script, clock).call(LIST) for _ in range(5)))
    assert script.asked_at[-1] - script.asked_at[0] < PACES["list"].period_s


async def test_a_longer_interval_that_the_service_names_is_kept() -> None:
    """Rates may change; the text of a 429 names the new one."""
    clock = StoppedClock()
    script = Script(clock, RATES[2][0], GOOD)
    client = client_of(script, clock)
    for _ in range(3):
        await client.call(LIST)
    assert script.asked_at[3] - script.asked_at[2] >= 4.5


async def test_background_searches_leave_room_for_a_rent() -> None:
    """A listing that used the minute up would make every failover wait for it."""
    clock = StoppedClock()
    limiter = Limiter(Pace(calls=10, period_s=60.0), clock)
    for _ in range(7):
        await limiter.turn(background=True)
    assert clock.seconds == 0.0
    await limiter.turn()
    assert clock.seconds == 0.0, "somebody waits for this one"
    await limiter.turn(background=True)
    assert clock.seconds >= 60.0
