"""The catalogue: which chunk lies where in a repository, and which of them may be relied on."""

from collections.abc import Iterable

from dumont.repository.pack import Spot, spots
from dumont.repository.record import Pack


class Catalogue:
    """Chunks by id. Whoever holds the secret vouches for trusted packs; others are offers, to read from only.

    `doomed` are packs that a prune wants to delete.
    """

    def __init__(self) -> None:
        self.packs: dict[str, Pack] = {}
        self.doomed: set[str] = set()
        self.trusted_packs: set[str] = set()
        self._trusted: dict[bytes, Spot] = {}
        self._others: dict[bytes, list[Spot]] = {}

    def __len__(self) -> int:
        return len(self._trusted)

    def add(self, packs: Iterable[Pack], trusted: bool) -> None:
        """Learn of packs. Raises Corrupt for a record that contradicts itself.

        What an offer says of a pack that is trusted counts for nothing, whichever was learned first.
        """
        for pack in packs:
            if pack.name in self.trusted_packs:
                continue
            if trusted:
                self.trusted_packs.add(pack.name)
                self.packs[pack.name] = pack
            else:
                self.packs.setdefault(pack.name, pack)
            for chunk, spot in spots(pack):
                if trusted and self._trusted.setdefault(chunk, spot) is spot:
                    continue
                self._others.setdefault(chunk, []).append(spot)

    def relies_on(self, chunk: bytes) -> Pack | None:
        """The trusted pack that holds `chunk` and is not in `doomed`: a writer need not store it again."""
        spot = self._trusted.get(chunk)
        return spot[0] if spot and spot[0].name not in self.doomed else None

    def holding(self, chunks: set[bytes]) -> set[str]:
        """Names of all packs that may be relied on for any of `chunks`."""
        return {spot[0].name for spot in map(self._trusted.get, chunks) if spot} - self.doomed

    def find(self, chunk: bytes) -> Spot | None:
        """Where to read `chunk` first."""
        if spot := self._trusted.get(chunk):
            return spot
        others = self._others.get(chunk)
        return others[0] if others else None

    def places(self, chunk: bytes) -> list[Spot]:
        """Everywhere that `chunk` is said to lie, the most trustworthy first."""
        spot = self._trusted.get(chunk)
        return ([spot] if spot else []) + self._others.get(chunk, [])

    def ids(self) -> Iterable[bytes]:
        """The ids of all trusted chunks."""
        return self._trusted.keys()
