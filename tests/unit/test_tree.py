"""A tree knows its root, whatever way it came to be."""

import blake3
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.errors import BadInput
from dumont.model.commit import HOLE, Change, Entry, Kind
from dumont.snapshot.tree import TOP, Tree, checked, join, name_of, parent_of

DIRECTORY = Entry(Kind.DIRECTORY, 0o755, 0, 0, 0)
names = st.sampled_from([b"a", b"b", b"c", b"\xff"])
paths = st.lists(names, max_size=3).map(b"/".join)
entries = st.builds(
    Entry,
    kind=st.just(Kind.FILE),
    mode=st.integers(0, 0o7777),
    uid=st.just(0),
    gid=st.just(0),
    mtime_ns=st.integers(-(2**62), 2**62),
    size=st.just(3),
    chunks=st.tuples(st.sampled_from([HOLE, b"1" * 32, b"2" * 32])),
)
changes = st.lists(st.builds(Change, paths, st.one_of(st.none(), st.just(DIRECTORY), entries)), max_size=30)


def fresh(tree: Tree) -> Tree:
    return Tree(dict(tree.entries()))


@given(changes, changes)
def test_a_root_depends_on_what_a_tree_holds_and_on_nothing_else(first: list[Change], second: list[Change]) -> None:
    """Remembered ids of directories must never outlive what they were made of."""
    tree = Tree()
    tree.apply(first)
    tree.root()
    tree.apply(second)
    assert tree.root() == fresh(tree).root() == Tree(dict(reversed(list(tree.entries())))).root()


@given(changes, changes)
def test_a_diff_leads_from_one_tree_to_the_other(first: list[Change], second: list[Change]) -> None:
    """It is what is sent to a standby that holds something else."""
    a, b = Tree(), Tree()
    a.apply(first)
    b.apply(second)
    a.apply(a.diff(b))
    assert dict(a.entries()) == dict(b.entries())
    assert a.diff(b) == []
    assert all(a.has_chunk(chunk) == b.has_chunk(chunk) for chunk in (b"1" * 32, b"2" * 32, HOLE))


@given(changes)
def test_chunks_are_there_as_long_as_some_file_holds_them(some: list[Change]) -> None:
    """A chunk that counts as there, and is not, is a lost block at the standby."""
    tree = Tree()
    tree.apply(some)
    held = {chunk for _, entry in tree.entries() for chunk in entry.chunks if chunk != HOLE}
    assert {chunk for chunk in (b"1" * 32, b"2" * 32) if tree.has_chunk(chunk)} == held
    assert not tree.has_chunk(HOLE)


@given(changes, changes)
def test_every_path_is_found_from_above_whatever_lies_between(first: list[Change], second: list[Change]) -> None:
    """Whoever reads a tree that moves may find a name and miss its directory; such a name must not hide for ever."""
    tree = Tree()
    tree.apply([*first, *second])
    held = [path for path, _ in tree.entries()]
    assert tree.below(TOP) == [path for path in held if path != TOP]
    for path in held:
        assert tree.below(path) == [other for other in held if other != path and is_under(other, path)]
    for path in held:
        tree.remove(path)
    assert tree.children(TOP) == [] and tree.root() == Tree().root()


def is_under(path: bytes, above: bytes) -> bool:
    return above == TOP or path.startswith(above + b"/")


def test_a_name_whose_directory_is_not_known_counts() -> None:
    """Two trees with one root hold the same names, those too: a standby compares nothing else."""
    tree = Tree({TOP: DIRECTORY})
    before = tree.root()
    tree.put(b"d/e/f", Entry(Kind.FILE, 0o644, 0, 0, 0))
    assert tree.below(b"d") == [b"d/e/f"] and tree.get(b"d") is None
    assert tree.root() != before
    tree.remove(b"d/e/f")
    assert tree.root() == before and tree.below(TOP) == []


def test_every_attribute_counts() -> None:
    """Two trees with one root are one tree, in every corner."""
    base = Entry(Kind.FILE, 0o644, 1, 2, 3, size=5, chunks=(b"1" * 32,), xattrs=((b"user.a", b"b"),), link=b"x")
    others = [
        msgspec.structs.replace(base, **{field: value})
        for field, value in {
            "kind": Kind.FIFO, "mode": 0o600, "uid": 0, "gid": 0, "mtime_ns": -3, "size": 6, "chunks": (b"2" * 32,),
            "target": b"t", "xattrs": (), "link": b"", "sparse": True, "bounds": (1,),
        }.items()
    ]  # fmt: skip
    roots = {Tree({TOP: DIRECTORY, b"x": entry}).root() for entry in [base, *others]}
    assert len(roots) == len(others) + 1
    assert len(others) == len(base.__struct_fields__)


def test_an_empty_directory_is_not_nothing() -> None:
    """Programs rely on directories that are there."""
    assert Tree({TOP: DIRECTORY, b"d": DIRECTORY}).root() != Tree({TOP: DIRECTORY}).root() != Tree().root()


def test_directory_objects_are_named_by_their_hash() -> None:
    """The store relies on it: an object that does not match its name is never used."""
    tree = Tree({TOP: DIRECTORY, b"d": DIRECTORY, b"d/file": Entry(Kind.FILE, 0o644, 0, 0, 0)})
    below = blake3.blake3(tree.directory_object(b"d")).digest()
    listing = msgspec.msgpack.decode(tree.directory_object(TOP), type=list[tuple[bytes, Entry, bytes]])
    assert listing == [(b"d", DIRECTORY, below)]


def test_a_deep_tree_is_hashed_without_recursion() -> None:
    """Nobody limits how deep a user nests."""
    tree, path = Tree({TOP: DIRECTORY}), TOP
    for _ in range(1500):
        path = join(path, b"d")
        tree.put(path, DIRECTORY)
    assert len(tree.root()) == 32
    assert len(tree.below(TOP)) == 1500


@pytest.mark.parametrize("path", [b"/", b"/a", b"a/", b"a//b", b".", b"a/./b", b"..", b"a/..", b"a\0b"])
def test_a_path_stays_inside(path: bytes) -> None:
    """Paths come from other machines."""
    with pytest.raises(BadInput):
        checked(path)


@pytest.mark.parametrize("path", [b"", b"a", b"a/b", b"...", b"..a/b..", b"\xff\n"])
def test_names_that_only_look_odd_are_allowed(path: bytes) -> None:
    """Linux allows them, so users have them."""
    assert checked(path) == path


def test_paths_come_apart_and_together() -> None:
    """The top's parent is the top."""
    assert join(parent_of(b"a/b/c"), name_of(b"a/b/c")) == b"a/b/c"
    assert join(TOP, b"a") == b"a"
    assert parent_of(b"a") == parent_of(TOP) == TOP
