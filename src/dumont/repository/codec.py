"""Codecs: how the plain bytes of a frame are made smaller before they are sealed, and back.

A codec is one byte: coder (0 none, 1 LZ4 block, 2 zstd frame) + 4 × filter (0 none, 1 bitshuffle, 2 byte planes) + 16 ×
the binary logarithm of the width in bytes of the numbers that the filter takes apart.
"""

import ctypes
import importlib.util
from functools import cache
from pathlib import Path

import lz4.block
import zstandard

from dumont.errors import Corrupt, NotPossibleHere
from dumont.repository.room import Room

RAW = 0
LZ4 = 1
ZSTD = 2
BITSHUFFLE = 1 << 2
PLANES = 2 << 2
_CODERS = 0b11
_FILTERS = 0b11 << 2
_WIDTH_LOG_MAX = 3
FRAME_BYTES_MAX = 2**30
_ELEMENTS = 8  # bitshuffle takes numbers in groups of eight
_CODEC = 0xFF
_PAUSE_LOG = 8
_FLOATS_ACCELERATION = 16
"""LZ4's acceleration for bits of floats: noise is passed over sooner, and what repeats is still found. Measured on
bf16 weights: 0.751 of the bytes are left at 2.4 GB/s a core, where the acceleration 1 leaves 0.747 at 1.5 GB/s."""

_ZSTD_LEVEL, _ZSTD_MORE_LEVEL = 3, 6
"""Measured on Python's sources in frames of 1 MiB: level 3 leaves 0.210 of the bytes at 177 MB/s a core, 6 leaves 0.188
at 48, 9 leaves 0.183 at 30."""
_PLANES_ZSTD = zstandard.ZstdCompressionParameters(
    window_log=17, chain_log=6, hash_log=6, search_log=1, min_match=7, target_length=0, strategy=1
)
"""Planes of floats hold next to no repeats: almost no search for them, and all of the entropy coder.
Measured on bf16 weights: 1.49 × at 1.07 GB/s a core, where level 1 gives 1.46 × at half of that."""


def floats(coder: int, width: int) -> int:
    """The codec for numbers of `width` bytes: bitshuffle with LZ4, byte planes with zstd."""
    assert width in (2, 4, 8), width
    return coder | (BITSHUFFLE if coder == LZ4 else PLANES) | (width.bit_length() - 1) << 4


def recipe(codec: int, acceleration: int) -> int:
    """How to encode: the codec, with LZ4's `acceleration` (lz4.h; 1 looks for the most); no decoder has to know it.

    Of zstd there is only ZSTD_MORE besides the codec itself.
    """
    return codec | (acceleration - 1) << _PAUSE_LOG


ZSTD_MORE = recipe(ZSTD, 2)
"""The recipe for a zstd frame that took more search."""


def codec_of(recipe: int) -> int:
    """The codec that a recipe leads to. A codec is a recipe too, of the acceleration 1."""
    return recipe & _CODEC


