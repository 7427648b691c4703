"""Frames opened in memory that is used again hold what they held, or are refused."""

import os

import pytest

from dumont.errors import Corrupt
from dumont.repository.codec import LZ4, RAW, ZSTD, Coder, decode_between, floats
from dumont.repository.keys import keys_of
from dumont.repository.seal import seal_for

CODECS = [RAW, LZ4, ZSTD, *(floats(coder, width) for coder in (LZ4, ZSTD) for width in (2, 4, 8))]
PLAIN = bytes(range(256)) * 40 + os.urandom(1001)


def opened(codec: int, encoded: bytes, plain_bytes: int) -> bytes:
    """Decode with two rooms full of what was there before."""
    size = max(len(encoded), plain_bytes) + 7
    rooms = memoryview(bytearray(b"?" * size)), memoryview(bytearray(b"!" * size))
    rooms[0][: len(encoded)] = encoded
    return bytes(decode_between(codec, rooms[0][: len(encoded)], rooms, plain_bytes))


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_read_without_new_memory(codec: int) -> None:
    """Two ways to decode must be one."""
    coder = Coder()
    encoded = bytes(coder.encode(codec, memoryview(bytearray(PLAIN))))
    assert opened(codec, encoded, len(PLAIN)) == PLAIN == bytes(coder.decode(codec, encoded, len(PLAIN)))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("wrong", [-1, 1])
def test_another_length_is_refused(codec: int, wrong: int) -> None:
    """Rooms hold what was there before: a frame that is too short would show it."""
    encoded = bytes(Coder().encode(codec, memoryview(bytearray(PLAIN))))
    with pytest.raises(Corrupt):
        opened(codec, encoded, len(PLAIN) + wrong)


@pytest.mark.parametrize("codec", [LZ4, ZSTD, floats(LZ4, 2), 3, 255])
def test_noise_is_refused(codec: int) -> None:
    """Whoever can seal may still be wrong."""
    with pytest.raises(Corrupt):
        opened(codec, os.urandom(5000), 10_000)
    with pytest.raises(Corrupt):
        opened(codec, b"", 10_000)


def test_a_seal_opens_into_a_room_or_not_at_all() -> None:
    """A flipped bit, another place, and what is too short."""
    seal = seal_for(keys_of(bytes(32), bytes(16)), "packs/xx/x")
    sealed = seal.close(3, b"about", PLAIN)
    room = memoryview(bytearray(len(sealed)))
    assert seal.open_into(3, b"about", sealed, room) == PLAIN
    flipped = bytearray(sealed)
    flipped[50] ^= 1
    for number, about, body in ((4, b"about", sealed), (3, b"other", sealed), (3, b"about", flipped), (3, b"", b"x")):
        with pytest.raises(Corrupt):
            seal.open_into(number, about, bytes(body), room)
