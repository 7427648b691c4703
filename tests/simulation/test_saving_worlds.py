"""Real saves beside real prunes, in every order that seeds make: nothing is lost, and what nobody needs goes."""

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from dumont.errors import DumontError
from tests.simulation.saving.faulty import FAULTY
from tests.simulation.saving.trees import Trees, made_trees
from tests.simulation.saving.world import World, run_world

WORLDS = int(os.environ.get("SAVING_SEEDS", "24"))
CONTROL_WORLDS = 200
KNOWN = {
    "a saver that remembers too few index objects": 16,
    "a write-only host that forgets index objects of its saves": 6,
    "a saver that believes any index object": 14,
}
"""A seed that lost something once, so that a control need not look for one."""


@pytest.fixture(name="trees", scope="module")
def _trees() -> Iterator[Trees]:
    with made_trees() as trees:
        yield trees


@pytest.mark.timeout(900)
def test_real_saves_lose_nothing_beside_real_prunes(trees: Trees) -> None:
    """A save that said OK and can't be restored is the one thing that must never happen."""
    done: Counter[str] = Counter()
    for seed in range(WORLDS):
        world = _tried(seed, trees)
        done.update(world.done, saved=len(world.witness.acked))
    assert done["saved"] > WORLDS and done["pruned"] > WORLDS / 2, (
        f"worlds in which little happens prove little: {done}"
    )


def test_the_same_seed_gives_the_same_world_of_saves(trees: Trees) -> None:
    """Otherwise a failing seed could not be replayed."""
    assert _tried(5, trees).gate.trace == _tried(5, trees).gate.trace


@pytest.mark.timeout(900)
@pytest.mark.parametrize("protection", FAULTY)
def test_a_world_of_saves_notices_each_protection_that_is_gone(trees: Trees, protection: str) -> None:
    """A world that loses nothing whatever is switched off would show nothing."""
    for seed in [*([KNOWN[protection]] if protection in KNOWN else []), *range(CONTROL_WORLDS)]:
        try:
            run_world(seed, trees, FAULTY[protection])
        except (AssertionError, DumontError):
            return
    pytest.fail(f"{CONTROL_WORLDS} worlds have not noticed {protection}")


def _tried(seed: int, trees: Trees) -> World:
    try:
        return run_world(seed, trees)
    except (AssertionError, DumontError) as error:
        raise AssertionError(f"python -m tests.simulation.saving SEED={seed} replays: {error}") from error
