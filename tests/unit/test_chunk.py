"""Blocks tile a file, whatever it is cut at."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.errors import BadInput
from dumont.model.commit import Entry, Kind, block_bytes, block_count
from dumont.snapshot.check import check_entry
from dumont.snapshot.chunk import block_range, block_ranges

MIB = 2**20


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, tuple[int, ...]]:
    size = draw(st.sampled_from([1, 5, 65536, MIB, 16 * MIB, 16 * MIB + 1, 5 * 2**30]))
    return size, tuple(sorted(draw(st.sets(st.integers(1, size - 1), max_size=20) if size > 1 else st.just(set()))))


@given(cuts())
def test_blocks_tile_the_file(cut: tuple[int, tuple[int, ...]]) -> None:
    """No byte twice, none left out, and each bound begins a block."""
    size, bounds = cut
    ranges = list(block_ranges(size, bounds))
    at = 0
    for start, length in ranges:
        assert start == at
        assert 0 < length <= block_bytes(size)
        at += length
    assert at == size
    assert {0, *bounds} <= {start for start, _ in ranges}
    assert len(ranges) == block_count(size, bounds)
    assert [block_range(size, number, bounds) for number in range(len(ranges))] == ranges


def test_without_bounds_files_are_cut_as_before() -> None:
    """Trees that were stored before there were bounds keep their chunks."""
    assert [block_range(65537 * 2, number) for number in range(3)] == [(0, 65536), (65536, 65536), (131072, 2)]
    assert list(block_ranges(0)) == []
    assert block_count(0) == 0


def test_an_entry_that_was_written_before_there_were_bounds_can_be_read() -> None:
    """It is an array that ends earlier."""
    entry = Entry(Kind.FILE, 0o644, 1, 2, 3, 4, (bytes(32),))
    short = msgspec.msgpack.encode(msgspec.structs.astuple(entry)[:-1])
    assert msgspec.msgpack.decode(short, type=Entry) == entry


def cut_file(size: int, count: int, *bounds: int, sparse: bool = False) -> Entry:
    return Entry(Kind.FILE, 0o644, 0, 0, 0, size, (bytes(32),) * count, sparse=sparse, bounds=bounds)


def test_bounds_that_cut_are_admitted() -> None:
    """The negative control of the next test."""
    check_entry(b"a", cut_file(300_000, 6, 100_000))


@pytest.mark.parametrize(
    "entry",
    [
        cut_file(300_000, 5, 100_000),
        cut_file(300_000, 5, 0),
        cut_file(300_000, 5, 300_000),
        cut_file(300_000, 5, -1),
        cut_file(300_000, 6, 2**80),
        cut_file(300_000, 7, 100_000, 100_000),
        cut_file(300_000, 7, 200_000, 100_000),
        cut_file(300_000, 6, 100_000, sparse=True),
        cut_file(0, 0, 0),
        Entry(Kind.DIRECTORY, 0o755, 0, 0, 0, bounds=(1,)),
    ],
)
def test_bounds_that_can_not_be_are_refused(entry: Entry) -> None:
    """They come from another machine; a wrong one would read outside of the file."""
    with pytest.raises(BadInput):
        check_entry(b"a", entry)