class Coder:
    """Encodes and decodes with buffers of its own: use one in one thread."""

    def __init__(self) -> None:
        self._room = Room()
        self._encoded = Room()
        self._zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        self._zstd_more = zstandard.ZstdCompressor(level=_ZSTD_MORE_LEVEL)
        self._planes = zstandard.ZstdCompressor(compression_params=_PLANES_ZSTD)
        self._unzstd = zstandard.ZstdDecompressor()

    def encode(self, recipe: int, plain: memoryview) -> "bytes | memoryview":
        """`plain` (writable, so that its memory can be named) encoded; valid until the next call."""
        source = plain
        codec = codec_of(recipe)
        if codec & _FILTERS:
            source = self._filter(codec, plain)
        match codec & _CODERS:
            case 0:
                return source
            case 1:
                return self._lz4(source, _FLOATS_ACCELERATION if codec & _FILTERS else 1 + (recipe >> _PAUSE_LOG))
            case 2:
                plain_zstd = self._zstd if recipe == codec else self._zstd_more
                return (self._planes if codec & _FILTERS else plain_zstd).compress(source)
        raise AssertionError(f"no codec {codec}")

    def _lz4(self, source: memoryview, acceleration: int) -> memoryview:
        """One block, in a room that is used again: new memory for each would cost a tenth of the time."""
        if not source:
            return memoryview(b"\0")  # which is what LZ4 makes of nothing
        room = self._encoded.at_least(len(source) + len(source) // 255 + 16)  # LZ4_COMPRESSBOUND of lz4.h
        begin = bytes(source) if source.readonly else _address(source)
        length = _blosc2().lz4(begin, _address(room), len(source), len(room), acceleration)
        assert length > 0, "the room holds whatever LZ4 makes of it"
        return room[:length]

    def decode(self, codec: int, data: "bytes | memoryview", plain_bytes: int) -> "bytes | bytearray | memoryview":
        """The plain bytes. Raises Corrupt when they are not `plain_bytes` long, or the codec is unknown."""
        if not is_known(codec) or plain_bytes > FRAME_BYTES_MAX:
            raise Corrupt(f"codec {codec} for {plain_bytes} bytes is unknown to this program; a newer one may read it")
        plain = self._decompress(codec & _CODERS, data, plain_bytes)
        if len(plain) != plain_bytes:
            raise Corrupt(f"a frame holds {len(plain)} bytes where {plain_bytes} were stored")
        return self._unfilter(codec, plain) if codec & _FILTERS else plain

    def _decompress(self, coder: int, data: "bytes | memoryview", plain_bytes: int) -> "bytes | memoryview":
        try:
            if coder == LZ4:
                return lz4.block.decompress(data, uncompressed_size=plain_bytes)  # type: ignore[no-any-return]
            if coder == ZSTD:
                if zstandard.frame_content_size(data) != plain_bytes:
                    raise Corrupt(f"a frame claims another length than the {plain_bytes} bytes that were stored")
                return self._unzstd.decompress(data)
        except (lz4.block.LZ4BlockError, zstandard.ZstdError, ValueError) as error:
            raise Corrupt(f"a frame can't be decoded: {error}") from error
        return data

    def _filter(self, codec: int, plain: memoryview) -> memoryview:
        width = 1 << (codec >> 4)
        whole = len(plain) // (width * _ELEMENTS) * (width * _ELEMENTS)
        room = self._taken(len(plain))
        if whole:
            function = _blosc2().bitshuffle if codec & _FILTERS == BITSHUFFLE else _blosc2().planes
            function(width, whole, _address(plain), _address(room))
        room[whole:] = plain[whole:]
        return room

    def _unfilter(self, codec: int, data: "bytes | memoryview") -> memoryview:
        width = 1 << (codec >> 4)
        whole = len(data) // (width * _ELEMENTS) * (width * _ELEMENTS)
        room = self._taken(len(data))
        if whole:
            function = _blosc2().unbitshuffle if codec & _FILTERS == BITSHUFFLE else _blosc2().unplanes
            function(width, whole, bytes(data), _address(room))
        room[whole:] = data[whole:]
        return room

    def _taken(self, length: int) -> memoryview:
        return self._room.at_least(length)[:length]


def decode_between(codec: int, data: memoryview, rooms: tuple[memoryview, memoryview], plain_bytes: int) -> memoryview:
    """As `Coder.decode`, without new memory: `data` begins where the first of the `rooms` does, the plain bytes are in
    one of the two. Both are writable and hold at least `plain_bytes`. Raises Corrupt.
    """
    if not is_known(codec):
        raise Corrupt(f"codec {codec} is unknown to this program; a newer one may read it")
    room, other = rooms
    if codec & _CODERS and data:
        decompress = _blosc2().unlz4 if codec & _CODERS == LZ4 else _blosc2().unzstd
        if decompress(_address(data), _address(other), len(data), plain_bytes) != plain_bytes:
            raise Corrupt(f"a frame does not decode to the {plain_bytes} bytes that were stored")
        data, room, other = other[:plain_bytes], other, room
    if len(data) != plain_bytes:
        raise Corrupt(f"a frame holds {len(data)} bytes where {plain_bytes} were stored")
    if not codec & _FILTERS:
        return data
    width = 1 << (codec >> 4)
    whole = plain_bytes // (width * _ELEMENTS) * (width * _ELEMENTS)
    if whole:
        function = _blosc2().unbitshuffle if codec & _FILTERS == BITSHUFFLE else _blosc2().unplanes
        function(width, whole, _address(data), _address(other))
    other[whole:plain_bytes] = data[whole:]
    return other[:plain_bytes]


def is_known(codec: int) -> bool:
    """Whether this program reads `codec`."""
    coder, filter = codec & _CODERS, codec & _FILTERS
    width_log = codec >> 4
    return coder <= ZSTD and filter <= PLANES and (0 < width_log <= _WIDTH_LOG_MAX if filter else width_log == 0)


def _address(memory: memoryview) -> int:
    """Where `memory` (writable, not empty, held by the caller) begins. An array of its length would be a new type."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class _Blosc2:
    """The filters of C-Blosc2, called in its library: importing its Python package takes 0.4 s, which no save has."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.bitshuffle = _function(library, "blosc2_bitshuffle")
        self.unbitshuffle = _function(library, "blosc2_bitunshuffle")
        self.planes = _function(library, "blosc2_shuffle")
        self.unplanes = _function(library, "blosc2_unshuffle")
        lz4_encode = library.LZ4_compress_fast
        lz4_encode.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32]
        lz4_encode.restype = ctypes.c_int32
        self.lz4 = lz4_encode
        lz4_decode = library.LZ4_decompress_safe
        lz4_decode.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32]
        lz4_decode.restype = ctypes.c_int32
        self.unlz4 = lz4_decode
        zstd_decode = library.ZSTD_decompress
        zstd_decode.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
        zstd_decode.restype = ctypes.c_size_t
        self._zstd = zstd_decode

    def unzstd(self, data: object, room: object, length: int, plain_bytes: int) -> int:
        """With the arguments of LZ4's function. An error is a number larger than any length."""
        return int(self._zstd(room, plain_bytes, data, length))


@cache
def _blosc2() -> _Blosc2:
    found = importlib.util.find_spec("blosc2")
    if found is None or found.origin is None:
        raise NotPossibleHere("the package blosc2 is missing; install it with: pip install blosc2")
    names = ("libblosc2.so", "libblosc2.dylib", "blosc2.dll")
    for path in (Path(found.origin).parent / folder / name for folder in ("lib", "lib64", "bin") for name in names):
        if path.exists():
            return _Blosc2(ctypes.CDLL(str(path)))
    raise NotPossibleHere("the package blosc2 does not hold its library; reinstall it with: pip install -U blosc2")


def _function(library: ctypes.CDLL, name: str) -> "ctypes._NamedFuncPointer":
    function = getattr(library, name)
    function.argtypes = [ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p]
    function.restype = ctypes.c_int32
    return function  # type: ignore[no-any-return]
