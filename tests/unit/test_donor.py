"""Donors: which files of a target are searched for what is lacking, and which may lose their names too early."""

import os
import stat

from dumont.model.commit import Entry, Kind
from dumont.repository.restoring.donor import at_risk, find_donors
from dumont.repository.restoring.route import Making
from dumont.repository.restoring.standing import Standing

Asked = list[tuple[bytes, Entry]]
LARGE = 2**20 + 1


def chunk(number: int) -> bytes:
    return bytes([number]) * 32


def making(number: int, path: bytes, size: int = 1000, mtime_ns: int = 5) -> Making:
    """A file of as many blocks as its size asks for, whose chunks nobody else has."""
    blocks = -(-size // 2**16)
    chunks = tuple(chunk(number) + bytes([at]) for at in range(blocks))
    return Making(number, Entry(Kind.FILE, 0o644, 0, 0, mtime_ns, size, chunks), path)


def seen(inode: int, size: int = 1000, mtime_ns: int = 5, mode: int = stat.S_IFREG) -> os.stat_result:
    values = (mode | 0o644, inode, 1, 1, 0, 0, size, 0, mtime_ns // 10**9, 0, 0.0, mtime_ns / 1e9, 0.0, 0)
    return os.stat_result((*values, mtime_ns, 0))


def standing(make: list[Making], files: dict[bytes, os.stat_result]) -> Standing:
    return Standing(files, [], make)


class Searcher:
    """Holds what it is told to hold, and remembers what it was asked."""

    def __init__(self, holds: dict[bytes, tuple[int, ...]] | None = None) -> None:
        self.holds = holds or {}
        self.rounds: list[list[bytes]] = []

    async def __call__(self, files: Asked) -> list[tuple[int, ...]]:
        self.rounds.append([path for path, _ in files])
        return [self.holds.get(path, ()) for path, _ in files]


async def test_what_is_all_there_is_not_searched_for() -> None:
    """Most restores onto a tree are of trees in which nothing was renamed."""
    one = making(0, b"one")
    one.near = {0: (b"one", 0)}
    ask = Searcher()
    await find_donors(standing([one], {b"other": seen(7)}), [one], ask)
    assert ask.rounds == []


async def test_the_likeliest_is_asked_first_and_the_others_only_if_it_has_not_all() -> None:
    """Each costs a reading."""
    one = making(0, b"deep/one", LARGE)
    files = {
        b"size": seen(1, LARGE, 9),
        b"time": seen(2, LARGE),
        b"here/one": seen(3, LARGE, 9),
        b"there/one": seen(4, LARGE),
        b"no file/one": seen(5, LARGE, mode=stat.S_IFLNK),
        b"other": seen(6, LARGE - 1),
    }
    ask = Searcher({b"there/one": tuple(range(17))})
    await find_donors(standing([one], files), [one], ask)
    assert ask.rounds == [[b"there/one"]]
    assert one.near == {at: (b"there/one", at * 2**16) for at in range(17)}
    one.near = None
    ask = Searcher({b"time": (3,), b"size": (3, 4)})
    await find_donors(standing([one], files), [one], ask)
    assert ask.rounds == [[b"there/one"], [b"time"], [b"here/one"], [b"size"]]
    assert one.near == {3: (b"time", 3 * 2**16), 4: (b"size", 4 * 2**16)}


async def test_small_files_of_one_size_are_no_reason_to_read_them_all() -> None:
    """There are thousands of them in a tree; of large ones that have only the size in common, four are read."""
    one, large = making(0, b"one"), making(1, b"large", LARGE)
    files = {b"small %d" % number: seen(number, 1000, 9) for number in range(1, 50)}
    files |= {b"large %d" % number: seen(number, LARGE, 9) for number in range(100, 150)}
    ask = Searcher()
    await find_donors(standing([one, large], files), [one, large], ask)
    assert ask.rounds == [[b"large %d" % number] for number in (100, 101, 102, 103)]


async def test_of_what_was_examined_chunks_are_known_without_reading_again() -> None:
    """A copy that went is taken from the one that stays; what only a wrong block would hold is not."""
    right, wrong, one = making(0, b"right", 2**17), making(1, b"wrong", 2**17), making(2, b"one", 2**17)
    wrong.near = {0: (b"wrong", 0)}
    lost = chunk(9) + b"0"
    one.entry = Entry(Kind.FILE, 0o644, 0, 0, 0, 3 * 2**16, (right.entry.chunks[1], *wrong.entry.chunks))
    wrong.entry = Entry(Kind.FILE, 0o644, 0, 0, 0, 3 * 2**16, (*wrong.entry.chunks, lost))
    ask = Searcher()
    await find_donors(standing([wrong, one], {}), [right, wrong, one], ask)
    assert one.near == {0: (b"right", 2**16), 1: (b"wrong", 0)}
    assert ask.rounds == []


async def test_an_inode_is_searched_under_one_of_its_names() -> None:
    """Its other names hold the same."""
    one = making(0, b"one")
    ask = Searcher()
    await find_donors(standing([one], {b"a": seen(1), b"b": seen(1)}), [one], ask)
    assert ask.rounds == [[b"a"]]


def test_those_whose_names_are_taken_by_others_are_at_risk() -> None:
    """They must outlast that; those that go at the end, and those that only their own successor needs, do anyway."""
    one, two, below = making(0, b"one"), making(1, b"two"), making(2, b"three")
    one.near = {0: (b"two", 0)}
    two.near = {0: (b"two", 0)}
    below.near = {0: (b"extra", 0)}
    files = {b"two": seen(1), b"extra": seen(2), b"door": seen(3, mode=stat.S_IFDIR), b"door/in": seen(4)}
    wanted = {made.path: made.entry for made in (one, two, below)}
    assert at_risk(standing([one, two, below], files), wanted) == {b"two"}
    below.near = {0: (b"door/in", 0)}
    wanted[b"door"] = one.entry
    assert at_risk(standing([one, two, below], files), wanted) == {b"two", b"door/in"}
    one.near = None
    assert at_risk(standing([one, two], files), wanted) == set()
