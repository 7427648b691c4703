"""Calls to Vast.ai: paced, repeated only where that is safe, and read for what they say rather than for their status.

ProviderError
├── Refusal        the service answered no; it did nothing
│   └── KeyRefused its answer says that the key is not good; never that a machine is gone
├── Unanswered     no answer that can be read: a call that changes something may have been carried out
└── TooFrequent    every attempt was refused for its rate; it did nothing
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any

import httpx

from dumont.clock import Clock
from dumont.errors import ProviderError
from dumont.provider.vast.limiter import Limiters

ATTEMPTS_MAX = 5
UNANSWERED_MAX = 4
"""So many attempts get no answer before whoever asks is told: a sweep has other providers to look at."""
WAIT_S_MAX = 60.0
TIMEOUT_S = 20.0
BACKOFF_S = 0.5
BACKOFF_GROWTH = 2.0
THRESHOLD = re.compile(r"threshold=([0-9]+(?:\.[0-9]+)?)")

Content = dict[str, Any]


class Refusal(ProviderError):
    """Vast.ai refused a call and did nothing. `content` is its whole answer."""

    def __init__(self, message: str, *, status: int, code: str, content: Content) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.content = content


class KeyRefused(Refusal):
    """The API key is unknown, revoked, or lacks a permission. Make one at Vast.ai, Keys. Says nothing of machines."""


class Unanswered(ProviderError):
    """No readable answer. Whether the call was carried out is unknown: look at what is listed before repeating it."""


class TooFrequent(ProviderError):
    """Refused for its rate as often as we asked. Nothing was done; try again later."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request. `repeats`: carrying it out twice does no harm, so it is sent again when no answer came.

    `background`: it leaves a part of the endpoint's rate to others, which somebody waits for.
    """

    endpoint: str
    method: str
    path: str
    body: Content | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    repeats: bool = True
    background: bool = False


class Client:
    """The account's door: one key, one base URL, one limiter for each endpoint."""

    def __init__(self, key: str, url: str, http: httpx.AsyncClient, limiters: Limiters, chance: "Chance") -> None:
        self.url = url.rstrip("/")
        self._key = key
        self._http = http
        self._limiters = limiters
        self._clock = chance.clock
        self._rng = chance.rng

    async def call(self, call: Call) -> Content:
        """The answer's object, numbers as Decimal. Raises Refusal, KeyRefused, Unanswered, TooFrequent.

        A refusal for the rate did nothing, so it is always tried again, at most 5 times and a minute at a time.
        """
        limiter = self._limiters.of(call.endpoint)
        problem: ProviderError = Unanswered(f"Vast.ai was not asked ({call.endpoint}).")
        unanswered = 0
        for attempt in range(ATTEMPTS_MAX):
            departure = await limiter.turn(background=call.background)
            try:
                response = await self._send(call)
            except httpx.HTTPError as error:
                problem = Unanswered(f"Vast.ai gave no answer to {call.endpoint}: {type(error).__name__} {error}.")
                problem.__cause__ = error
            else:
                limiter.answered(departure)
                if response.status_code == 429 or _is_front_door(response):
                    problem = self._put_off(call, response, attempt)
                    continue
                if response.status_code < 500:
                    return understood(call, response)
                problem = Unanswered(f"Vast.ai answered {call.endpoint} with {response.status_code}.")
            unanswered += 1
            if not call.repeats or unanswered == UNANSWERED_MAX:
                break
            limiter.put_off(self._backoff_s(attempt))
        raise problem

    def has_room(self, endpoint: str) -> bool:
        """Whether a background call to that endpoint could leave at once."""
        return self._limiters.of(endpoint).has_room(background=True)

    async def text(self, url: str) -> str | None:
        """What is at an address that needs no key; None while there is nothing yet. Raises Unanswered."""
        try:
            response = await self._http.get(url, timeout=TIMEOUT_S)
        except httpx.HTTPError as error:
            raise Unanswered(f"The log could not be fetched: {type(error).__name__}. Try again.") from error
        return response.text if response.status_code == 200 else None

    async def _send(self, call: Call) -> httpx.Response:
        params = {name: _parameter(value) for name, value in call.params.items()}
        body = call.body if call.body is not None or call.method == "GET" else {}
        return await self._http.request(
            call.method,
            self.url + call.path,
            params=params,
            content=None if body is None else json.dumps(body),
            headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
            timeout=TIMEOUT_S,
        )

    def _put_off(self, call: Call, response: httpx.Response, attempt: int) -> ProviderError:
        """Hold the whole endpoint back for as long as the answer says. Raises TooFrequent when that is too long."""
        content = _parsed(response)
        if content.get("error") == "search_quota_exceeded":
            until = _reset(response)
            raise TooFrequent(f"The day's quota of Vast.ai searches is used up{until}. Machines are not affected.")
        limiter = self._limiters.of(call.endpoint)
        threshold = THRESHOLD.search(response.text)
        if threshold is not None:
            limiter.slow_down(float(threshold[1]))
        told = (_seconds(response.headers.get("Retry-After")), _seconds(content.get("retry_after")))
        wait_s = next((seconds for seconds in told if seconds is not None), None)
        if wait_s is None:
            wait_s = float(threshold[1]) if threshold is not None else self._backoff_s(attempt)
        if wait_s > WAIT_S_MAX:
            limiter.put_off(WAIT_S_MAX)
            raise TooFrequent(f"Vast.ai wants {call.endpoint} to wait for {wait_s:.0f} s. Nothing was done; try later.")
        limiter.put_off(wait_s)
        return TooFrequent(f"Vast.ai refused {call.endpoint} for its rate {attempt + 1} times. Nothing was done.")

    def _backoff_s(self, attempt: int) -> float:
        return BACKOFF_S * BACKOFF_GROWTH**attempt * self._rng.uniform(0.5, 1.5)


