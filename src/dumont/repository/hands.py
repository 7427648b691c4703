"""Hands: workers that read, hash, encode, seal and store beside each other, as processes or as threads.

Python runs one thread at a time, so small files, which cost more Python than bytes, want processes. Those are forked
before anything else runs, which is cheap and safe; where that is too late (inside an agent) threads do the same work.
"""

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import msgspec

from dumont import errors
from dumont.errors import DumontError
from dumont.store.base import ReadsInto, Store

_LENGTH = struct.Struct("<I")
_OK, _FAILED = b"+", b"-"
_ENDED = "a worker process ended; run the same command again to go on"
_T = TypeVar("_T")


class Blocking:
    """A store for a thread that may wait. `run` carries a coroutine out and returns what it returned; `begin`, where
    there is one, lets somebody else carry it out meanwhile."""

    def __init__(
        self,
        store: Store,
        run: "Callable[[Coroutine[Any, Any, Any]], Any]",
        begin: "Callable[[Coroutine[Any, Any, Any]], concurrent.futures.Future[Any]] | None" = None,
    ) -> None:
        self._store = store
        self._run = run
        self._begin = begin
        self._reads_into = store if isinstance(store, ReadsInto) else None

    def put(self, key: str, data: bytes | memoryview) -> None:
        """As the store's."""
        self._run(self._store.put(key, data))

    def begin_put(self, key: str, data: bytes | memoryview) -> "concurrent.futures.Future[float]":
        """As `put`, and does not wait for the end of it if somebody else can carry it out. `data` stays as it is
        until then. The future tells when that was, by `time.perf_counter`, or raises what the store raised."""
        if self._begin is not None:
            return self._begin(self._put(key, data))
        done: concurrent.futures.Future[float] = concurrent.futures.Future()
        done.set_result(self._run(self._put(key, data)))
        return done

    async def _put(self, key: str, data: bytes | memoryview) -> float:
        await self._store.put(key, data)
        return time.perf_counter()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """As the store's."""
        data: bytes = self._run(self._store.get_range(key, start, length))
        return data

    def get_into(self, key: str, start: int, room: memoryview) -> memoryview:
        """As `get_range` of as many bytes as `room` takes, in `room` where the store can read into memory."""
        if self._reads_into is not None:
            return room[: self._reads_into.read_into(key, start, room)]
        return memoryview(self.get_range(key, start, len(room)))

    @property
    def is_near(self) -> bool:
        """Whether many small reads cost no more than few large ones."""
        return self._reads_into is not None


class Worker(Protocol):
    """What a hand does with a message; the answer goes back. Raises DumontError, which goes back too.

    `end` lets go of what it holds open: a hand may be a thread of a program that lives on.
    """

    def handle(self, message: bytes) -> bytes: ...

    def end(self) -> None: ...


Start = Callable[[bytes, Blocking], Worker]
"""Makes a worker from the first message it is sent."""


class Hand(Protocol):
    """One worker, seen from its coordinator."""

    async def ask(self, message: bytes) -> bytes:
        """Send a message and wait for the answer to it. Several may be on the way; they are answered in order."""
        ...

    async def close(self) -> None:
        """End it, whatever it does."""
        ...


