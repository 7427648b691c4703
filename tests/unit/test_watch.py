"""The dirty set: hints only add, and nothing between a path and the known tree is forgotten."""

from dumont.model.commit import Entry, Kind
from dumont.replication.ports import Happening, Hint
from dumont.replication.watch import DirtySet
from dumont.snapshot.tree import TOP, Tree

_DIRECTORY = Entry(Kind.DIRECTORY, 0o755, 0, 0, 0)


def test_a_new_file_brings_the_directories_that_the_tree_lacks():
    """A commit with a file but without its directory could not be restored."""
    dirty = DirtySet()
    dirty.take([Hint(b"a/b/c")])
    assert dirty.paths(Tree({TOP: _DIRECTORY})) == [b"a", b"a/b", b"a/b/c"]


def test_known_directories_are_not_read_again():
    """Otherwise every write would cost its whole path."""
    dirty = DirtySet()
    dirty.take([Hint(b"a/b/c")])
    assert dirty.paths(Tree({TOP: _DIRECTORY, b"a": _DIRECTORY, b"a/b": _DIRECTORY})) == [b"a/b/c"]


def test_an_overflow_makes_everything_dirty():
    """Lost hints are not proof that nothing happened."""
    dirty = DirtySet()
    dirty.take([Hint(b"x"), Hint(TOP, Happening.OVERFLOW)])
    assert dirty.everything
    assert dirty.walks() == [TOP]


def test_a_walk_covers_the_walks_under_it():
    """Walking the same subtree twice would only cost time."""
    dirty = DirtySet()
    dirty.take([Hint(b"a/b", Happening.SUBTREE), Hint(b"a", Happening.SUBTREE), Hint(b"ab", Happening.SUBTREE)])
    assert dirty.walks() == [b"a", b"ab"]


def test_what_was_handed_out_is_clean_until_touched_again():
    """The reader answers for it from then on."""
    dirty = DirtySet()
    dirty.take([Hint(b"x")])
    assert dirty
    dirty.paths(Tree({TOP: _DIRECTORY}))
    assert not dirty
