"""Codecs: what is encoded comes back, floats get smaller, and what was tampered with is no surprise."""

import os
import struct
import zipfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from dumont.errors import Corrupt
from dumont.repository.codec import FRAME_BYTES_MAX, LZ4, RAW, ZSTD, ZSTD_MORE, Coder, codec_of, floats, is_known
from dumont.repository.probe import DENSE, KINDS, TEXT, Choice, Compression, kind_of

CODECS = [RAW, LZ4, ZSTD, *(floats(coder, width) for coder in (LZ4, ZSTD) for width in (2, 4, 8))]


def writable(data: bytes) -> memoryview:
    return memoryview(bytearray(data))


def bf16(count: int) -> bytes:
    """Numbers around zero as bf16: neighbouring exponents, random mantissas."""
    raw = os.urandom(count)
    return b"".join(struct.pack("<f", (byte - 127.5) / 1000 * (1 + byte % 3))[2:] for byte in raw)


@given(st.binary(max_size=5000), st.sampled_from(CODECS))
def test_what_is_encoded_decodes_to_the_same_bytes(data: bytes, codec: int):
    """Whatever its length is: filters take multiples of eight numbers, and the rest has to come through too."""
    encoded = bytes(Coder().encode(codec, writable(data)))
    assert bytes(Coder().decode(codec, encoded, len(data))) == data


def test_floats_get_smaller_by_their_own_codecs_and_not_by_plain_ones():
    """Their mantissas are noise; only taken apart by bits or bytes do their exponents repeat."""
    data = bf16(200_000)
    size = {codec: len(Coder().encode(codec, writable(data))) for codec in CODECS}
    assert size[floats(LZ4, 2)] < 0.85 * len(data)
    assert size[floats(ZSTD, 2)] < 0.80 * len(data)
    assert size[LZ4] > 0.95 * len(data)


@pytest.mark.parametrize("codec", [3, 1 << 2, LZ4 | 3 << 2, LZ4 | 1 << 4, LZ4 | 1 << 2 | 9 << 4])
def test_a_codec_that_nobody_defined_is_refused(codec: int):
    """A later version's repository must not be decoded into something else."""
    assert not is_known(codec)
    with pytest.raises(Corrupt, match="unknown"):
        Coder().decode(codec, b"anything", 8)


@pytest.mark.parametrize("codec", CODECS)
def test_a_frame_of_another_length_than_stored_is_refused(codec: int):
    """A chunk would begin in the wrong place."""
    encoded = bytes(Coder().encode(codec, writable(b"dumont" * 100)))
    with pytest.raises(Corrupt):
        Coder().decode(codec, encoded, 601)


@pytest.mark.parametrize("coder", [LZ4, ZSTD])
def test_junk_is_refused_in_words(coder: int):
    """A hostile writer seals what it likes."""
    with pytest.raises(Corrupt, match="frame"):
        Coder().decode(coder, os.urandom(100), 1000)


def test_a_frame_that_claims_a_terabyte_is_refused_before_memory_is_taken():
    """A few bytes must not be able to end the program that reads them."""
    bomb = zstandard.ZstdCompressor().compress(bytes(10**6))
    with pytest.raises(Corrupt, match="another length"):
        Coder().decode(ZSTD, bomb, 100)
    with pytest.raises(Corrupt, match="unknown"):
        Coder().decode(LZ4, b"x", FRAME_BYTES_MAX + 1)


def test_the_probe_tells_what_bytes_are():
    """A wrong guess costs space: text must not be taken for floats, nor noise for anything."""
    coder = Coder()
    assert kind_of(coder, writable(os.urandom(2**16))) == DENSE
    assert kind_of(coder, writable(b"to be or not to be, that is the question; " * 2000)) == TEXT
    assert kind_of(coder, writable(bf16(2**15))) == "floats2"
    doubles = b"".join(struct.pack("<d", 1 + byte / 256) for byte in os.urandom(2**13))
    assert kind_of(coder, writable(doubles)) in KINDS


def test_a_slow_link_makes_the_slow_codec_pay():
    """And a fast one does not: memory-backed stores should not wait for zstd."""
    fast, slow = Choice(), Choice()
    fast.note_link(1.0, 3 * 10**9)
    slow.note_link(1.0, 10 * 10**6)
    for _ in range(3):
        assert fast.codec(TEXT) == LZ4 and fast.codec("floats2") == floats(LZ4, 2)
        assert slow.codec(TEXT) == ZSTD and slow.codec("floats2") == floats(ZSTD, 2)


