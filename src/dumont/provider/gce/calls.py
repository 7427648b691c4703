"""Calls to Google's API: the blocking client in threads, each call with a deadline, repeated while it may pass."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from random import Random
from typing import Any, TypeVar

from google.api_core.client_options import ClientOptions
from google.cloud import compute_v1

from dumont.clock import Clock
from dumont.errors import ProviderError
from dumont.provider.gce.account import Account
from dumont.provider.gce.verdict import FAILURES, Passing, judge

T = TypeVar("T")
THREADS = 16
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 20.0
SPARE_S = 5.0
"""How much longer than its HTTP deadline a call may take before its thread is given up."""


class Clients(threading.local):
    """One thread's clients: their HTTP sessions are not meant to be shared between threads.

    Every one gets the endpoint. What the library makes by itself would not (contract §6, trap 1): so only `*_unary`
    calls are made, and operations are asked for with `operations`.
    """

    def __init__(self, account: Account, opened: list[Any]) -> None:
        self._credentials = account.credentials
        self._options = ClientOptions(api_endpoint=account.api_endpoint)
        self._opened = opened

    def _open(self, kind: Callable[..., T]) -> T:
        client: Any = kind(credentials=self._credentials, client_options=self._options)
        self._opened.append(client.transport)
        return client  # type: ignore[no-any-return]

    @cached_property
    def instances(self) -> compute_v1.InstancesClient:
        return self._open(compute_v1.InstancesClient)

    @cached_property
    def operations(self) -> compute_v1.ZoneOperationsClient:
        return self._open(compute_v1.ZoneOperationsClient)

    @cached_property
    def global_operations(self) -> compute_v1.GlobalOperationsClient:
        return self._open(compute_v1.GlobalOperationsClient)

    @cached_property
    def disks(self) -> compute_v1.DisksClient:
        return self._open(compute_v1.DisksClient)

    @cached_property
    def addresses(self) -> compute_v1.AddressesClient:
        return self._open(compute_v1.AddressesClient)

    @cached_property
    def zones(self) -> compute_v1.ZonesClient:
        return self._open(compute_v1.ZonesClient)

    @cached_property
    def regions(self) -> compute_v1.RegionsClient:
        return self._open(compute_v1.RegionsClient)

    @cached_property
    def projects(self) -> compute_v1.ProjectsClient:
        return self._open(compute_v1.ProjectsClient)

    @cached_property
    def firewalls(self) -> compute_v1.FirewallsClient:
        return self._open(compute_v1.FirewallsClient)

    @cached_property
    def images(self) -> compute_v1.ImagesClient:
        return self._open(compute_v1.ImagesClient)

    @cached_property
    def advice(self) -> compute_v1.AdviceClient:
        return self._open(compute_v1.AdviceClient)


class Calls:
    """Carries calls out. Only what may be repeated is given to it: reads, and changes that carry a requestId."""

    def __init__(self, account: Account, clock: Clock, rng: Random) -> None:
        self._account = account
        self._clock = clock
        self._rng = rng
        self._opened: list[Any] = []
        self._clients = Clients(account, self._opened)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="gce")

    async def ask(self, what: str, call: Callable[[Clients, float], T]) -> T:
        """What `call` returns, which gets the clients and its HTTP deadline in seconds, and must not retry itself.

        Raises what `verdict` makes of an error; ProviderError, its outcome unknown, once patience is over.
        """
        account, clock = self._account, self._clock
        begun, attempts = clock.monotonic(), 0
        while True:
            attempts += 1
            try:
                return await self._once(what, call)
            except Passing as error:
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 30)) * self._rng.uniform(0.5, 1)
                if clock.monotonic() - begun + pause_s >= account.patience_s:
                    raise ProviderError(f"{error} (given up after {attempts} attempts)") from error
            await clock.sleep(pause_s)

    async def list_all(self, what: str, call: Callable[[Clients, float], Any]) -> list[Any]:
        """The resources on all pages of a list; `call` returns the library's pager. Raises as `ask` does."""
        pages = await self.ask(what, lambda clients, seconds: list(call(clients, seconds).pages))
        return [resource for page in pages for resource in page.items]

    async def _once(self, what: str, call: Callable[[Clients, float], T]) -> T:
        attempt_s = self._account.attempt_s
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(attempt_s + SPARE_S):
                answer = await loop.run_in_executor(self._threads, lambda: call(self._clients, attempt_s))
        except TimeoutError as error:
            raise Passing(f"{what}: Google did not answer within {attempt_s:.0f} s") from error
        except FAILURES as error:
            raise judge(what, error) from error
        if _is_blank(answer):
            raise Passing(f"{what}: Google's answer was empty")
        return answer

    def close(self) -> None:
        """Let threads and connections go."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for transport in self._opened:
            transport.close()


def _is_blank(answer: Any) -> bool:
    """Whether it, or one of its pages, is `{}`: what Google answers has a kind, and a list without it is no list."""
    return any(getattr(each, "kind", "known") == "" for each in (answer if isinstance(answer, list) else [answer]))
