"""Where tensors begin is found in what is well made, and nothing is found, without an error, in what is not."""

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dumont.model.commit import block_bytes
from dumont.snapshot.chunk import block_ranges
from dumont.snapshot.tensors import BOUNDS_MAX, SEGMENT_BYTES_MIN, read_bounds
from tests.tensor_files import safetensors, torch_zip, with_zip64_end

Write = Callable[[Mapping[str, bytes]], bytes]
KIB = 2**10
MIB = 2**20
_chance = random.Random(7)
LARGE = {f"layer.{number}": _chance.randbytes(300 * KIB + 2 * number) for number in range(6)}
SMALL = {f"norm.{number}": _chance.randbytes(300 + number) for number in range(3)}
MIXED = {**dict(list(LARGE.items())[:3]), **SMALL, **dict(list(LARGE.items())[3:])}


def bounds(body: bytes) -> tuple[int, ...]:
    return read_bounds(lambda length, offset: body[offset : offset + length], len(body))


def pieces(body: bytes) -> set[bytes]:
    return {body[start : start + length] for start, length in block_ranges(len(body), bounds(body))}


def header(entries: object, body_bytes: int = 2 * MIB) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + bytes(body_bytes)


def starts(body: bytes, tensors: dict[str, bytes]) -> tuple[int, ...]:
    return tuple(body.index(data) for data in tensors.values())


@pytest.mark.parametrize("write", [safetensors, torch_zip, lambda t: with_zip64_end(torch_zip(t, zip64=True))])
def test_every_large_tensor_begins_a_segment(write: Write) -> None:
    """Also behind small ones, and where the zip says everything in its zip64 records only."""
    body = write(MIXED)
    assert bounds(body) == starts(body, LARGE)


def test_zip64_sizes_are_read_from_the_extra_field() -> None:
    """In a file beyond 4 GiB the directory's own fields say nothing."""
    body = torch_zip(LARGE)
    at = body.index(b"PK\x01\x02")
    rest, out = body[at : body.rindex(b"PK\x05\x06")], b""
    while rest:
        packed, held, name, extra, _, offset = struct.unpack_from("<20xIIHHH8xI", rest)
        wide = struct.pack("<HHQQQ", 1, 24, held, packed, offset)
        out += rest[:20] + b"\xff" * 8 + rest[28:30] + struct.pack("<H", extra + len(wide)) + rest[32:42] + b"\xff" * 4
        out += rest[46 : 46 + name + extra] + wide
        rest = rest[46 + name + extra :]
    end = body[body.rindex(b"PK\x05\x06") :]
    wide_body = body[:at] + out + end[:12] + len(out).to_bytes(4, "little") + end[16:]
    assert bounds(wide_body) == bounds(body) == starts(body, LARGE)


def test_a_zip_as_numpy_writes_it_and_with_a_comment() -> None:
    """`numpy.savez` is a stored zip too, and a comment moves the end record."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in LARGE.items():
            archive.writestr(name, data)
        archive.comment = b"c" * 5000
    assert bounds(out.getvalue()) == starts(out.getvalue(), LARGE)


def test_what_follows_the_last_tensor_is_cut_off_when_it_is_long() -> None:
    """Thousands of small tensors that change each step must not drag the end of a frozen one along."""
    many = {f"bias.{number}": _chance.randbytes(1000) for number in range(200)}
    body = safetensors({**LARGE, **many})
    assert bounds(body) == (*starts(body, LARGE), body.index(many["bias.0"]))


@pytest.mark.parametrize("write", [safetensors, torch_zip])
def test_unchanged_tensors_keep_their_chunks_whatever_moved(write: Write) -> None:
    """A tensor that was inserted, grew, or changed its place moves all others; only its own bytes are new."""
    before = write(LARGE)
    moved = {"first": _chance.randbytes(100_001), **dict(reversed(LARGE.items()))}
    moved["layer.2"] = _chance.randbytes(400_003)
    new = sum(len(piece) for piece in pieces(write(moved)) - pieces(before))
    own = 100_001 + 400_003
    tails = len(moved) * 4 * KIB + block_bytes(len(before))  # a zip's local headers and directory, the JSON header
    assert own <= new <= own + tails + len(LARGE) * 2 * KIB + 5 * block_bytes(len(before))
    assert new < len(before) // 2


def test_a_longer_header_moves_nothing() -> None:
    """The step number lies in the header: each checkpoint's is another one."""
    before, after = safetensors(LARGE, {"step": "9"}), safetensors(LARGE, {"step": "10" * 500})
    assert sum(len(piece) for piece in pieces(after) - pieces(before)) == bounds(after)[0]


