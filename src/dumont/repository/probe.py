"""The probe: what kind of bytes a chunk holds, told from samples, and which codec pays at the pace of the link."""

from dataclasses import dataclass, field

from dumont.repository.codec import LZ4, RAW, ZSTD, Coder, floats

SAMPLE_BYTES = 8 * 2**10
_TRY_OTHER_EVERY = 48
_WORTH = 0.97
_FLOATS_WORTH = 0.94
_REPEATS = 0.6
_BETTER = 0.02
_DOUBLE = 8
_NEAR = 1.5
_KEEP = 0.8

TEXT = "text"
DENSE = "dense"
"""Kinds of bytes: what repeats; what does not (compressed, encrypted, random). Floats are named by their width."""
FLOATS = {2: "floats2", 4: "floats4", 8: "floats8"}
KINDS = (TEXT, DENSE, *FLOATS.values())
_FAST = {TEXT: LZ4, DENSE: RAW} | {name: floats(LZ4, width) for width, name in FLOATS.items()}
_SMALL = {TEXT: ZSTD, DENSE: RAW} | {name: floats(ZSTD, width) for width, name in FLOATS.items()}


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


@dataclass
class _Measured:
    """Seconds per plain byte, and the share of bytes that is left."""

    s_per_byte: float
    share: float

    def note(self, seconds: float, plain: int, encoded: int) -> None:
        self.s_per_byte = _KEEP * self.s_per_byte + (1 - _KEEP) * seconds / plain
        self.share = _KEEP * self.share + (1 - _KEEP) * encoded / plain


@dataclass
class Choice:
    """Which codec to use for a kind of bytes, by what codecs and link were last measured to do.

    `link_s_per_byte` is the time that one worker's link takes for a sealed byte; 0 until the first pack is away. It
    starts with what was measured on one core of an EPYC of 2023, and goes on with what it is told.
    """

    link_s_per_byte: float = 0.0
    _fast: dict[str, _Measured] = field(default_factory=dict)
    _small: dict[str, _Measured] = field(default_factory=dict)
    _turns: dict[str, int] = field(default_factory=dict)

    def codec(self, kind: str) -> int:
        """The codec for the next frame of that kind. Now and then the other one is tried, to know it still."""
        if kind == DENSE:
            return RAW
        turn = self._turns[kind] = self._turns.get(kind, 0) + 1
        small_pays = self._cost(self._at(self._small, kind)) < self._cost(self._at(self._fast, kind))
        if self.link_s_per_byte and turn % _TRY_OTHER_EVERY == 0 and self._is_near(kind):
            small_pays = not small_pays
        return _SMALL[kind] if small_pays else _FAST[kind]

    def note_frame(self, kind: str, codec: int, seconds: float, plain: int, encoded: int) -> None:
        """Learn from an encoded frame of `plain` bytes (at least one)."""
        if kind != DENSE:
            table = self._small if codec == _SMALL[kind] else self._fast
            self._at(table, kind).note(seconds, plain, encoded)

    def note_link(self, seconds: float, sealed: int) -> None:
        """Learn from a pack of `sealed` bytes that is stored."""
        now = seconds / sealed
        before = self.link_s_per_byte
        self.link_s_per_byte = now if not before else _KEEP * before + (1 - _KEEP) * now

    def _cost(self, measured: _Measured) -> float:
        return measured.s_per_byte + self.link_s_per_byte * measured.share

    def _is_near(self, kind: str) -> bool:
        """Whether the two differ by so little that a new measurement could change the choice."""
        one, other = self._cost(self._at(self._small, kind)), self._cost(self._at(self._fast, kind))
        return max(one, other) < _NEAR * min(one, other)

    def _at(self, table: dict[str, _Measured], kind: str) -> _Measured:
        if kind not in table:
            table[kind] = _start(kind, table is self._small)
        return table[kind]


def _start(kind: str, small: bool) -> _Measured:
    if kind == TEXT:
        return _Measured(4e-9, 0.28) if small else _Measured(1.8e-9, 0.42)
    return _Measured(0.95e-9, 0.68) if small else _Measured(0.36e-9, 0.76)
