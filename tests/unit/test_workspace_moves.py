"""The moves of a workspace's state: one table, one function."""

import itertools
from dataclasses import replace

import pytest

from dumont.errors import IllegalMove
from dumont.model.workspace import MOVES, State, move
from tests.unit.views import a_workspace


@pytest.mark.parametrize(("before", "after"), list(itertools.product(State, State)))
def test_a_state_moves_only_as_the_table_says(before: State, after: State) -> None:
    """A state that can be reached in two ways has two meanings."""
    row = a_workspace(state=before)
    if after is before or after in MOVES[before]:
        assert move(row, after) == replace(row, state=after)
    else:
        with pytest.raises(IllegalMove, match=f"vox: {before} → {after}"):
            move(row, after)


def test_every_state_but_deleted_can_be_left_towards_deletion() -> None:
    """A user can always get rid of a workspace, whatever is wrong with it."""
    for state in set(State) - {State.DELETING, State.DELETED}:
        assert State.DELETING in MOVES[state]
    assert MOVES[State.DELETING] == {State.DELETED}
    assert MOVES[State.DELETED] == set()


def test_every_state_can_be_reached_from_the_first() -> None:
    """One that can't is dead code."""
    reached = {State.LAUNCHING}
    while more := set().union(*(MOVES[state] for state in reached)) - reached:
        reached |= more
    assert reached == set(State)
