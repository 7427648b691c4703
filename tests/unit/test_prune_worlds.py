"""Prunes beside savers, in every order that seeds make: nothing that is needed is lost, and what is not needed goes."""

import os

import pytest

from dumont.model.commit import Commit
from dumont.repository.record import VERSION, CommitRecord, Pending
from dumont.repository.upkeep.claims import Claims
from dumont.repository.upkeep.prune import Prune
from tests.unit.prune_world import Faulty, first_loss, run_world

SEEDS = int(os.environ.get("PRUNE_SEEDS", "300"))
CONTROL_SEEDS = 1500


class _DoesNotLookAgain(Prune):
    async def _look_again(self, doomed: set[str]) -> set[str]:
        return set()


class _Hasty(Claims):
    """Removes old pending records without stopping their savers."""

    async def _void(self, name: str, pending: Pending) -> CommitRecord | None:
        nothing = Commit(pending.commit, None, b"", 0, consistent=False)
        return CommitRecord(VERSION, nothing, pending=name, void=True)


class _DoesNotVoid(Prune):
    claims = _Hasty


class _IgnoresNumbers(Claims):
    """Takes any commit of the number for the pending saver's own."""

    async def _is_over(self, name: str, pending: Pending, change: bool) -> bool:
        return await self._commit(pending) is not None or await super()._is_over(name, pending, change)


class _MistakesCommits(Prune):
    claims = _IgnoresNumbers


class _SaysNothing(Prune):
    """Without a doomed record nobody knows."""

    async def _doomed_by(self, name: str) -> list[str]:
        return []

    async def _run(self) -> None:
        view, doomed = await self._choose()
        doomed |= await self._repack(doomed)
        stay = await self._look_again(doomed)
        await self._delete(view, doomed - stay)


@pytest.mark.parametrize("tenth", range(10))
def test_nothing_needed_is_lost_whatever_pauses_or_dies(tenth: int) -> None:
    """A prune that saves money and loses one chunk is not worth having."""
    pruned = acked = 0
    for seed in range(tenth, SEEDS, 10):
        world = run_world(seed)
        pruned += world.pruned
        acked += len(world.acked)
    assert pruned and acked, "worlds in which nothing happens prove nothing"


@pytest.mark.parametrize(
    ("faulty", "known"),
    [
        pytest.param(Faulty(look_again=False), 3, id="a saver that does not look again"),
        pytest.param(Faulty(pending=False), 3, id="a saver without a pending record"),
        pytest.param(Faulty(confirm=False), 0, id="a saver that believes any index object"),
        pytest.param(Faulty(pend_anew=False), 18, id="a saver that takes another number without pending for it"),
        pytest.param(Faulty(prune=_DoesNotLookAgain), 0, id="a prune that does not look again"),
        pytest.param(Faulty(prune=_DoesNotVoid), 104, id="a prune that removes pending records by age"),
        pytest.param(Faulty(prune=_MistakesCommits), 580, id="a prune that mistakes another's commit"),
        pytest.param(Faulty(prune=_SaysNothing), 13, id="a prune that does not say what it will delete"),
    ],
)
def test_each_protection_is_needed(faulty: Faulty, known: int) -> None:
    """A world that can't lose data would not notice a protection that is gone. `known`: a seed that lost some once."""
    assert first_loss(faulty, [known, *range(CONTROL_SEEDS)]) is not None
