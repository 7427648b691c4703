"""What every provider promises, by the words of its port; one suite for all drivers."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from dumont.clock import SystemClock
from dumont.emulate.vast.faults import Fault as VastFault
from dumont.errors import NoCapacity, NoSuchInstance, ProviderError
from dumont.model.instance import Machine
from dumont.provider.base import Boot, Machinery, Need, Offer, Phase
from dumont.provider.jail import Mode
from dumont.provider.local import LocalProvider
from dumont.provider.memory import Faults, MemoryProvider, Rented
from tests.clocks import HandClock
from tests.emulators import gce_stand as google
from tests.emulators import vast_stand as vast
from tests.emulators.gce_stand import RentedGce, gce_stand
from tests.emulators.vast_stand import RentedVast, vast_stand
from tests.integration.landlord import landlord

ALIVE = (Phase.STARTING, Phase.RUNNING)
PATIENCE_S = 30.0
Driver = LocalProvider | MemoryProvider | RentedVast | RentedGce


async def offer_of(provider: Driver, machine: Machine = Machine.GPU) -> Offer:
    return (await provider.offers(Need(machine=machine)))[0]


async def rent(provider: Driver, offer: Offer, label: str) -> Machinery:
    boot = Boot(instance_id=label, server_host=provider.server_host, server_port=1, ca_pem="ca", join_token=label)
    return await provider.rent(offer, label, boot)


async def labels(provider: Driver) -> list[str]:
    return sorted(machine.label for machine in await provider.machines())


async def eventually(provider: Driver, ref: str, phase: Phase) -> None:
    """Wait until the machine is in this phase; real machines need a moment, bounded here."""
    clock = SystemClock()
    began = clock.monotonic()
    while (await provider.machine(ref)).phase is not phase:
        assert clock.monotonic() - began < PATIENCE_S, f"{ref} did not become {phase}"
        await clock.sleep(0.005)


class ProviderContract:
    """Bind it to a driver with a fixture `provider` whose capacity is two machines of `kind`, and any number of the
    other `kinds` that it sells."""

    kind = Machine.GPU
    kinds: tuple[Machine, ...] = tuple(Machine)

    async def test_offers_are_of_the_machine_asked_for(self, provider: Driver) -> None:
        """A CPU offered as a GPU would be paid for as one; money is an integer."""
        for machine in self.kinds:
            offers = await provider.offers(Need(machine=machine))
            assert offers
            for offer in offers:
                assert (offer.machine, offer.provider) == (machine, provider.name)
                assert isinstance(offer.price_micros_per_hour, int)
                assert offer.price_micros_per_hour > 0

    async def test_the_server_has_an_address_for_machines(self, provider: Driver) -> None:
        """A machine that can't find its server is money for nothing."""
        assert provider.server_host

    async def test_a_rented_machine_is_listed_under_its_label(self, provider: Driver) -> None:
        """The sweeper knows a machine by its label alone (I4)."""
        machine = await rent(provider, await offer_of(provider, self.kind), "gpu-1")
        assert machine.label == "gpu-1"
        assert machine.phase in ALIVE
        assert [(m.ref, m.label) for m in await provider.machines()] == [(machine.ref, "gpu-1")]
        assert (await provider.machine(machine.ref)).label == "gpu-1"

    async def test_a_rented_machine_comes_to_run(self, provider: Driver) -> None:
        """STARTING is a phase that ends."""
        machine = await rent(provider, await offer_of(provider, self.kind), "gpu-1")
        await eventually(provider, machine.ref, Phase.RUNNING)

    async def test_a_label_is_rented_only_once(self, provider: Driver) -> None:
        """A rent that is repeated after a crash must not cost twice."""
        offer = await offer_of(provider, self.kind)
        first = await rent(provider, offer, "gpu-1")
        second = await rent(provider, offer, "gpu-1")
        assert first.ref == second.ref
        assert await labels(provider) == ["gpu-1"]

    async def test_a_label_is_rented_only_once_by_two_at_a_time(self, provider: Driver) -> None:
        """Two server processes may act on one intent in the same instant."""
        offer = await offer_of(provider, self.kind)
        machines = await asyncio.gather(*(rent(provider, offer, "gpu-1") for _ in range(4)))
        assert len({machine.ref for machine in machines}) == 1
        assert await labels(provider) == ["gpu-1"]

    async def test_labels_tell_machines_apart(self, provider: Driver) -> None:
        """Two workspaces must never share a machine."""
        offer = await offer_of(provider, self.kind)
        machines = await asyncio.gather(*(rent(provider, offer, label) for label in ("gpu-1", "gpu-2")))
        assert len({machine.ref for machine in machines}) == 2
        assert await labels(provider) == ["gpu-1", "gpu-2"]

    async def test_without_capacity_nothing_is_rented(self, provider: Driver) -> None:
        """NoCapacity is a clear no: whoever gets it may take another offer without looking for a machine first."""
        offer = await offer_of(provider, self.kind)
        for label in ("gpu-1", "gpu-2"):
            await rent(provider, offer, label)
        assert await provider.offers(Need(machine=self.kind)) == []
        with pytest.raises(NoCapacity):
            await rent(provider, offer, "gpu-3")
        assert await labels(provider) == ["gpu-1", "gpu-2"]
        for other in set(self.kinds) - {self.kind}:
            assert await provider.offers(Need(machine=other))

    async def test_a_machine_that_is_rented_is_returned_also_without_capacity(self, provider: Driver) -> None:
        """Idempotency holds when the machine itself used up the capacity."""
        offer = await offer_of(provider, self.kind)
        provider.capacity[self.kind] = 1
        first = await rent(provider, offer, "gpu-1")
        assert (await rent(provider, offer, "gpu-1")).ref == first.ref

    async def test_letting_a_machine_go_makes_room(self, provider: Driver) -> None:
        """Otherwise the replacement of a lost machine could never be rented."""
        offer = await offer_of(provider, self.kind)
        provider.capacity[self.kind] = 1
        await provider.release((await rent(provider, offer, "gpu-1")).ref)
        assert (await rent(provider, await offer_of(provider, self.kind), "gpu-2")).phase in ALIVE

    async def test_an_unknown_machine_is_confirmed_to_be_none(self, provider: Driver) -> None:
        """Only this answer lets us forget a machine (I6)."""
        with pytest.raises(NoSuchInstance):
            await provider.machine("never-was")

    async def test_a_released_machine_is_gone(self, provider: Driver) -> None:
        """Destroyed means the provider confirmed it (I4)."""
        machine = await rent(provider, await offer_of(provider, self.kind), "gpu-1")
        await provider.release(machine.ref)
        assert await provider.machines() == []
        with pytest.raises(NoSuchInstance):
            await provider.machine(machine.ref)

    async def test_releasing_twice_is_harmless(self, provider: Driver) -> None:
        """A release is repeated until it was confirmed."""
        offer = await offer_of(provider, self.kind)
        machine, other = await rent(provider, offer, "gpu-1"), await rent(provider, offer, "gpu-2")
        await provider.release(machine.ref)
        await provider.release(machine.ref)
        assert [m.ref for m in await provider.machines()] == [other.ref]

    async def test_releasing_by_two_at_a_time_is_harmless(self, provider: Driver) -> None:
        """The sweeper and a workspace's removal may meet."""
        machine = await rent(provider, await offer_of(provider, self.kind), "gpu-1")
        await asyncio.gather(*(provider.release(machine.ref) for _ in range(3)))
        assert await provider.machines() == []

    async def test_releasing_what_never_was_is_harmless(self, provider: Driver) -> None:
        """An intent may have been written for a machine that was never rented."""
        await provider.release("never-was")
        assert await provider.machines() == []

    async def test_a_machine_that_died_is_listed_until_it_is_released(self, provider: Driver) -> None:
        """It stopped, and says so: STOPPED is a witness; it may still be billed, so it must stay in sight."""
        machine = await rent(provider, await offer_of(provider, self.kind), "gpu-1")
        await provider.kill(machine.ref)
        await eventually(provider, machine.ref, Phase.STOPPED)
        assert [m.phase for m in await provider.machines()] == [Phase.STOPPED]
        await provider.release(machine.ref)
        assert await provider.machines() == []

    async def test_a_dead_machine_is_not_replaced_under_its_label(self, provider: Driver) -> None:
        """A label means one machine. A new one under the same label would be an empty disk taken for the old one."""
        offer = await offer_of(provider, self.kind)
        machine = await rent(provider, offer, "gpu-1")
        await provider.kill(machine.ref)
        await eventually(provider, machine.ref, Phase.STOPPED)
        again = await rent(provider, offer, "gpu-1")
        assert (again.ref, again.phase) == (machine.ref, Phase.STOPPED)

    async def test_a_dead_machine_takes_no_capacity(self, provider: Driver) -> None:
        """Its replacement is rented before the dead one is let go (I5)."""
        offer = await offer_of(provider, self.kind)
        provider.capacity[self.kind] = 1
        machine = await rent(provider, offer, "gpu-1")
        await provider.kill(machine.ref)
        await eventually(provider, machine.ref, Phase.STOPPED)
        assert (await rent(provider, offer, "gpu-2")).phase in ALIVE


