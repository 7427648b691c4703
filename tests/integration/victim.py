"""Victims: processes that save, prune or restore in a depot, and die where a test says. Forked from one that has
imported everything, so that hundreds of deaths cost seconds.

They die at the n-th event by which Python tells that it is about to change or open a file (`sys.addaudithook`): between
any two steps of the drivers, and nothing is patched for it.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from dumont.control.thinning import Anchors
from dumont.control.upkeep import Order as Tidying
from dumont.control.upkeep import tidy
from dumont.model.commit import CommitId
from dumont.model.policy import Retention
from dumont.repository.cache import Cache
from dumont.repository.catalogue import Catalogue
from dumont.repository.hands import Blocking, Hand, Start, ThreadHand, Worker, fork_hands
from dumont.repository.keys import keys_of
from dumont.repository.progress import Progress
from dumont.repository.record import PACKS
from dumont.repository.repository import Repository, read_config, unlock
from dumont.repository.restoring.restore import restore, start_restoring
from dumont.repository.saving.intake import Intake, Job, Keep
from dumont.repository.saving.save import Draft, save, start_saving
from dumont.repository.upkeep.prune import LOCK, Terms, prune
from dumont.store.base import Data, Store
from dumont.store.directory import DirectoryStore
from tests.integration.depot import KEY, started

ROOT = Path(__file__).resolve().parents[2]
SMALL_PACK_BYTES = 2**16
_CHANGES = {"os.link", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.truncate"}
_READS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class Order(msgspec.Struct, frozen=True):
    """What a victim does in the depot `top`: `verb` is save, prune, prunes, tidy or restore. `path` is what is saved,
    or the target, or a file that ends the prunes. `seq` is the commit to restore, or the one that a tidy must keep.

    It dies at event `at` (0: never), counting reads of the store if `reads`. `forked` hands, or threads. `start` and
    `store` name what it works with. `report` is a file for what came of it.
    """

    verb: str
    top: str
    path: str = ""
    seq: int = 0
    at: int = 0
    reads: bool = False
    hands: int = 1
    forked: bool = False
    start: str = "usual"
    store: str = "directory"
    machine: str = "one"
    now_s: int = 0
    grace_s: int = 0
    pid: int = 0
    report: str = ""


class LateStore(DirectoryStore):
    """A wrong driver: packs count as stored at once and are read back from memory, and are stored when something is
    committed, or a prune is done."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        self._late: dict[str, bytes] = {}

    async def put(self, key: str, data: Data) -> None:
        if key.startswith(PACKS):
            self._late[key] = bytes(data)
            return
        await super().put(key, data)
        if key.startswith("state/commits/"):
            await self._catch_up()

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        found = [key async for key in super().keys(prefix)]
        for key in sorted([*found, *(late for late in self._late if late.startswith(prefix))]):
            yield key

    async def get(self, key: str) -> bytes:
        return self._late[key] if key in self._late else await super().get(key)

    async def delete(self, key: str) -> None:
        if key == LOCK:
            await self._catch_up()
        await super().delete(key)

    async def _catch_up(self) -> None:
        while self._late:
            await super().put(*self._late.popitem())


class ForestalledStore(DirectoryStore):
    """A right driver, with somebody beside it who has made each folder an instant before, and not flushed it yet."""

    def _put(self, path: Path, data: Data) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super()._put(path, data)


class CarelessStore(DirectoryStore):
    """A wrong driver: it flushes nothing."""

    flushes_files = False

    def _put(self, path: Path, data: Data) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / f".{path.name}").open("xb") as file:
            file.write(data)
            file.flush()
            if self.flushes_files:
                os.fsync(file.fileno())
        os.link(path.parent / f".{path.name}", path)
        os.unlink(path.parent / f".{path.name}")


class NamelessStore(CarelessStore):
    """A wrong driver: it flushes what it writes, and not the folders that have its name."""

    flushes_files = True


class Hoarder(Intake):
    """A wrong hand: it keeps the memory of every batch."""

    hoard: tuple[Any, ...] = ()

    def _keep(self, request: Keep) -> None:
        super()._keep(request)
        self.hoard = (*self.hoard, self._spare.pop())


def start_small(message: bytes, blocking: Blocking) -> Worker:
    """A save's worker that makes small packs."""
    return Intake(replace(msgspec.msgpack.decode(message, type=Job), pack_bytes=SMALL_PACK_BYTES), blocking)


def start_hoarding(message: bytes, blocking: Blocking) -> Worker:
    """A save's worker that needs as much memory as there is to save."""
    return Hoarder(msgspec.msgpack.decode(message, type=Job), blocking)


