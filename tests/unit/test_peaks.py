"""Peaks at the server: what a machine said of its GPU's memory is written down, for predictions to be graded by."""

from datetime import UTC, datetime, timedelta
from random import Random

from dumont.control.act import Acts, Landing
from dumont.control.observe import Observatory
from dumont.control.peaks import ADVISED, MEASURED, UNKNOWN_FOR_S, WRITE_EVERY_S, Peaks, facts_of, is_plausible
from dumont.db.memory import MemoryDatabase
from dumont.model.event import Event
from dumont.model.instance import Instance, InstanceState, Machine, Role
from dumont.wire.control import Endpoints, GpuPeak, Meters, Scope, Status

START = datetime(2026, 11, 24, tzinfo=UTC)
GB = 10**9


class HandClock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time

    def now(self) -> datetime:
        return START + timedelta(seconds=self.time)

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def peak(gb: float, **more: object) -> GpuPeak:
    told = {"card": "RTX 4090", "card_bytes": 24 * GB, "gpus": 1, "every_ms": 1000, "scope": Scope.DEVICE, **more}
    return GpuPeak(bytes=round(gb * GB), **told)  # type: ignore[arg-type]


class Server:
    """A server process over a database in memory, with one GPU and one CPU machine of an advised workspace."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.database = MemoryDatabase(self.clock)
        self.restart()

    def restart(self) -> None:
        """Another process over the same database."""
        self.observatory = Observatory(self.clock)
        landing = Landing(server_port=1, ca_pem="", token_for=lambda instance_id: instance_id)
        self.acts = Acts(self.database, {}, landing, self.clock, Random(1))
        self.peaks = Peaks(self.acts, self.observatory)

    async def launch(self, *, advised: bool = True) -> None:
        if advised:
            await self.database.add_event(Event(workspace="tune", at=START, kind=ADVISED, facts={"memory_gb": 20.0}))
        for id, machine in (("gpu-1", Machine.GPU), ("cpu-1", Machine.CPU)):
            await self.database.add_instance(instance(id, machine))

    def say(self, found: GpuPeak | None, id: str = "gpu-1") -> None:
        self.observatory.status(Status(id, 1, Role.PRIMARY, Endpoints("h"), meters=Meters(gpu_peak=found)))

    async def look(self, after_s: float = 5.0) -> list[dict[str, object]]:
        """One round, so much later; everything that is written by then."""
        self.clock.time += after_s
        await self.peaks.round()
        return [dict(event.facts) for event in await self.database.happened(MEASURED)]


def instance(id: str, machine: Machine, state: InstanceState = InstanceState.RENTED) -> Instance:
    return Instance(
        id=id,
        workspace="tune",
        machine=machine,
        provider="vast",
        state=state,
        price_micros_per_hour=1,
        created_at=START,
        gone_at=START if state is InstanceState.GONE else None,
    )


async def test_a_peak_is_written_with_its_card_and_how_it_was_read() -> None:
    """Who reads a grade wants to know what it rests on (I9)."""
    server = Server()
    await server.launch()
    server.say(peak(18.25))
    assert await server.look() == [
        {
            "instance": "gpu-1",
            "memory_gb": 18.25,
            "card": "RTX 4090",
            "card_gb": 24.0,
            "scope": "device",
            "every_s": 1.0,
        }
    ]
    assert len(await server.look()) == 1, "what did not change is not written again"


async def test_growth_is_written_now_and_then_and_at_the_end() -> None:
    """Memory climbs for minutes while a model loads; the timeline is read by people."""
    server = Server()
    await server.launch()
    server.say(peak(1.0))
    await server.look()
    for gigabytes in range(2, 10):
        server.say(peak(float(gigabytes)))
        await server.look(1.0)
    assert [facts["memory_gb"] for facts in await server.look(0.0)] == [1.0]
    assert [facts["memory_gb"] for facts in await server.look(WRITE_EVERY_S)] == [1.0, 9.0]
    server.say(peak(9.001))
    assert len(await server.look(WRITE_EVERY_S)) == 2, "a thousandth is no news while it goes on"
    server.say(peak(12.0))
    await server.look(1.0)
    await server.database.save_instance(instance("gpu-1", Machine.GPU, InstanceState.GONE))
    server.observatory.forget(set())
    assert [facts["memory_gb"] for facts in await server.look(1.0)] == [1.0, 9.0, 12.0]
    assert len(await server.look()) == 3


async def test_another_process_goes_on_where_the_last_one_stopped() -> None:
    """A server is killed and started all the time: neither is a peak lost, nor written over and over."""
    server = Server()
    await server.launch()
    server.say(peak(18.2504))
    await server.look()
    server.restart()
    server.say(peak(18.2504))
    assert len(await server.look()) == 1
    server.say(peak(19.0))
    assert [facts["memory_gb"] for facts in await server.look(WRITE_EVERY_S)] == [18.25, 19.0]


async def test_a_new_epoch_on_the_same_machine_takes_nothing_back() -> None:
    """A workspace that came back to its machine begins to measure anew; its run is one."""
    server = Server()
    await server.launch()
    server.say(peak(5.0))
    await server.look()
    server.say(peak(18.0))
    await server.look(1.0)
    server.say(peak(2.0))
    assert [facts["memory_gb"] for facts in await server.look(WRITE_EVERY_S)] == [5.0, 18.0]
    server.say(peak(2.0, at_least=True))
    written = await server.look(WRITE_EVERY_S)
    assert (written[-1]["memory_gb"], written[-1]["at_least"]) == (18.0, True)


async def test_an_unknown_peak_is_written_once_and_with_its_reason() -> None:
    """Not zero, and not at once: the first reading may come before the first byte."""
    server = Server()
    await server.launch()
    server.say(GpuPeak(why="no_driver", every_ms=1000))
    assert await server.look() == []
    assert await server.look(UNKNOWN_FOR_S) == [{"instance": "gpu-1", "why": "no_driver"}]
    assert len(await server.look(UNKNOWN_FOR_S)) == 1
    server.say(peak(3.0))
    assert [facts.get("memory_gb") for facts in await server.look()] == [None, 3.0]


async def test_who_says_nothing_and_who_was_not_advised_gets_no_event() -> None:
    """Old agents don't know the field; standbys compute nothing, whatever card is in them; and nobody predicted."""
    server = Server()
    await server.launch()
    server.say(None)
    server.say(peak(18.0), "cpu-1")
    assert await server.look() == []
    alone = Server()
    await alone.launch(advised=False)
    alone.say(peak(18.0))
    assert await alone.look() == []


def test_a_hosts_word_is_bounded() -> None:
    """Hosts are strangers (I7): what no card can show would spoil everybody's estimates, and names are printed."""
    assert is_plausible(peak(18.0)) and is_plausible(GpuPeak(why="no_driver"))
    for wrong in (peak(24.1), peak(0.0), peak(-1.0), peak(18.0, card_bytes=2**60), peak(18.0, scope=None)):
        assert not is_plausible(wrong), wrong
    facts = facts_of("gpu-1", peak(1.0, card="[red]\x1b[31m" + "x" * 200))
    assert facts["card"] == ("red31m" + "x" * 200)[:60]
    assert facts_of("gpu-1", GpuPeak(why="no\ndriver"))["why"] == "nodriver"
