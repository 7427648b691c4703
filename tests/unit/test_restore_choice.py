"""Which paths a person means by a pattern."""

import pytest

from dumont.model.commit import Entry, Kind
from dumont.repository.restoring.choice import chosen

DIRECTORY = Entry(Kind.DIRECTORY, 0o755, 0, 0, 0)
FILE = Entry(Kind.FILE, 0o644, 0, 0, 0)
PATHS = [b"a.py", b"a/", b"a/b.py", b"a/c/", b"a/c/d.py", b"a/c/[x]", b"b/", b"b/empty/", b"b/two\nlines.py"]
ENTRIES = {b"": DIRECTORY} | {path.rstrip(b"/"): DIRECTORY if path.endswith(b"/") else FILE for path in PATHS}


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        (b"a.py", {b"a.py"}),
        (b"a", {b"a", b"a/b.py", b"a/c", b"a/c/d.py", b"a/c/[x]"}),
        (b"/a/c/", {b"a/c", b"a/c/d.py", b"a/c/[x]"}),
        (b"*.py", {b"a.py", b"a/b.py", b"a/c/d.py", b"b/two\nlines.py"}),
        (b"**/d.py", {b"a/c/d.py"}),
        (b"a/**/d.py", {b"a/c/d.py"}),
        (b"a/**/b.py", {b"a/b.py"}),
        (b"**/a.py", {b"a.py"}),
        (b"?.py", {b"a.py"}),
        (b"[ab].py", {b"a.py"}),
        (b"[!b].py", {b"a.py"}),
        (b"a/c/[[]x]", {b"a/c/[x]"}),
        (b"b/empty", {b"b/empty"}),
        (b"./a.py", {b"a.py"}),
        (b"[!]a].py", set()),
        (b"[!]].py", {b"a.py"}),
        (b"[!]", set()),
        (b"a.", set()),
        (b"A.py", set()),
        (b"", set(ENTRIES)),
    ],
)
def test_a_pattern_means_what_shells_mean(pattern: bytes, matched: set[bytes]) -> None:
    """A person who asks for one file must not get a thousand, or none."""
    assert chosen(ENTRIES, [pattern])[1] == matched


def test_what_is_above_comes_along_and_nothing_beside() -> None:
    """A file needs its directories."""
    kept, matched = chosen(ENTRIES, [b"**/d.py", b"b/empty"])
    assert matched == {b"a/c/d.py", b"b/empty"}
    assert list(kept) == [b"", b"a", b"a/c", b"a/c/d.py", b"b", b"b/empty"]