class TestMemory(ProviderContract):
    @pytest.fixture
    def provider(self) -> MemoryProvider:
        return MemoryProvider(HandClock(), Random(1), capacity={Machine.GPU: 2}, faults=Faults(slow_s=1))


class TestVast(ProviderContract):
    """The real driver before the emulated service, which keeps its published call rates; the clock is virtual."""

    @pytest.fixture
    async def provider(self) -> AsyncIterator[RentedVast]:
        async with vast_stand() as stand:
            stand.world.habits.change({"limits": True, "boot_s": 40.0, "doubled_share": 0.3, "sloppy_share": 0.3})
            yield stand.provider


class TestVastInBadWeather(ProviderContract):
    """The same promises under each class of what the service is known to do, and under all of them."""

    @pytest.fixture(params=[*vast.WEATHER, "all"])
    async def provider(self, request: pytest.FixtureRequest) -> AsyncIterator[RentedVast]:
        habits, faults = vast.all_of_it() if request.param == "all" else vast.WEATHER[request.param]
        async with vast_stand() as stand:
            stand.world.habits.change(habits)
            for fault in faults:
                stand.world.book.add(VastFault(**fault))
            yield stand.provider


class TestGce(ProviderContract):
    """Google sells us CPUs alone. Its capacity is a quota here, and time passes with every call."""

    kind = Machine.CPU
    kinds = (Machine.CPU,)

    @pytest.fixture
    async def provider(self) -> AsyncIterator[RentedGce]:
        async with gce_stand(capacity=2) as provider:
            yield provider


