"""The catalogue: which pack a chunk is relied on to be in."""

from dumont.repository.catalogue import Catalogue
from dumont.repository.record import DATA, Frame, Pack

CHUNK = bytes(range(32))


def _pack(name: str) -> Pack:
    return Pack(name, "", b"", 100, 0, [Frame(0, 20, 0, DATA, 4, CHUNK, [4])])


def test_a_chunk_that_is_stored_again_is_relied_on_where_it_is_now():
    """A saver stores anew what lies in a doomed pack. If it named neither pack, a prune could take the new one, too."""
    catalogue = Catalogue()
    catalogue.add([_pack("old")], trusted=True)
    catalogue.doomed = {"old"}
    assert catalogue.relies_on(CHUNK) is None
    catalogue.add([_pack("new")], trusted=True)
    assert catalogue.holding({CHUNK}) == {"new"}
    assert [spot[0].name for spot in catalogue.places(CHUNK)] == ["new", "old"]


def test_the_first_pack_is_relied_on_while_nothing_dooms_it():
    """Two savers may store the same at once; what is relied on should not change with each index object."""
    catalogue = Catalogue()
    catalogue.add([_pack("old"), _pack("new")], trusted=True)
    assert catalogue.holding({CHUNK}) == {"old"}
