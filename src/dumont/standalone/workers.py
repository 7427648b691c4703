"""Workers of a verb: processes forked before anything else runs if the store is a directory, threads otherwise."""

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from dumont.errors import BadInput
from dumont.i18n import _
from dumont.repository.hands import ForkedHand, Hand, Start, ThreadHand, fork_hands
from dumont.standalone.sizes import size
from dumont.store.address import Address, Scheme
from dumont.store.base import Store
from dumont.store.directory import DirectoryStore

_HANDS_MAX = 8
_HAND_BYTES = 128 * 2**20
"""What one hand holds at most: its share of the interpreter, a pack, a few batches, open frames."""
_BUDGET_BYTES_MAX = 2**30


class Workers:
    """Hands for one coordinator. `share_store`: they use the coordinator's store and not one of their own."""

    def __init__(self, start: Start, count: int, forked: Sequence[ForkedHand]) -> None:
        self._start = start
        self._count = count
        self._forked = forked
        self.share_store = not forked

    @asynccontextmanager
    async def over(self, store: Store) -> AsyncIterator[Sequence[Hand]]:
        """The hands; they are ended with the block."""
        hands: Sequence[Hand] = self._forked or [ThreadHand(self._start, store) for _ in range(self._count)]
        try:
            yield hands
        finally:
            for forked in self._forked:
                forked.stop()  # all at once, and only then wait for each
            for hand in hands:
                await hand.close()


@contextmanager
def workers(start: Start, address: Address, budget_bytes: int | None = None) -> Iterator[Workers]:
    """Workers that begin with `start`, over the store at `address`. Enter this while the program has one thread.

    They use `budget_bytes` of memory at most, nearly. Raises BadInput when that is too little for one.
    """
    count = _count(budget_bytes)
    forked: list[ForkedHand] = []
    if address.scheme is Scheme.FILE:
        top = Path(os.path.abspath(address.path))
        forked = fork_hands(count, start, lambda: DirectoryStore(top))
    try:
        yield Workers(start, count, forked)
    finally:
        for hand in forked:
            hand.end()


def _count(budget_bytes: int | None) -> int:
    """One for each core that this process may use, as far as memory allows."""
    cores = min(_HANDS_MAX, len(os.sched_getaffinity(0)))
    if budget_bytes is None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        budget_bytes = max(_HAND_BYTES, min(_BUDGET_BYTES_MAX, memory // 4))
    if budget_bytes < _HAND_BYTES:
        raise BadInput(
            _("{budget} of memory is too little: {least} are needed").format(
                budget=size(budget_bytes), least=size(_HAND_BYTES)
            )
        )
    return min(cores, budget_bytes // _HAND_BYTES)