def test_without_bounds_all_blocks_would_differ() -> None:
    """The negative control of the two tests above."""
    before, after = safetensors(LARGE, {"step": "9"}), safetensors(LARGE, {"step": "10" * 500})
    old, new = ({body[s : s + n] for s, n in block_ranges(len(body))} for body in (before, after))
    assert not old & new


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {"__metadata__": {"a": "b"}},
        [],
        "text",
        {"a": 5},
        {"a": {"data_offsets": [0]}},
        {"a": {"data_offsets": [0, 10**30]}},
        {"a": {"data_offsets": [0, 2**63]}},
        {"a": {"data_offsets": [-1, 200_000]}},
        {"a": {"data_offsets": [200_000, 0]}},
        {"a": {"data_offsets": ["0", "200000"]}},
        {"a": {"data_offsets": [0.5, 200_000]}},
        {"a": {"data_offsets": [0, 3 * MIB]}},
        b"{",
        b"{}garbage",
        b'{"\xff": {"data_offsets": [0, 200000]}}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": {"x": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}}",
    ],
)
def test_a_header_of_nonsense_gives_no_bounds(entries: object) -> None:
    """Anybody may put any file into a workspace."""
    assert bounds(header(entries)) == ()


@pytest.mark.parametrize("length", [0, 2 * MIB, 16 * MIB + 1, 2**63, 2**64 - 1])
def test_a_header_of_impossible_length_is_not_read(length: int) -> None:
    """The length is a stranger's: it must not decide how much memory we take."""
    asked: list[int] = []

    def pread(length: int, offset: int) -> bytes:
        asked.append(length)
        return body[offset : offset + length]

    body = length.to_bytes(8, "little") + b"{}" + bytes(MIB)
    assert read_bounds(pread, len(body)) == ()
    assert sum(asked) <= MIB


def test_small_files_are_never_looked_at() -> None:
    """Most files are small, and each look is a system call."""

    def pread(length: int, offset: int) -> bytes:
        raise AssertionError("looked at")

    assert read_bounds(pread, MIB - 1) == ()


def test_compressed_members_are_no_bounds() -> None:
    """One changed byte changes all that follows in them."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in LARGE.items():
            archive.writestr(name, data)
    assert bounds(out.getvalue()) == ()


def test_a_zip_that_does_not_keep_its_word_gives_no_bounds() -> None:
    """Its directory says where members are; what lies there must be one."""
    body = torch_zip(LARGE)
    second = body.index(b"PK\x03\x04", body.index(LARGE["layer.0"]))
    assert bounds(body[:second] + b"XX" + body[second + 2 :]) == ()
    assert bounds(body[:-22]) == ()
    assert bounds(body[: len(body) // 2]) == ()


def check(body: bytes) -> None:
    """What `Entry.bounds` promises."""
    found = bounds(body)
    assert len(found) <= BOUNDS_MAX
    assert all(0 < bound <= len(body) - SEGMENT_BYTES_MIN for bound in found)
    assert all(b - a >= SEGMENT_BYTES_MIN for a, b in pairwise(found))


SAFE, ZIP = safetensors(MIXED), with_zip64_end(torch_zip(MIXED, zip64=True))
_RISKY = [*range(64), *range(-600, 0)]


@given(st.lists(st.tuples(st.sampled_from(_RISKY), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_flipped_bytes_never_raise(flips: list[tuple[int, int]], is_zip: bool) -> None:
    """In the header, in the directory, in the end record."""
    body = bytearray(ZIP if is_zip else SAFE)
    for at, value in flips:
        body[at] = value
    check(bytes(body))


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1), st.booleans())
@example(b"PK\x05\x06" + b"\xff" * 18, 0, True)
def test_strange_beginnings_and_ends_never_raise(strange: bytes, length: int, at_the_end: bool) -> None:
    """Including an end record that points beyond the file."""
    body = b"PK\x03\x04" + bytes(MIB) + strange if at_the_end else length.to_bytes(8, "little") + b"{" + strange
    check(body + bytes(0 if at_the_end else MIB))


offsets = st.one_of(st.integers(-5, 3 * MIB), st.integers(0, 2**70))


@given(st.dictionaries(st.text(max_size=5), st.lists(offsets, max_size=3), max_size=40))
def test_any_offsets_keep_the_promise(spans: dict[str, list[int]]) -> None:
    """Overlapping, backward, beyond the end."""
    check(header({name: {"data_offsets": span} for name, span in spans.items()}))


@given(st.integers(0, len(ZIP)), st.booleans())
def test_a_file_that_shrinks_while_it_is_looked_at(left: int, is_zip: bool) -> None:
    """The size was told before; reads then end early."""
    body = ZIP if is_zip else SAFE
    shrunk = body[:left]
    assert read_bounds(lambda length, offset: shrunk[offset : offset + length], len(body)) is not None