class TestGceInBadWeather(TestGce):
    """The same promises under each class of fault: calls refused for their rate or cut off before and after they acted,
    operations forgotten at once, machines that linger and leave disks and addresses behind; and under all of them."""

    @pytest.fixture(params=[*google.WEATHER, "all"])
    async def provider(self, request: pytest.FixtureRequest) -> AsyncIterator[RentedGce]:
        async with gce_stand(capacity=2) as provider:
            whole = google.bad_weather() if request.param == "all" else google.WEATHER[request.param]
            provider.faults.change(whole)
            yield provider


class TestLocalPlain(ProviderContract):
    @pytest.fixture
    async def provider(self, short_dir: Path) -> AsyncIterator[LocalProvider]:
        async with landlord(short_dir, Mode.PLAIN, capacity={Machine.GPU: 2}) as provider:
            yield provider


class TestLocalJail(ProviderContract):
    @pytest.fixture
    async def provider(self, short_dir: Path) -> AsyncIterator[LocalProvider]:
        async with landlord(short_dir, Mode.JAIL, capacity={Machine.GPU: 2}) as provider:
            yield provider


class TestLocalNetns(ProviderContract):
    @pytest.fixture
    async def provider(self, short_dir: Path) -> AsyncIterator[LocalProvider]:
        async with landlord(short_dir, Mode.NETNS, capacity={Machine.GPU: 2}) as provider:
            yield provider


