"""The probe: what kind of bytes a chunk holds, told from samples, and which codec pays at the pace of the link."""

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from dumont.repository.codec import LZ4, RAW, ZSTD, ZSTD_MORE, Coder, codec_of, floats, recipe

SAMPLE_BYTES = 8 * 2**10
_TRY_OTHER_EVERY = 48
_TRY_ANY_EVERY = 20 * _TRY_OTHER_EVERY
_WORTH = 0.97
_FLOATS_WORTH = 0.94
_REPEATS = 0.6
_BETTER = 0.02
_DOUBLE = 8
_NEAR = 1.5
_KEEP = 0.8
_LATELY = 5
_SEAL_S_PER_BYTE = 0.3e-9
"""AES-256-GCM on one core of an EPYC of 2021: what is smaller is sealed sooner, too."""
SOME_LINK = 6e-9
"""A link of which nothing is known, in seconds per byte: a disk or a fast network, shared."""
NEAR_LINK = 1e-9
"""A directory of this machine."""
_ACCELERATION = 16
"""On text and code: 0.65 of the bytes are left at 0.82 GB/s a core, where the acceleration 1 leaves 0.45 at 0.46."""

TEXT = "text"
DENSE = "dense"
"""Kinds of bytes: what repeats; what does not (compressed, encrypted, random). Floats are named by their width."""
FLOATS = {2: "floats2", 4: "floats4", 8: "floats8"}
KINDS = (TEXT, DENSE, *FLOATS.values())
RECIPES = {
    TEXT: (recipe(LZ4, _ACCELERATION), LZ4, ZSTD),
    DENSE: (RAW,),
} | {name: (floats(LZ4, width), floats(ZSTD, width)) for width, name in FLOATS.items()}
"""How a kind can be encoded, the fastest first. Never raw where something repeats: the repository is to be small."""
_START = {
    recipe(LZ4, _ACCELERATION): (1.2e-9, 0.62),
    LZ4: (2.1e-9, 0.42),
    ZSTD: (5.5e-9, 0.30),
} | {
    floats(coder, width): (0.45e-9, 0.76) if coder == LZ4 else (1.2e-9, 0.68)
    for coder in (LZ4, ZSTD)
    for width in FLOATS
}
"""Seconds per byte and the share of bytes left, as measured on one core of an EPYC of 2021."""


def kind_of(coder: Coder, chunk: memoryview) -> str:
    """One of KINDS, by SAMPLE_BYTES out of the middle: a wrong guess costs space or time, and never data."""
    start = max(0, len(chunk) - SAMPLE_BYTES) // 2 // 64 * 64
    sample = chunk[start : start + SAMPLE_BYTES]
    share = _share(coder, LZ4, sample)
    if share < _REPEATS:  # what repeats this much is no row of floats
        return TEXT
    best, share = (TEXT, share) if share < _WORTH else (DENSE, 1.0)
    for width, name in FLOATS.items():
        if width == _DOUBLE and best != DENSE:
            break
        if (found := _share(coder, floats(LZ4, width), sample)) < min(share - _BETTER, _FLOATS_WORTH):
            best, share = name, found
    return best


def _share(coder: Coder, codec: int, sample: memoryview) -> float:
    return len(coder.encode(codec, sample)) / len(sample)


class Compression(StrEnum):
    """What somebody wants to spend on making the repository smaller."""

    FASTEST = "fastest"
    AUTO = "auto"
    MAX = "max"


ALLOWED = {
    Compression.FASTEST: {kind: recipes[:1] for kind, recipes in RECIPES.items()},
    Compression.AUTO: RECIPES,
    Compression.MAX: {kind: recipes[-1:] for kind, recipes in RECIPES.items()} | {TEXT: (ZSTD_MORE,), DENSE: (ZSTD,)},
}
"""The recipes of each. With MAX what LZ4 finds no repeats in is shown to zstd too, whose entropy coder may find some:
at 1.3 GB/s a core it gives up on noise, which is then stored as it is."""


class _Measured:
    """What a recipe did lately: seconds per plain byte, and the share of bytes that is left."""

    def __init__(self, s_per_byte: float, share: float) -> None:
        self._s_per_byte = deque([s_per_byte] * _LATELY, _LATELY)
        self.share = share

    @property
    def s_per_byte(self) -> float:
        """The middle of what was measured lately: one frame that had to wait for something says nothing."""
        return _middle(self._s_per_byte)

    def note(self, seconds: float, plain: int, encoded: int) -> None:
        self._s_per_byte.append(seconds / plain)
        self.share = _KEEP * self.share + (1 - _KEEP) * encoded / plain


@dataclass
class Choice:
    """Which recipe to use for a kind of bytes, by what recipes and link were last measured to do.

    It starts with what was measured elsewhere, and goes on with what it is told. `link_s_per_byte`: what the link is
    taken for until the first pack is away. `compression`: which recipes there are to choose from.
    """

    link_s_per_byte: float = SOME_LINK
    compression: Compression = Compression.AUTO
    _link: deque[float] = field(default_factory=lambda: deque(maxlen=_LATELY))
    _measured: dict[int, _Measured] = field(default_factory=dict)
    _turns: dict[str, int] = field(default_factory=dict)

    def codec(self, kind: str) -> int:
        """The codec of `recipe`."""
        return codec_of(self.recipe(kind))

    def recipe(self, kind: str) -> int:
        """One of RECIPES for the next frame of that kind. Now and then another one is tried, to know it still."""
        recipes = ALLOWED[self.compression][kind]
        if len(recipes) == 1:
            return recipes[0]
        costs = {recipe: self._cost(recipe) for recipe in recipes}
        best = min(recipes, key=costs.__getitem__)
        turn = self._turns[kind] = self._turns.get(kind, 0) + 1
        if self._link and turn % _TRY_OTHER_EVERY == 0:
            near = _NEAR if turn % _TRY_ANY_EVERY else math.inf  # a wrong figure must not last
            others = [recipe for recipe in recipes if recipe != best and costs[recipe] < near * costs[best]]
            if others:  # they differ by so little that a new measurement could change the choice
                return others[turn // _TRY_OTHER_EVERY % len(others)]
        return best

    def note_frame(self, kind: str, recipe: int, seconds: float, plain: int, encoded: int) -> None:
        """Learn from an encoded frame of `plain` bytes (at least one). `seconds` of processor time, not of waiting."""
        if len(ALLOWED[self.compression][kind]) > 1:
            self._at(recipe).note(seconds, plain, encoded)

    def note_link(self, seconds: float, sealed: int) -> None:
        """Learn from a pack of `sealed` bytes that is stored."""
        self._link.append(seconds / sealed)

    def _cost(self, recipe: int) -> float:
        measured = self._at(recipe)
        link_s_per_byte = _middle(self._link) if self._link else self.link_s_per_byte
        return measured.s_per_byte + (_SEAL_S_PER_BYTE + link_s_per_byte) * measured.share

    def _at(self, recipe: int) -> _Measured:
        if recipe not in self._measured:
            self._measured[recipe] = _Measured(*_START[recipe])
        return self._measured[recipe]


def _middle(values: deque[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]
