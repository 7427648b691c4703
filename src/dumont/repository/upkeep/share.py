"""The share of each pack: how much of it is needed, when each chunk is kept where most else is needed too."""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field

from dumont.repository.catalogue import Catalogue
from dumont.repository.pack import spots


@dataclass
class Shares:
    """`live` and `plain`: bytes of plain chunks by pack's name, those needed and all.

    `keeper`: the trusted pack that keeps a chunk.
    """

    live: dict[str, int] = field(default_factory=dict)
    plain: dict[str, int] = field(default_factory=dict)
    keeper: dict[bytes, str] = field(default_factory=dict)

    def of(self, name: str) -> float:
        """Between 0 and 1. A pack of nothing but empty chunks counts by whether any is needed."""
        plain = self.plain[name]
        return self.live[name] / plain if plain else float(self.live[name] > 0)


def shares(catalogue: Catalogue, needed: Set[bytes], present: Set[str]) -> Shares:
    """What is needed of each pack of `present`. Costs O(chunks).

    One trusted place is enough for a chunk. Where there are only offers, nobody has seen yet which of them is good: all
    of them are needed.
    """
    found = Shares()
    weights: dict[str, int] = {}
    for name, pack in catalogue.packs.items():
        if name in present:
            held = [(chunk, spot[3]) for chunk, spot in spots(pack)]
            found.plain[name] = sum(length or 1 for _, length in held)
            weights[name] = sum(length or 1 for chunk, length in held if chunk in needed)
            found.live[name] = 0
    by_share = sorted(weights, key=lambda name: (-weights[name] / (found.plain[name] or 1), name))
    for name in by_share:
        if name in catalogue.trusted_packs:
            for chunk, spot in spots(catalogue.packs[name]):
                if chunk in needed and chunk not in found.keeper:
                    found.keeper[chunk] = name
                    found.live[name] += spot[3] or 1
    for chunk in needed:
        if chunk not in found.keeper:
            offers = {spot[0].name: spot[3] or 1 for spot in catalogue.places(chunk) if spot[0].name in present}
            for name, length in offers.items():
                found.live[name] += length
    return found


def rescued(catalogue: Catalogue, needed: Iterable[bytes], doomed: Set[str], present: Set[str]) -> set[str]:
    """Which of the `doomed` packs must stay: those with a needed chunk that no trusted pack holds which stays."""
    stay: set[str] = set()
    for chunk in needed:
        names = {spot[0].name for spot in catalogue.places(chunk)}
        if names.isdisjoint(doomed):
            continue
        if not any(name in catalogue.trusted_packs and name in present and name not in doomed for name in names):
            stay |= names & doomed
    return stay


def lacking(catalogue: Catalogue, needed: Iterable[bytes], present: Set[str]) -> list[bytes]:
    """The needed chunks that no pack of `present` holds."""
    return [chunk for chunk in needed if not any(spot[0].name in present for spot in catalogue.places(chunk))]
