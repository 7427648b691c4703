"""Whole lives of a workspace in a tiny world that decide alone drives."""

from dataclasses import replace

from dumont.control.view import (
    Reason,
)
from dumont.model.commit import CommitId
from dumont.model.workspace import State, Wanted
from tests.unit.tiny_world import World, run


def test_a_workspace_launches_survives_its_gpu_and_moves_back() -> None:
    """The story that everything hangs on."""
    world = World()
    run(world, 10)
    assert world.is_well
    first = world.row.primary_id
    world.hosts[first].killed = True
    run(world, 60, until_well=True)
    assert world.is_well
    assert [promotion.reason for promotion in world.promotions] == [Reason.FIRST, Reason.FAILOVER, Reason.SWITCHOVER]
    assert [promotion.epoch for promotion in world.promotions] == [1, 2, 3]
    assert world.row.primary_id != first


def test_a_cut_off_primary_is_fenced_and_let_go_once_its_branch_is_kept() -> None:
    """It went on writing all the while."""
    world = World()
    run(world, 10)
    former = world.hosts[world.row.primary_id]
    former.cut = True
    run(world, 30)
    assert former in world.present()
    assert former.instance.lost
    former.cut = False
    run(world, 60, until_well=True)
    assert world.is_well
    assert world.branches == {f"{former.instance.id}-e1"}


def test_a_standby_that_dies_is_replaced_without_a_failover() -> None:
    """The primary goes on, degraded for as long as it takes."""
    world = World()
    run(world, 10)
    (standby,) = world.row.ack_set
    world.hosts[standby].killed = True
    run(world, 60, until_well=True)
    assert world.is_well
    assert [promotion.reason for promotion in world.promotions] == [Reason.FIRST]
    assert world.notices.count("degraded") == 1


def test_a_workspace_comes_back_from_the_store_when_both_machines_die() -> None:
    """Paired loss: only what the store had not yet received is gone."""
    world = World()
    run(world, 10)
    world.row = replace(world.row, stored=CommitId(1, 5))
    for host in world.present():
        host.killed = True
    run(world, 120, until_well=True)
    assert world.is_well
    assert Reason.RESTORE in [promotion.reason for promotion in world.promotions]
    assert "restored_from_store" in world.notices


def test_a_deleted_workspace_leaves_no_machine() -> None:
    """Nothing is billed afterwards."""
    world = World()
    run(world, 10)
    world.row = replace(world.row, wanted=Wanted.DELETED)
    run(world, 5)
    assert world.row.state is State.DELETED
    assert world.present() == []
