"""The whole life of a repository over a real S3 server, with and without a network that loses, cuts and repeats."""

import asyncio
import os
import random
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dumont.clock import SystemClock
from dumont.model.commit import CommitId
from dumont.repository.hands import ThreadHand
from dumont.repository.keys import Keys, wrap_with_key
from dumont.repository.progress import Progress
from dumont.repository.record import CommitRecord
from dumont.repository.repository import Repository, create_repository
from dumont.repository.restoring.restore import restore, start_restoring
from dumont.repository.saving.save import Draft, Saved, save
from dumont.repository.upkeep.forget import forget
from dumont.repository.upkeep.prune import Terms, prune
from dumont.repository.upkeep.verify import Terms as Checks
from dumont.repository.upkeep.verify import verify
from dumont.store.account import read_account
from dumont.store.address import parse
from dumont.store.cloud import CloudStore
from dumont.store.patience import Patience
from tests.integration.archivist import scanned
from tests.integration.bad_proxy import BadProxy, answering, between, cut_body, lost_response, reset, short_body
from tests.integration.depot import KEY, settle, started
from tests.integration.s3_server import BUCKET, S3Server
from tests.integration.victim import start_small

PATIENCE = Patience(attempt_s=10.0, total_s=60.0, first_pause_s=0.01, longest_pause_s=0.05)
SLOW_DOWN = answering("503 Slow Down", "SlowDown", "Please reduce your request rate.")
BROKEN = answering("500 Internal Server Error", "InternalError", "We encountered an internal error.")
FAULTS = [
    ("PUT", SLOW_DOWN), ("PUT", lost_response), ("PUT", reset), ("PUT", BROKEN),
    ("GET", SLOW_DOWN), ("GET", cut_body), ("GET", short_body), ("GET", reset),
]  # fmt: skip


@dataclass
class Bucket:
    """A repository under a prefix of its own. `port`: through which it is reached, 0 for the server's own."""

    server: S3Server
    prefix: str
    keys: Keys
    port: int = 0

    def open(self) -> Repository:
        """As a machine that knows nothing yet."""
        return Repository(bucket_store(self.server, self.prefix, self.port), self.keys, os.urandom)

    async def save(self, source: Path) -> Saved:
        repo = self.open()
        async with started(lambda: ThreadHand(start_small, repo.store), 2) as hands:
            return await save(repo, source, Draft(time.time_ns(), path=bytes(source)), hands, Progress())

    async def restore(self, record: CommitRecord, target: Path) -> bytes:
        """The root of what came back."""
        repo = self.open()
        async with started(lambda: ThreadHand(start_restoring, repo.store), 2) as hands:
            await restore(repo, record, target, hands)
        return root(target)


def bucket_store(server: S3Server, prefix: str, port: int) -> CloudStore:
    account = read_account(parse(f"s3://{BUCKET}/{prefix}"), server.environment("owner", port))
    return CloudStore(account, PATIENCE, SystemClock(), random.Random(7))


def root(tree: Path) -> bytes:
    return scanned(tree, KEY).root()


@pytest.fixture
async def proxy(s3_server: S3Server) -> AsyncIterator[BadProxy]:
    async with between(s3_server.port) as proxy:
        yield proxy


@pytest.fixture
async def bucket(s3_server: S3Server) -> Bucket:
    prefix = uuid.uuid4().hex
    store = bucket_store(s3_server, prefix, 0)
    repo = await create_repository(store, lambda secret, salt: wrap_with_key(secret, KEY, salt), os.urandom)
    return Bucket(s3_server, prefix, repo.keys)


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    for number in range(4):
        (source / f"large-{number}").write_bytes(os.urandom(1_500_000))
    for number in range(30):
        (source / "deep" / f"{number}").write_bytes(os.urandom(2000 * number))
    settle()
    return source


def change(source: Path) -> None:
    (source / "large-1").write_bytes(os.urandom(1_500_000))
    (source / "deep" / "3").write_bytes(b"changed")
    (source / "deep" / "4").unlink()
    settle()


async def live(bucket: Bucket, source: Path, top: Path) -> None:
    """Save, change, save, restore both, check, forget, prune, restore, check."""
    one, first = root(source), await bucket.save(source)
    change(source)
    two, second = root(source), await bucket.save(source)
    assert (first.record.commit.id.seq, second.record.commit.id.seq) == (1, 2)
    assert 1_500_000 <= second.new_bytes < 1_600_000
    assert await bucket.restore(first.record, top / "one") == one
    assert await bucket.restore(second.record, top / "two") == two
    assert (await verify(bucket.open(), Checks(read_data=True))).is_good
    await forget(bucket.open(), [CommitId(0, 1)])
    pruned = await prune(bucket.open(), Terms(int(time.time()), 0))
    assert pruned.deleted_bytes > 1_500_000
    assert await bucket.restore(second.record, top / "again") == two
    verdict = await verify(bucket.open(), Checks(read_data=True))
    assert verdict.is_good and verdict.commits == 1
    assert verdict.leftovers == []


async def test_the_life_of_a_repository(bucket: Bucket, source: Path, tmp_path: Path) -> None:
    """On a server that is none of ours."""
    await live(bucket, source, tmp_path)


async def test_the_life_of_a_repository_behind_a_bad_network(
    bucket: Bucket, source: Path, tmp_path: Path, proxy: BadProxy
) -> None:
    """Throttled, cut, reset, answered with too little, or done and not answered: the result is the same."""
    bucket.port = proxy.port
    rng = random.Random(7)
    stop = asyncio.Event()
    met = 0

    async def misbehave() -> None:
        nonlocal met
        while not stop.is_set():
            seen = len(proxy.seen)
            if not proxy.faults:
                proxy.fail(*rng.choice(FAULTS))
                met += 1
            while len(proxy.seen) < seen + 3 and not stop.is_set():
                await asyncio.sleep(0.001)

    task = asyncio.create_task(misbehave())
    try:
        await live(bucket, source, tmp_path)
    finally:
        stop.set()
        await task
    assert met > 2 * len(FAULTS), "every kind of fault, more than once"


async def test_two_writers_that_race_for_a_number_both_come_through(
    bucket: Bucket, source: Path, tmp_path: Path
) -> None:
    """A conditional put decides, on the server; who loses takes the next number."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_bytes(os.urandom(300_000))
    settle()
    await bucket.save(source)
    for turn in range(3):
        (source / "turn").write_bytes(b"%d" % turn)
        (other / "turn").write_bytes(b"%d" % turn)
        settle()
        one, two = await asyncio.gather(bucket.save(source), bucket.save(other))
        seqs = {one.record.commit.id.seq, two.record.commit.id.seq}
        assert seqs == {2 * turn + 2, 2 * turn + 3}
        assert await bucket.restore(one.record, tmp_path / f"one-{turn}") == root(source)
        assert await bucket.restore(two.record, tmp_path / f"two-{turn}") == root(other)
    assert (await verify(bucket.open(), Checks(read_data=True))).is_good
