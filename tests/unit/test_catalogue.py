"""The catalogue: which of a chunk's places may be relied on, and which is claimed."""

from dumont.repository.record import DATA, Pack
from dumont.repository.repository import Repository
from tests.unit.tiny_repository import TinyRepository

A, B = b"a" * 500, b"b" * 500


async def twice_stored() -> tuple[TinyRepository, Repository, Pack, Pack]:
    """A chunk that was stored, and again because a prune dooms the first pack."""
    tiny = await TinyRepository.make()
    first, second = [await tiny.store_pack([(DATA, [A])]) for _ in range(2)]
    repo = tiny.again()
    await repo.add_to_index([first])
    repo.catalogue.doomed = {first.name}
    assert repo.catalogue.relies_on(tiny.id(A)) is None and repo.catalogue.holding({tiny.id(A)}) == set()
    await repo.add_to_index([second])
    return tiny, repo, first, second


async def test_what_was_stored_anew_in_place_of_a_doomed_pack_is_relied_on_and_claimed() -> None:
    """A commit that names only what it claims would otherwise rest on a pack that the next prune may take."""
    tiny, repo, first, second = await twice_stored()
    assert repo.catalogue.relies_on(tiny.id(A)) == second
    assert repo.catalogue.holding({tiny.id(A), tiny.id(B)}) == {second.name}
    repo.catalogue.doomed = {first.name, second.name}
    assert repo.catalogue.relies_on(tiny.id(A)) is None and repo.catalogue.holding({tiny.id(A)}) == set()
    repo.catalogue.doomed = set()
    assert repo.catalogue.holding({tiny.id(A)}) == {first.name}, "one place is enough"


async def test_an_offer_is_no_second_place() -> None:
    """Nor is what a stranger's index says of a pack that is trusted for other reasons."""
    tiny, repo, first, _second = await twice_stored()
    repo = tiny.again()
    await repo.learn(await repo.look())
    third = await tiny.store_pack([(DATA, [B])])
    frame = third.frames[0]
    lie = Pack(third.name, third.writer, third.ephemeral, third.size, third.created_s, [*third.frames])
    lie.frames[0] = type(frame)(frame.offset, frame.length, frame.codec, frame.kind, 500, tiny.id(A), [500])
    for vouched in (False, True):
        catalogue = type(repo.catalogue)()
        catalogue.add([first], trusted=True)
        catalogue.add([lie], trusted=False)
        if vouched:
            catalogue.add([third], trusted=True)
        catalogue.doomed = {first.name}
        assert catalogue.relies_on(tiny.id(A)) is None
        assert catalogue.holding({tiny.id(A)}) == set()
        assert len(catalogue.places(tiny.id(A))) == 2, "to read from, it is as good as any"
