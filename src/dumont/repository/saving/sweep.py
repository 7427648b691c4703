"""A sweep: all folders of a tree of which nothing is remembered, read whole by the hands, from the top down.

A folder's answer tells which lie in it, and those are asked for next. What is out of the ordinary is looked at here,
name by name, and its files are left for the gathering.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from dumont.model.commit import Entry
from dumont.repository.hands import Hand
from dumont.repository.saving.gathering import Gathering, together
from dumont.repository.saving.sieve import Sieve
from dumont.repository.saving.survey import Folder, look_over
from dumont.repository.saving.walk import Mark, look_into
from dumont.repository.saving.whole import FoldersRead, ReadFolders, Whole
from dumont.snapshot.tree import TOP, join

_FOLDERS_MAX = 32
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FoldersRead).decode
_decode_names = msgspec.msgpack.Decoder(list[bytes]).decode
_decode_marks = msgspec.msgpack.Decoder(list[Mark | None]).decode
_decode_entries = msgspec.msgpack.Decoder(list[Entry | None]).decode


@dataclass
class Sweep:
    """Fills the gathering's survey. `left`: files that are still to be read, as a survey yields them. `sieve`: as the
    hands have it.

    `_waiting`: paths, the next one last. `_under_way`: requests that were not answered yet, by any hand.
    """

    gathering: Gathering
    sieve: Sieve | None = None
    left: list[tuple[Folder, int, os.stat_result]] = field(default_factory=list)
    _waiting: list[bytes] = field(default_factory=lambda: [TOP])
    _under_way: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, hands: Sequence[Hand]) -> None:
        """Read it all. Raises what a hand raised, and OSError when the top itself can't be read."""
        await together([self._drive(hand, len(hands)) for hand in hands])

    async def _drive(self, hand: Hand, hands: int) -> None:
        """Each hand has one request before it while the answer to another is looked at."""
        reading: tuple[list[bytes], asyncio.Task[bytes]] | None = None
        ahead: tuple[list[bytes], asyncio.Task[bytes]] | None = None
        try:
            while True:
                ahead = self._ask(hand, hands)
                if reading is not None:
                    await self._take(hand, reading[0], await reading[1])
                elif ahead is None:
                    if not self._under_way:
                        return
                    self._news.clear()
                    await self._news.wait()
                reading, ahead = ahead, None
        finally:
            asked = [request[1] for request in (reading, ahead) if request]
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)  # or what the second raised is told as a bug

    def _ask(self, hand: Hand, hands: int) -> "tuple[list[bytes], asyncio.Task[bytes]] | None":
        if not self._waiting:
            return None
        share = -(-len(self._waiting) // (2 * hands))
        paths = [self._waiting.pop() for _ in range(min(share, _FOLDERS_MAX))]
        self._under_way += 1
        request = ReadFolders(paths, self.gathering.found.racy_from_ns)
        return paths, asyncio.create_task(hand.ask(_encode(request)))

    async def _take(self, hand: Hand, paths: list[bytes], answer: bytes) -> None:
        read = _decode(answer)
        count = len(read.folders)
        below: list[bytes] = []
        for path, whole in zip(paths[:count], read.folders, strict=True):
            below += self._look(path) if whole is None else self._whole(path, whole)
        self._waiting += reversed(paths[count:])
        self._waiting += reversed(below)
        self._under_way -= 1
        self._news.set()
        self.gathering.found.chunks.update(await self.gathering.keep(hand, read.ids))

    def _whole(self, path: bytes, whole: Whole) -> list[bytes]:
        """Take a folder in; the paths of those that lie in it."""
        found, progress = self.gathering.found, self.gathering.progress
        found.files += whole.files
        found.plain_bytes += whole.plain_bytes
        progress.done_files += whole.files
        progress.done_bytes += whole.plain_bytes
        if not whole.folders:
            found.folders[path] = Folder(path, whole.own, whole=whole)
            return []
        names, marks, entries = _decode_names(whole.names), _decode_marks(whole.marks), _decode_entries(whole.entries)
        found.folders[path] = Folder(path, whole.own, names, marks, entries, folders=whole.folders)
        return [join(path, names[number]) for number in whole.folders]

    def _look(self, path: bytes) -> list[bytes]:
        """As `_whole`, of a folder that is out of the ordinary or has changed or gone."""
        place, found = self.gathering.place, self.gathering.found
        sight = look_into(place, path, self.sieve)
        self.left += look_over(place, sight, None, found)
        return [join(path, sight.names[number]) for number in sight.folders]