# --- the in-memory driver's faults, on which the simulator's verdicts rest


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def memory(clock: HandClock) -> MemoryProvider:
    return MemoryProvider(clock, Random(7))


async def test_an_outage_is_an_error_and_never_an_empty_list(memory: MemoryProvider) -> None:
    """An empty list would tell the control loop that every machine is gone."""
    await rent(memory, await offer_of(memory), "gpu-1")
    memory.faults.outage = True
    with pytest.raises(ProviderError):
        await memory.machines()
    with pytest.raises(ProviderError) as error:
        await memory.machine("m1")
    assert not isinstance(error.value, NoSuchInstance)


async def test_a_lost_answer_leaves_a_machine_that_its_label_finds(memory: MemoryProvider) -> None:
    """The worst moment to lose an answer: it is paid for, and nobody was told."""
    offer = await offer_of(memory)
    memory.faults.lost_share = 1
    with pytest.raises(ProviderError) as error:
        await rent(memory, offer, "gpu-1")
    assert not isinstance(error.value, NoCapacity)
    assert await labels(memory) == ["gpu-1"]
    assert (await rent(memory, offer, "gpu-1")).ref == memory.rented[0].ref
    with pytest.raises(ProviderError):
        await memory.release("m1")
    await memory.release("m1")
    assert memory.rented == []


async def test_an_error_before_renting_leaves_nothing(memory: MemoryProvider) -> None:
    """The same error as for a lost answer: only `machines` tells them apart."""
    offer = await offer_of(memory)
    memory.faults.error_share = 1
    with pytest.raises(ProviderError):
        await rent(memory, offer, "gpu-1")
    assert memory.rented == []


async def test_a_stale_list_lies_for_as_long_as_it_was_told(memory: MemoryProvider, clock: HandClock) -> None:
    """Real providers list a machine late, and a destroyed one for some time more."""
    offer = await offer_of(memory)
    clock.seconds = 100
    memory.faults.stale_s = 5
    machine = await rent(memory, offer, "gpu-1")
    assert await labels(memory) == []
    clock.seconds = 105
    assert await labels(memory) == ["gpu-1"]
    await memory.release(machine.ref)
    assert await labels(memory) == ["gpu-1"]
    clock.seconds = 111
    assert await labels(memory) == []


async def test_booting_takes_virtual_time_only(memory: MemoryProvider, clock: HandClock) -> None:
    """A simulated hour must not take an hour."""
    memory.faults.boot_s = 3600
    machine = await rent(memory, await offer_of(memory), "gpu-1")
    assert machine.phase is Phase.STARTING
    clock.seconds += 3600
    assert (await memory.machine(machine.ref)).phase is Phase.RUNNING


async def test_the_simulator_hears_of_starts_and_ends_once(memory: MemoryProvider) -> None:
    """It runs one node per machine; a second start would be a second writer."""
    heard: list[tuple[str, str]] = []

    def started(rented: Rented) -> None:
        heard.append(("start", rented.label))

    def ended(rented: Rented) -> None:
        heard.append(("end", rented.label))

    memory.on_start, memory.on_end = started, ended
    offer = await offer_of(memory)
    for _ in range(2):
        await rent(memory, offer, "gpu-1")
    for _ in range(2):
        memory.preempt("m1")
    for _ in range(2):
        await memory.release("m1")
    assert heard == [("start", "gpu-1"), ("end", "gpu-1")]


async def test_the_same_seed_fails_the_same_calls() -> None:
    """A failing world is replayed from its seed."""

    async def outcomes(seed: int) -> list[bool]:
        provider = MemoryProvider(HandClock(), Random(seed), faults=Faults(error_share=0.5))
        seen = []
        for _ in itertools.repeat(None, 32):
            try:
                await provider.machines()
                seen.append(True)
            except ProviderError:
                seen.append(False)
        return seen

    assert await outcomes(3) == await outcomes(3)
    assert await outcomes(3) != await outcomes(4)