@dataclass(frozen=True)
class Chance:
    """Time and chance of a client."""

    clock: Clock
    rng: Random


def understood(call: Call, response: httpx.Response) -> Content:
    """What a response says. A 200 may be a refusal. Raises Refusal, KeyRefused or Unanswered."""
    content = _parsed(response)
    status = response.status_code
    if response.is_success:
        if not content:
            raise Unanswered(f"Vast.ai answered {call.endpoint} with {status} and something that is no object.")
        if content.get("success") is not False:
            return content
    code = str(content.get("error") or "")
    words = str(content.get("msg") or content.get("message") or content.get("detail") or code or "without a reason")
    message = f"Vast.ai refused {call.endpoint} ({status} {code}): {words}"
    if _is_about_the_key(status, code, content):
        raise KeyRefused(
            f"{message} The API key is unknown, revoked or lacks a permission: make one at Vast.ai, Keys.",
            status=status,
            code=code,
            content=content,
        )
    if not content:
        raise Unanswered(f"Vast.ai answered {call.endpoint} with {status} and nothing readable.")
    raise Refusal(message, status=status, code=code, content=content)


def _is_front_door(response: httpx.Response) -> bool:
    """Under bursts the proxy before the service answers with a page for people."""
    return response.status_code == 403 and "html" in response.headers.get("Content-Type", "")


def _is_about_the_key(status: int, code: str, content: Content) -> bool:
    """`auth_error` also comes with 404. Other 401 and 403 are about permissions."""
    return code == "auth_error" or status == 401 or (status == 403 and code != "invalid_args")


def _parsed(response: httpx.Response) -> Content:
    """The object in a response, or {}. Lists are wrapped, as the SSH keys come as one."""
    try:
        content = json.loads(response.text, parse_float=Decimal)
    except ValueError:
        return {}
    if isinstance(content, list):
        return {"list": content}
    return content if isinstance(content, dict) else {}


def _parameter(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _reset(response: httpx.Response) -> str:
    seconds = _seconds(response.headers.get("X-RateLimit-Reset"))
    return f" until {datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC" if seconds is not None else ""