def test_the_choice_follows_what_is_measured_and_keeps_on_measuring():
    """A link that slows down half-way, or a codec that is slower here than where its figures were taken, must show."""
    choice = Choice()
    choice.note_link(1.0, 3 * 10**9)
    assert choice.codec(TEXT) == LZ4
    for _ in range(20):
        choice.note_link(1.0, 10**7)
    assert choice.codec(TEXT) == ZSTD
    for _ in range(60):
        choice.note_frame(TEXT, ZSTD, seconds=1.0, plain=10**6, encoded=10**5)
    assert choice.codec(TEXT) == LZ4


def test_whoever_wants_the_fastest_or_the_smallest_gets_it_whatever_the_link():
    """A repository for years may be worth more than the minute; a busy processor less than the bytes."""
    for link_bytes in (3 * 10**9, 10**6):
        fastest, smallest = Choice(compression=Compression.FASTEST), Choice(compression=Compression.MAX)
        for choice in (fastest, smallest):
            choice.note_link(1.0, link_bytes)
            for kind in KINDS:
                recipe = choice.recipe(kind)
                choice.note_frame(kind, recipe, seconds=1.0, plain=10**6, encoded=10**6)
                assert {choice.recipe(kind) for _ in range(1000)} == {recipe}
        assert {fastest.codec(kind) & 3 for kind in KINDS} == {RAW, LZ4}
        assert {smallest.codec(kind) & 3 for kind in KINDS} == {ZSTD}


def test_more_search_makes_text_smaller_and_is_decoded_alike():
    """Or `max` would be a name for the same thing."""
    text = writable(Path(zipfile.__file__).read_bytes() * 2)
    less, more = (bytes(Coder().encode(recipe, text)) for recipe in (ZSTD, ZSTD_MORE))
    assert len(more) < len(less) < len(Coder().encode(LZ4, text))
    assert codec_of(ZSTD_MORE) == ZSTD
    assert bytes(Coder().decode(ZSTD, more, len(text))) == bytes(text)


def test_noise_is_never_encoded():
    """What does not compress costs no time beyond the probe."""
    choice = Choice()
    choice.note_link(1.0, 1)
    assert {choice.codec(DENSE) for _ in range(200)} == {RAW}


def test_a_frame_or_a_pack_that_had_to_wait_does_not_change_the_codec():
    """The first frame loads a library, and any may meet a busy machine: one figure out of several says nothing."""
    choice = Choice()
    for _ in range(3):
        choice.note_link(1.0, 10**9)
    before = {kind: choice.recipe(kind) for kind in ("floats2", TEXT)}
    for kind, recipe in before.items():
        choice.note_frame(kind, recipe, seconds=1.0, plain=10**6, encoded=5 * 10**5)
    choice.note_link(1.0, 10**6)
    assert {kind: choice.recipe(kind) for kind in before} == before
    for kind, recipe in before.items():
        for _ in range(9):
            choice.note_frame(kind, recipe, seconds=1.0, plain=10**6, encoded=5 * 10**5)
        assert choice.recipe(kind) != recipe, "what stays slow is dropped"


def test_what_was_dropped_is_tried_again():
    """A machine that was busy for a while must not leave a save with the slower codec for good."""
    choice = Choice()
    choice.note_link(1.0, 10**9)
    for _ in range(9):
        choice.note_frame("floats2", floats(LZ4, 2), seconds=1.0, plain=10**6, encoded=7 * 10**5)
    assert floats(LZ4, 2) in {choice.recipe("floats2") for _ in range(1000)}


def test_a_fast_link_gets_text_sooner_and_larger():
    """By the same codec, which decodes alike; a slow link gets what takes fewer bytes."""
    link = Choice(), Choice()
    link[0].note_link(1.0, 2 * 10**9)
    link[1].note_link(1.0, 10**8)
    fast, slower = (one.recipe(TEXT) for one in link)
    text = writable("".join(f"{number * 7919 % 1000} bottles of beer; " for number in range(20_000)).encode())
    size = {recipe: len(Coder().encode(recipe, text)) for recipe in (fast, slower)}
    assert codec_of(fast) == codec_of(slower) == LZ4 and size[slower] < size[fast] < len(text)
    assert bytes(Coder().decode(LZ4, Coder().encode(fast, text), len(text))) == bytes(text)
