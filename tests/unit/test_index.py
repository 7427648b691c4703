"""The index: what is known of a live tree is found again from above, and forgotten with it."""

from hypothesis import given
from hypothesis import strategies as st

from dumont.snapshot.index import Index, Known, Signature
from dumont.snapshot.tree import TOP

KNOWN = Known(Signature(1, 2, 3, 4, 5, 6, 7, 8, 9), None)
names = st.sampled_from([b"a", b"b", b"c"])
paths = st.lists(names, max_size=4).map(b"/".join)


@given(st.lists(st.tuples(paths, st.booleans()), max_size=40))
def test_every_known_path_is_found_from_above_whatever_lies_between(steps: list[tuple[bytes, bool]]) -> None:
    """A directory that went while it was read leaves names below it; forgetting it must forget them too."""
    index, held = Index(), set()
    for path, is_put in steps:
        if is_put:
            index.put(path, KNOWN)
            held.add(path)
        else:
            index.drop(path)
            held.discard(path)
    for path in [TOP, *held, *(path for path, _ in steps)]:
        below = {other for other in held if other != path and (path == TOP or other.startswith(path + b"/"))}
        assert sorted(index.below(path)) == sorted(below)
