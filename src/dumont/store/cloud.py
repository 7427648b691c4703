"""A store in a bucket: S3 and what speaks its language (R2, B2 and others), Google's, Azure's; over obstore."""

import random
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from dumont.clock import Clock, SystemClock
from dumont.errors import AlreadyStored, BadInput, NotStored, StoreError
from dumont.store.account import Account, read_account
from dumont.store.address import Address, Scheme
from dumont.store.base import Data
from dumont.store.patience import Again, Attempt, Patience, Persistence
from dumont.store.prefix import checked_key, checked_range
from dumont.store.verdict import Verdict, judge

if TYPE_CHECKING:  # obstore has these for type checkers only
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, RetryConfig, S3Config, S3Credential

_PAGE_KEYS = 1000
_REQUEST_S_MAX = 24 * 3600.0
_CONNECT_S_MAX = 10.0
_OUT_OF_RANGE = 416


def open_cloud(address: Address, environment: Mapping[str, str], patience: Patience | None = None) -> "CloudStore":
    """The store at a bucket's `address`, with keys and endpoint from `environment`. Asks the service nothing yet.

    Without `patience`, that of a program which nobody waits for: minutes.

    Raises BadInput when the environment lacks something. Whoever opens a repository there calls
    `require_conditional_writes` before the first write.
    """
    return CloudStore(read_account(address, environment), patience or Patience(), SystemClock(), random.Random())


