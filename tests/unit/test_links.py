"""Names that share an inode are known by the smallest of them."""

from dumont.model.commit import Entry, Kind
from dumont.snapshot.links import Groups, Links

ONE, TWO = (1, 100), (1, 200)


def entry(link: bytes, mode: int = 0o644) -> Entry:
    return Entry(Kind.FILE, mode, 0, 0, 0, link=link)


def test_a_name_alone_has_no_link() -> None:
    """Its inode may have names outside of the workspace; a restored tree won't."""
    links = Links()
    links.note(b"b", ONE)
    assert links.canonical(b"b") == b""


def test_all_names_carry_the_smallest() -> None:
    """So one set of names has one description, whatever order they were found in."""
    links = Links()
    assert links.note(b"b", ONE) == set()
    assert links.note(b"c", ONE) == {b"b"}
    assert links.note(b"a", ONE) == {b"b", b"c"}
    assert {links.canonical(path) for path in (b"a", b"b", b"c")} == {b"a"}


def test_whoever_leaves_tells_which_names_are_affected() -> None:
    """The kernel tells nothing of them."""
    links = Links()
    for path in (b"a", b"b", b"c"):
        links.note(path, ONE)
    assert links.note(b"a", None) == {b"b", b"c"}
    assert links.canonical(b"c") == b"b"
    assert links.note(b"b", TWO) == {b"c"}
    assert links.canonical(b"c") == links.canonical(b"b") == b""


def test_noting_the_same_again_affects_nobody() -> None:
    """Otherwise reading one name would have the others read for ever."""
    links = Links()
    links.note(b"a", ONE)
    links.note(b"b", ONE)
    assert links.note(b"a", ONE) == set()


def test_names_that_differ_cannot_share_an_inode() -> None:
    """A fuzzy commit may hold such a group; what can be shared is."""
    held = {b"a": entry(b"a"), b"b": entry(b"a"), b"c": entry(b"a", 0o600), b"d": entry(b"")}
    groups = Groups(held.items())
    settled = {path: groups.settled(path, one, held.get) for path, one in held.items()}
    assert settled == {b"a": b"a", b"b": b"a", b"c": b"", b"d": b""}
