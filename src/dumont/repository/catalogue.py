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
                if trusted:
                    first = self._trusted.setdefault(chunk, spot)
                    if first is spot:
                        continue
                    if first[0].name in self.doomed:  # this is the one to rely on, and to say so
                        self._trusted[chunk], spot = spot, first
                self._others.setdefault(chunk, []).append(spot)

    def relies_on(self, chunk: bytes) -> Pack | None:
        """A trusted pack that holds `chunk` and is not in `doomed`: a writer need not store it again."""
        spot = self._trusted.get(chunk)
        if spot and spot[0].name in self.doomed:
            spot = next((other for other in self._others.get(chunk, ()) if self._may_rely(other)), None)
        return spot[0] if spot else None

    def holding(self, chunks: set[bytes]) -> set[str]:
        """Names of packs that may be relied on, one for each of `chunks` that has any."""
        names = {spot[0].name for spot in map(self._trusted.get, chunks) if spot}
        if names.isdisjoint(self.doomed):
            return names
        # What was stored anew because a prune takes the first place must be claimed too: the next one might take it.
        return {pack.name for pack in map(self.relies_on, chunks) if pack}

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

    def _may_rely(self, spot: Spot) -> bool:
        """Whether that is a trusted pack's own word, and no offer's of a pack of the same name; and the pack stays."""
        name = spot[0].name
        return name in self.trusted_packs and self.packs[name] is spot[0] and name not in self.doomed