class CloudStore:
    """The driver of the port `Store` over one bucket.

    Whatever may pass is repeated as long as `patience` lasts. A `put` whose first attempt is told that the key is taken
    raises AlreadyStored. Told so at a later attempt, it reads what is stored: an earlier attempt may have succeeded
    unheard, so equal bytes are success. Two writers of equal bytes may therefore both be told that they stored them.
    """

    def __init__(self, account: Account, patience: Patience, clock: Clock, rng: random.Random) -> None:
        self._account = account
        self._prefix = f"{account.address.prefix}/" if account.address.prefix else ""
        self._persistence = Persistence(patience, clock, rng)
        # Repeating is ours, for only then is it known whether a conditional write was sent before. A page of a list has
        # no such doubt and is repeated below, where its continuation is known.
        self._bucket = _bucket(account, _REQUEST_S_MAX, {"max_retries": 0})
        self._pages = _bucket(account, patience.attempt_s, _repeated(patience))
        self._bucket_exists = False

    async def put(self, key: str, data: Data) -> None:
        """Store `data`; the service answers when it is durable. Raises AlreadyStored, StoreError."""
        path = self._path(key)
        body = memoryview(data).cast("B")

        async def attempt(attempt: Attempt) -> None:
            try:
                await obstore.put_async(self._bucket, path, body, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                if judge(str(error), self._account).conflict:
                    raise Again(f"another write of {key} was under way: try again") from None
                if attempt.number == 1 or not await self._holds(attempt, key, body):
                    raise AlreadyStored(f"{key} is stored already") from None
            except (BaseError, OSError) as error:
                raise self._in_words(error) from None

        await self._persistence.insist(attempt, body.nbytes)

    async def get(self, key: str) -> bytes:
        """The object at `key`. Raises NotStored, StoreError."""
        self._path(key)
        return await self._persistence.insist(lambda attempt: self._read(attempt, key, None))

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`, fewer where the object ends before. Raises NotStored, StoreError."""
        checked_range(start, length)
        self._path(key)
        if length == 0:  # no HTTP range means nothing
            await self.size(key)
            return b""
        return await self._persistence.insist(lambda attempt: self._read(attempt, key, (start, start + length)), length)

    async def size(self, key: str) -> int:
        """The object's length in bytes. Raises NotStored, StoreError."""
        self._path(key)
        return await self._persistence.insist(lambda attempt: self._measure(key))

    async def exists(self, key: str) -> bool:
        """Whether there is an object at `key`. Raises StoreError when nobody can tell."""
        try:
            await self.size(key)
        except NotStored:
            return False
        return True

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        """Keys that begin with `prefix`, in order of names, whatever order the service has. Raises StoreError."""
        folder = (self._prefix + prefix).rpartition("/")[0]

        async def attempt(attempt: Attempt) -> list[str]:
            found = [key async for key in self._listed(attempt, folder) if key.startswith(prefix)]
            return sorted(found)

        for key in await self._persistence.insist(attempt):
            yield key

    async def delete(self, key: str) -> None:
        """Remove the object at `key`; harmless when there is none. Raises StoreError."""
        path = self._path(key)

        async def attempt(_: Attempt) -> None:
            try:
                await obstore.delete_async(self._bucket, path)
            except FileNotFoundError as error:
                if judge(str(error), self._account).no_bucket:
                    raise self._in_words(error) from None
            except (BaseError, OSError) as error:
                raise self._in_words(error) from None

        await self._persistence.insist(attempt)

    def _path(self, key: str) -> str:
        return self._prefix + checked_key(key)

    async def _read(self, attempt: Attempt, key: str, span: tuple[int, int] | None) -> bytes:
        """One attempt at an object, or at the bytes of it from `span[0]` up to before `span[1]`."""
        try:
            answer = await obstore.get_async(self._bucket, self._path(key), options={"range": span} if span else {})
            whole = answer.meta["size"]
            wanted = (span[0], min(span[1], whole)) if span else (0, whole)
            patience = self._persistence.patience
            attempt.allow(patience.attempt_s + patience.extra_s(wanted[1] - wanted[0]))
            body = await answer.bytes_async()
        except FileNotFoundError as error:
            raise await self._missing(key, error) from None
        except (BaseError, OSError) as error:
            verdict = self._judged(error)
            if span and verdict.status == _OUT_OF_RANGE and await self._measure(key) <= span[0]:
                return b""
            raise self._raised(verdict) from None
        if answer.range != wanted or len(body) != wanted[1] - wanted[0]:
            raise Again(f"{self._account.address} answered with {len(body)} bytes of {key} and not with {wanted}")
        return body.to_bytes()

    async def _measure(self, key: str) -> int:
        try:
            return (await obstore.head_async(self._bucket, self._path(key)))["size"]
        except FileNotFoundError as error:
            raise await self._missing(key, error) from None
        except (BaseError, OSError) as error:
            raise self._in_words(error) from None

    async def _holds(self, attempt: Attempt, key: str, body: memoryview) -> bool:
        """Whether what is stored at `key` is `body`. Raises Again when it vanished meanwhile."""
        try:
            if await self._measure(key) != body.nbytes:
                return False
            stored = await self._read(attempt, key, None)
        except NotStored:
            raise Again(f"{key} was removed while it was being stored") from None
        if len(stored) != body.nbytes:  # it was measured: somebody between us and the service cut it
            raise Again(f"{self._account.address} answered with {len(stored)} bytes of {key}")
        return stored == body

    async def _listed(self, attempt: Attempt, folder: str) -> AsyncIterator[str]:
        """Every key under `folder`, a path in the bucket, page by page, in the service's order."""
        pages = obstore.list(self._pages, folder or None, chunk_size=_PAGE_KEYS)
        try:
            attempt.allow(self._persistence.patience.total_s)
            async for page in pages:
                for about in page:
                    if about["path"].startswith(self._prefix):
                        yield about["path"].removeprefix(self._prefix)
                attempt.allow(self._persistence.patience.total_s)
        except (BaseError, OSError) as error:
            raise self._in_words(error) from None
        self._bucket_exists = True

    async def _missing(self, key: str, error: FileNotFoundError) -> StoreError:
        """What a 404 means: no such object, or no such bucket. An answer to HEAD has no body that would say which."""
        verdict = self._judged(error)
        if verdict.no_bucket:
            return self._raised(verdict)
        if verdict.code != "NoSuchKey" and not self._bucket_exists:
            try:
                await anext(aiter(obstore.list(self._pages, self._prefix or None, chunk_size=1)), None)
            except (BaseError, OSError) as trouble:
                return self._in_words(trouble)
            self._bucket_exists = True
        return NotStored(f"there is no {key} in {self._account.address}")

    def _judged(self, error: Exception) -> Verdict:
        return judge(str(error), self._account)

    def _in_words(self, error: Exception) -> StoreError:
        return self._raised(self._judged(error))

    def _raised(self, verdict: Verdict) -> StoreError:
        return Again(verdict.words) if verdict.passing else StoreError(verdict.words)


def _s3(account: Account, client: "ClientConfig", retries: "RetryConfig") -> S3Store:
    """One DELETE for one key, since not every service has DeleteObjects.

    Keys are given by a function: obstore would add a session token that it finds in the environment, which may belong
    to another service's keys.
    """
    config = dict(account.config)
    key, secret = config.pop("access_key_id", ""), config.pop("secret_access_key", "")
    token = config.pop("session_token", None)

    def keys() -> "S3Credential":
        return {"access_key_id": key, "secret_access_key": secret, "token": token, "expires_at": None}

    return S3Store(
        account.address.bucket,
        config=cast("S3Config", {**config, "disable_bulk_delete": True, "skip_signature": False}),
        client_options=client,
        retry_config=retries,
        credential_provider=keys if key else None,
    )


def _repeated(patience: Patience) -> "RetryConfig":
    return {
        "retry_timeout": timedelta(seconds=patience.total_s),
        "backoff": {
            "init_backoff": timedelta(seconds=patience.first_pause_s),
            "max_backoff": timedelta(seconds=patience.longest_pause_s),
        },
    }


def _bucket(account: Account, request_s: float, retries: "RetryConfig") -> S3Store | GCSStore | AzureStore:
    """obstore's client of the bucket. `request_s` bounds one request, body included. Raises BadInput."""
    client: ClientConfig = {
        "timeout": timedelta(seconds=request_s),
        "connect_timeout": timedelta(seconds=min(_CONNECT_S_MAX, request_s)),
        "allow_http": account.allow_http,
        "user_agent": "dumont",
    }
    bucket, config = account.address.bucket, account.config
    try:
        match account.address.scheme:
            case Scheme.GS:
                return GCSStore(bucket, config=cast("GCSConfig", config), client_options=client, retry_config=retries)
            case Scheme.AZ:
                return AzureStore(
                    bucket, config=cast("AzureConfig", config), client_options=client, retry_config=retries
                )
            case _:
                return _s3(account, client, retries)
    except (BaseError, ValueError) as error:
        why = str(error).partition("\n\nDebug source")[0]
        raise BadInput(f"{account.address} can't be used as the environment describes it: {why}") from None
