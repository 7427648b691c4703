"""A plan does the least that makes one tree of the other, and never mixes up inodes."""

from dumont.model.commit import Entry, Kind
from dumont.snapshot.links import Groups
from dumont.snapshot.plan import How, Plan, Planner
from dumont.snapshot.tree import TOP, Tree

DIRECTORY = Entry(Kind.DIRECTORY, 0o755, 0, 0, 0)
MIB = 2**20


def file(*chunks: bytes, link: bytes = b"", mode: int = 0o644) -> Entry:
    size = len(chunks) * 65536
    return Entry(Kind.FILE, mode, 0, 0, 0, size=size, chunks=tuple(chunk * 32 for chunk in chunks), link=link)


def big(*ends: bytes) -> Entry:
    return file(*[b"."] * 20, *ends)


def plan(before: dict[bytes, Entry], after: dict[bytes, Entry], ready: bytes = b"", in_place: bool = True) -> Plan:
    old, new = Tree({TOP: DIRECTORY, **before}), Tree({TOP: DIRECTORY, **after})
    has = {bytes([one]) * 32 for one in ready}.__contains__
    return Planner(old, Groups(old.entries()), has, in_place).plan(old.diff(new))


def chosen(made: Plan) -> list[tuple[How, bytes, list[bytes]]]:
    return [(unit.how, unit.source, unit.names) for unit in made.units]


def test_attributes_alone_keep_the_inode() -> None:
    """A chmod of 100 GB is a chmod."""
    assert chosen(plan({b"a": file(b"1")}, {b"a": file(b"1", mode=0o600)})) == [(How.KEEP, b"a", [])]


def test_a_renamed_file_is_not_copied() -> None:
    """Moving a model of 100 GB must not cost 100 GB."""
    made = plan({b"a": big(b"1")}, {b"b": big(b"1")})
    assert chosen(made) == [(How.RENAME, b"a", [b"b"])]
    assert made.gone == [b"a"]


def test_a_large_file_is_changed_in_place_when_its_new_blocks_are_ready() -> None:
    """A database of 10 GB that changes a page costs a block."""
    before, after = {b"db": big(b"1")}, {b"db": big(b"2")}
    assert chosen(plan(before, after, ready=b"2")) == [(How.PATCH, b"db", [])]
    assert chosen(plan(before, after, ready=b"")) == [(How.BUILD, b"", [b"db"])]
    assert chosen(plan(before, after, ready=b"2", in_place=False)) == [(How.BUILD, b"", [b"db"])]


def test_a_rotated_log_goes_first() -> None:
    """log → log.1, and a new log: the old inode becomes log.1, and must not be changed in place as the new log."""
    made = plan({b"log": big(b"1")}, {b"log": big(b"2"), b"log.1": big(b"1")}, ready=b"2")
    assert chosen(made) == [(How.BUILD, b"", [b"log"]), (How.RENAME, b"log", [b"log.1"])]


def test_a_new_name_is_linked_to_the_inode_that_is_there() -> None:
    """`ln a b` touches no content."""
    made = plan({b"a": file(b"1")}, {b"a": file(b"1", link=b"a"), b"b": file(b"1", link=b"a")})
    assert chosen(made) == [(How.KEEP, b"a", [b"b"])]


def test_a_group_that_splits_gets_two_inodes() -> None:
    """`cp b c; mv c b`: the content is the same, the inode is not; a write to one would show in the other."""
    before = {b"a": file(b"1", link=b"a"), b"b": file(b"1", link=b"a")}
    made = plan(before, {b"a": file(b"1"), b"b": file(b"1")})
    assert chosen(made) == [(How.KEEP, b"a", []), (How.BUILD, b"", [b"b"])]


def test_an_inode_that_unchanged_names_share_is_theirs() -> None:
    """Whoever leaves the group takes a copy with it."""
    before = {path: file(b"1", link=b"a") for path in (b"a", b"b", b"c")}
    made = plan(before, {b"a": before[b"a"], b"b": before[b"b"], b"c": big(b"2")}, ready=b"2.")
    assert (How.BUILD, b"", [b"c"]) in chosen(made)
    assert all(unit.how is How.KEEP for unit in made.units if b"a" in unit.all_names)


def test_a_directory_and_a_file_never_replace_each_other_directly() -> None:
    """rename(2) refuses that: the old one goes first, from the deepest name up."""
    made = plan({b"x": DIRECTORY, b"x/y": file(b"1")}, {b"x": file(b"2")})
    assert made.gone == [b"x/y", b"x"]
    made = plan({b"x": file(b"2")}, {b"x": DIRECTORY, b"x/y": file(b"1")})
    assert made.gone == [b"x"]
    assert made.directories == [b"x"]


def test_directories_that_are_only_worked_in_are_dressed_again() -> None:
    """Their times change by our work, even when the commit did not change them."""
    made = plan({b"d": DIRECTORY, b"d/a": file(b"1")}, {b"d": DIRECTORY})
    assert set(made.dressed) == {b"d"}
