"""Losses of our own: what the sweeper and the shell write down of them, and what another process then believes."""

from collections.abc import AsyncIterator

import pytest

from dumont.control.learner import Learner
from dumont.market.lives import OwnLife
from dumont.model.instance import Instance, InstanceState, Machine
from dumont.model.offer import Interruption, Offer
from dumont.provider.market import Host
from tests.unit.test_shell import World, running, settle


def a_host(machine: Machine, name: str, **others: object) -> Host:
    made = Offer(
        id=name, provider="memory", machine=machine, name=name, price_micros_per_hour=100_000, host=name,
        domain=f"memory/{name}", min_bid_micros_per_hour=90_000, interruption=Interruption.OUTBID, **others,  # type: ignore[arg-type]
    )  # fmt: skip
    return Host(offer=made)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    world.provider.hosts = [
        a_host(Machine.GPU, "g1", gpu="RTX 4090", gpus=1),
        a_host(Machine.CPU, "c1"),
    ]
    await running(world)
    yield world
    await world.acts.close()
    for task in world.tasks:
        task.cancel()


async def gpu_of(world: World) -> Instance:
    return next(one for one in await world.database.instances(gone=True) if one.machine is Machine.GPU)


def lives(world: World) -> list[OwnLife]:
    return list(world.acts.listing.beliefs.own.get("memory/g1", ()))


async def test_what_was_taken_away_is_written_down_at_once_and_believed_by_every_process(world: World) -> None:
    """It may be let go for another reason, by another process, long after."""
    gpu = await gpu_of(world)
    world.clock.time += 3600.0
    world.provider.outbid(gpu.provider_ref)
    await world.sweeper.sweep(world.provider)
    found = await gpu_of(world)
    assert (found.ended, found.ended_at) == ("outbid", world.clock.now())
    (life,) = lives(world)
    assert life.interrupted
    assert life.bid_micros >= 90_000, "it was held at its bid"
    assert life.until_h(life.began_h + 99) - life.began_h == pytest.approx(1.0, abs=0.01)
    another = Learner(world.database, world.clock)
    await another.load()
    assert another.beliefs.own == world.acts.listing.beliefs.own


async def test_one_that_came_back_by_itself_was_taken_away_all_the_same(world: World) -> None:
    """An outbid machine resumes when its bid wins again; it is fenced, and let go once its branch is kept."""
    gpu = await gpu_of(world)
    world.provider.outbid(gpu.provider_ref)
    await world.sweeper.sweep(world.provider)
    world.provider.resume(gpu.provider_ref)
    for _ in range(3):
        await world.sweeper.sweep(world.provider)
        await world.passes()
    assert (await gpu_of(world)).ended == "outbid"
    assert [life.interrupted for life in lives(world)] == [True]


async def test_a_machine_that_nobody_tells_of_was_not_taken_away(world: World) -> None:
    """The negative control: it ended, and its provider does not say why (I6)."""
    gpu = await gpu_of(world)
    await world.database.spend_token(gpu.id, gpu.token_hash)
    await world.provider.kill(gpu.provider_ref)
    await world.sweeper.sweep(world.provider)
    assert (await gpu_of(world)).ended == ""
    world.provider.faults.outage = True
    await world.sweeper.sweep(world.provider)
    await settle()
    world.provider.faults.outage = False
    await world.sweeper.list_offers(world.provider)
    assert [life.interrupted for life in lives(world)] == [False]


async def test_a_machine_that_we_let_go_was_not_taken_away(world: World) -> None:
    """A workspace that is deleted ends its machines: those lives are censored, and count with their hours."""
    gpu = await gpu_of(world)
    await world.database.spend_token(gpu.id, gpu.token_hash)
    world.clock.time += 7200.0
    await world.database.want("train", (await world.row()).wanted.DELETED)
    await world.passes()
    assert (await gpu_of(world)).state is InstanceState.GONE
    (life,) = lives(world)
    assert not life.interrupted
    assert life.ended_h is not None and life.ended_h - life.began_h == pytest.approx(2.0, abs=0.01)