STARTS: dict[str, Start] = {"usual": start_saving, "small": start_small, "hoarding": start_hoarding}
STORES: dict[str, Callable[[Path], Store]] = {
    "directory": DirectoryStore, "late": LateStore, "careless": CarelessStore, "nameless": NamelessStore,
    "forestalled": ForestalledStore,
}  # fmt: skip


async def open_depot(top: Path, store: Store, machine: str) -> Repository:
    """The repository of the depot at `top`, as a machine of that name sees it."""
    config = await read_config(store)
    keys = keys_of(unlock([config.slot], KEY), config.repository)
    return Repository(store, keys, os.urandom, Cache(top / f"cache-{machine}", keys.cache_key))


def carry_out(order: Order) -> None:
    """Do it, and tell in the report: the commit's number, and bytes stored or fetched."""
    top = Path(order.top)
    start = start_restoring if order.verb == "restore" else STARTS[order.start]
    forked: Sequence[Hand] = ()
    if order.forked:
        forked = fork_hands(order.hands, start, lambda: STORES[order.store](top / "store"))
    if order.at:
        die_at(order.at, order.reads)
    told = asyncio.run(_work(order, start, forked))
    if order.report:
        Path(order.report).write_bytes(msgspec.json.encode(told))


async def _work(order: Order, start: Start, forked: Sequence[Hand]) -> tuple[int, int]:
    top, path = Path(order.top), Path(order.path)
    store = STORES[order.store](top / "store")
    repo = await open_depot(top, store, order.machine)
    if order.verb == "prunes":
        return await _prune_until(path, repo)
    if order.verb == "prune":
        pruned = await prune(repo, Terms(order.now_s or int(time.time()), order.grace_s, break_lock=True))
        return 0, pruned.deleted_bytes
    if order.verb == "tidy":
        rules = Tidying(Retention(1, 0, 0, 0), Anchors(CommitId(0, order.seq)), order.now_s, order.grace_s)
        return 0, (await tidy(repo, rules)).pruned.deleted_bytes
    remaining = iter(forked)
    async with started(lambda: next(remaining, None) or ThreadHand(start, store), order.hands) as hands:
        if order.verb == "save":
            saved = await save(repo, path, Draft(time.time_ns(), path=bytes(path)), hands, Progress())
            return saved.record.commit.id.seq, saved.stored_bytes
        record = await repo.commit(CommitId(0, order.seq))
        restored = await restore(repo, record, path, hands)
        return order.seq, restored.fetched_bytes


async def _prune_until(end: Path, repo: Repository) -> tuple[int, int]:
    """Prune on and on, until there is such a file; how often, and how many bytes were deleted."""
    count = deleted = 0
    while not end.exists():
        repo.catalogue, repo.learned = Catalogue(), frozenset()
        deleted += (await prune(repo, Terms(int(time.time()), 0))).deleted_bytes
        count += 1
    return count, deleted


def die_at(event: int, reads: bool) -> None:
    """Let this process be killed at that event from now on: just before something changes on the disk."""
    left = itertools.count(event - 1, -1)

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open":
            flags = arguments[2]
            counts = bool(flags & os.O_CREAT) or (reads and flags == _READS)
        else:
            counts = name in _CHANGES
        if counts and next(left) <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


class Victims:
    """The process they are forked from, seen from a test."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        command = [sys.executable, "-m", "tests.integration.victim"]
        self._process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def start(self, order: Order) -> int:
        """Begin; the pid, which is that of its process group too."""
        return self._ask(order)

    def wait(self, pid: int) -> int:
        """How it ended: its status, or minus the number of the signal."""
        return self._ask(Order("wait", "", pid=pid))

    def run(self, order: Order) -> int:
        """Begin, and wait."""
        return self.wait(self.start(order))

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=30)

    def _ask(self, order: Order) -> int:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(msgspec.json.encode(order).decode() + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextlib.contextmanager
def victims() -> Iterator[Victims]:
    """Ended with the block."""
    all_of_them = Victims()
    try:
        yield all_of_them
    finally:
        all_of_them.close()


def serve() -> None:
    """Fork a victim for each order on standard input."""
    for line in sys.stdin:
        order = msgspec.json.decode(line, type=Order)
        if order.verb == "wait":
            print(os.waitstatus_to_exitcode(os.waitpid(order.pid, 0)[1]), flush=True)
            continue
        pid = os.fork()
        if not pid:
            _die_or_exit(order)
        print(pid, flush=True)


def _die_or_exit(order: Order) -> None:
    """The life of a victim: it never returns."""
    status = 1
    try:
        os.setpgid(0, 0)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        carry_out(order)
        status = 0
    finally:  # a forked copy must not go on with what its parent was doing
        if status:
            traceback.print_exc()
        os._exit(status)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        carry_out(msgspec.json.decode(sys.argv[1], type=Order))
    else:
        serve()
