"""Packs on their way to the store: while one is carried, the next is filled, so that neither line nor hand waits."""

import concurrent.futures
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dumont.repository.hands import Blocking
from dumont.repository.pack import PackBuilder
from dumont.repository.record import Pack, pack_key
from dumont.repository.room import Room

FIRST_BYTES = 4 * 2**20
"""How large the first pack is over a line, which has nothing to carry while that is being filled."""

NoteLink = Callable[[float, int], None]
"""Hears how many seconds the line took for how many bytes."""


@dataclass
class Sending:
    """Carries one pack at a time for one hand. `note_link` hears of each that arrived.

    Over a store that is at hand nothing is gained by it: there the put is done when it begins, and one room is enough.
    """

    blocking: Blocking
    builder: PackBuilder
    note_link: NoteLink
    _stored: list[Pack] = field(default_factory=list)
    _spare: Room = field(default_factory=Room)
    _under_way: "tuple[Pack, float, concurrent.futures.Future[float]] | None" = None

    def __post_init__(self) -> None:
        self._whole_bytes = self.builder.pack_bytes
        if not self.blocking.is_near:
            self.builder.pack_bytes = min(FIRST_BYTES, self._whole_bytes)

    def send(self) -> None:
        """Begin to store the builder's pack once the one before it is stored. Raises what storing that one raised."""
        pack, body = self.builder.close()
        self.builder.pack_bytes = self._whole_bytes
        self.settle()
        began = time.perf_counter()
        self._under_way = pack, began, self.blocking.begin_put(pack_key(pack.name), body)
        if self._under_way[2].done():
            self.settle()
        else:
            self._spare = self.builder.change_room(self._spare)

    def settle(self) -> None:
        """Wait until nothing is under way. Raises what storing it raised."""
        if self._under_way is None:
            return
        (pack, began, future), self._under_way = self._under_way, None
        ended = future.result()
        self.note_link(ended - began, pack.size)
        self._stored.append(pack)

    def taken(self) -> list[Pack]:
        """Packs that were stored since the last call."""
        stored, self._stored = self._stored, []
        return stored