class ForkedHand:
    """A process. Make it while this program has one thread; until its first message it costs next to nothing."""

    def __init__(self, start: Start, open_store: Callable[[], Store]) -> None:
        assert threading.active_count() == 1, "fork before there are threads"
        self._own, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._own.close()
            _serve(theirs, start, open_store)
        theirs.close()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._reader: asyncio.Task[None] | None = None
        self._gone = False

    async def ask(self, message: bytes) -> bytes:
        if self._gone:
            raise DumontError(_ENDED)
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(sock=self._own)
            self._reader = asyncio.create_task(self._read(self._streams[0]))
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        self._streams[1].write(_LENGTH.pack(len(message)) + message)
        return await answer

    async def close(self) -> None:
        if self._reader:
            self._reader.cancel()
        self.end()
        if self._streams:
            self._streams[1].close()

    def stop(self) -> None:
        """Close what it listens to, which ends it when it is done with what it does."""
        with contextlib.suppress(OSError):
            self._own.shutdown(socket.SHUT_RDWR)  # to close it is not enough: hands forked later hold this end too

    def end(self) -> None:
        """Stop it, and wait until it has gone."""
        self.stop()
        self._own.close()
        if self._pid:
            os.waitpid(self._pid, 0)
            self._pid = 0

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                body = await reader.readexactly(length)
                answer = self._waiting.popleft()
                if answer.cancelled():
                    continue
                if body[:1] == _OK:
                    answer.set_result(body[1:])
                else:
                    answer.set_exception(_error(body[1:]))
        except (asyncio.IncompleteReadError, ConnectionError):
            self._gone = True
            for answer in self._waiting:
                if not answer.done():
                    answer.set_exception(DumontError(_ENDED))


class ThreadHand:
    """A thread of its own, over the store of the loop that made it."""

    def __init__(self, start: Start, store: Store) -> None:
        loop = asyncio.get_running_loop()
        self._under_way: set[concurrent.futures.Future[Any]] = set()

        def begin(work: Coroutine[Any, Any, Any]) -> "concurrent.futures.Future[Any]":
            future = asyncio.run_coroutine_threadsafe(work, loop)
            self._under_way.add(future)
            future.add_done_callback(self._under_way.discard)
            return future

        self._blocking = Blocking(store, lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(), begin)
        self._start = start
        self._worker: Worker | None = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "hand")

    async def ask(self, message: bytes) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._handle, message)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
        left = tuple(self._under_way)  # a save that failed or was given up waits for it no longer
        for future in left:
            future.cancel()
        await asyncio.gather(*(asyncio.wrap_future(future) for future in left), return_exceptions=True)
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()

    def _handle(self, message: bytes) -> bytes:
        if self._worker is None:
            self._worker = self._start(message, self._blocking)
            return b""
        return self._worker.handle(message)


def fork_hands(count: int, start: Start, open_store: Callable[[], Store]) -> list[ForkedHand]:
    """`count` processes. `open_store` opens the store anew in each."""
    sys.stdout.flush()
    sys.stderr.flush()
    return [ForkedHand(start, open_store) for _ in range(count)]


def _serve(own: socket.socket, start: Start, open_store: Callable[[], Store]) -> None:
    """The life of a forked process: it never returns."""
    status = 1
    try:
        gc.disable()  # a worker makes no cycles, and looking for them takes a part of its time
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever began this is interrupted too, and ends it
        with asyncio.Runner() as runner, own.makefile("rwb") as pipe:
            blocking = Blocking(open_store(), runner.run)
            worker: Worker | None = None
            while head := pipe.read(_LENGTH.size):
                message = pipe.read(_LENGTH.unpack(head)[0])
                try:
                    answer = _OK
                    if worker is None:
                        worker = start(message, blocking)
                    else:
                        answer += worker.handle(message)
                except DumontError as error:
                    answer = _FAILED + msgspec.msgpack.encode((type(error).__name__, str(error)))
                pipe.write(_LENGTH.pack(len(answer)) + answer)
                pipe.flush()
        status = 0
    except (KeyboardInterrupt, BrokenPipeError, ConnectionError):
        status = 130  # whoever began this was interrupted, and says so
    finally:  # a forked copy must not go on with what its parent was doing, whatever happened
        if status == 1:
            traceback.print_exc()
        os._exit(status)


def _error(body: bytes) -> DumontError:
    name, message = msgspec.msgpack.decode(body, type=tuple[str, str])
    kind = getattr(errors, name, DumontError)
    return kind(message) if isinstance(kind, type) and issubclass(kind, DumontError) else DumontError(message)
