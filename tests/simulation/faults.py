"""Mischief: what goes wrong in a world, when, chosen by its seed; and the end of it all."""

from typing import TYPE_CHECKING

from dumont.control.history import PROMOTED
from dumont.control.view import Reason
from dumont.model.instance import Machine as Kind
from dumont.model.workspace import Workspace
from dumont.provider.memory import Faults
from tests.simulation.machine import Machine
from tests.simulation.market import MarketMischief

if TYPE_CHECKING:
    from tests.simulation.world import World

_OTHERS = ("server", "gateway")
_SETTLED_S = 8.0


class Mischief:
    """Injects faults one after another; several may last at once. `log` tells the story of a failing seed."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._rng = world.rng
        self.log: list[str] = []
        self.forgiven = False
        """Both copies were hit at nearly the same time: nobody may be left to promote. Safety holds all the same."""
        self._disturbed: dict[str, float] = {}
        self._powerless: dict[str, int] = {}
        self._row: Workspace | None = None
        self._ambushing = False
        self._market = MarketMischief(world, self)

    @property
    def dry(self) -> bool:
        """No GPU that the policy allows comes back on offer."""
        return self._market.dry

    async def make(self, seconds: float) -> None:
        """Misbehave for so long."""
        world, rng = self._world, self._rng
        world.network.doubles = rng.choice([0.0, 0.1])
        end = world.clock.monotonic() + seconds
        hostile = [
            self._kill_machine, self._kill_machine, self._cut, self._cut, self._crash_engine, self._crash_server,
            self._freeze_server, self._fill_disk, self._break_fsync, self._power_cycle, self._slow_network,
            self._provider_lies, self._heal, self._stubborn, self._kill_primary, self._cut_primary,
            self._split, self._black_out, self._slow_disk, self._cling, self._ambush, *self._market.hostile(),
        ]  # fmt: skip
        harmless = [
            self._crash_server, self._freeze_server, self._provider_lies, self._slow_disk, *self._market.harmless(),
        ]  # fmt: skip
        focus = [fault for fault in hostile + harmless if fault.__name__ in world.surroundings.swaps.focus]
        while world.clock.monotonic() < end:
            await world.clock.sleep(rng.expovariate(1 / 2.5))
            fault = rng.choice(focus or (harmless if world.calm else hostile))
            fault()

    def heal_everything(self) -> None:
        """From now on nothing more goes wrong, and what was taken away stays gone."""
        world = self._world
        self.say("healed")
        world.network.cuts.clear()
        world.network.frozen.clear()
        world.stopped.clear()
        world.network.slow_s_max = 0.002
        self._ambushing = False
        self._market.heal()
        for machine in world.machines.values():
            machine.disk.full = machine.disk.failing = False
            machine.disk.slow_s = 0.0
            machine.stubborn, machine.clings = 0.0, False
            if machine.source:
                machine.source.stubborn = 0.0
        if world.server is None:
            world.start_server()

    def switchovers(self, row: Workspace) -> int:
        """How often the epoch may have grown in a calm world: none of its faults justifies a promotion.

        Only a GPU on demand may be moved away from, to the CPU and from there to the spot GPU that came for it.
        """
        rows, grown, may_move = self._world.database._instances, 0, False
        for event in self._world.database._events.get(row.name, []):
            if event.kind == PROMOTED:
                grown += may_move and event.facts["reason"] == Reason.SWITCHOVER
                leads = rows[str(event.facts["instance"])]
                comes_from_gpu, may_move = may_move, leads.machine is Kind.GPU and not leads.spot
                may_move = row.policy.return_to_gpu and (may_move or (comes_from_gpu and leads.machine is Kind.CPU))
        return grown

    # --- machines

    def may_lose(self, machine: Machine) -> bool:
        """Whether another healthy copy holds all that was acknowledged: losing both is a double failure, and allowed
        to lose. Rows and machines are looked at as they truly are, not as anybody believes them to be.
        """
        row = self._world.database._workspaces["sim"]
        healthy = {
            other.id
            for other in self._world.machines.values()
            if other is not machine and other.alive and not (other.disk.full or other.disk.failing)
        }
        if self._powerless.get(row.primary_id) == row.epoch:
            healthy.discard(row.primary_id)  # it restarted while it led: only its standby has everything
        leads = machine.id == row.primary_id or row.epoch == 0
        others = self._senior(row) & healthy if leads else {row.primary_id} & healthy
        now = self._world.clock.monotonic()
        shaken = others | {machine.id} if leads else others  # cut off lately, its ack set may be emptied just now
        if others and any(now - self._disturbed.get(name, -_SETTLED_S) < _SETTLED_S for name in shaken):
            self.forgiven = True
        return bool(others)

    def _senior(self, row: Workspace) -> set[str]:
        """Who of the ack set is known to hold everything: its oldest member."""
        instances = self._world.database._instances
        return set(sorted(row.ack_set, key=lambda one: (instances[one].created_at, one))[:1])

    def _kill_machine(self) -> None:
        if machine := self.victim():
            self.say(f"killed {machine.id}")
            machine.die()

    def _kill_primary(self) -> None:
        machine = self.the_primary()
        if machine and self.may_lose(machine):
            self.say(f"killed the primary {machine.id}")
            machine.die()

    def _black_out(self) -> None:
        """The primary is taken away while its standby loses power: only what was fsynced there is left."""
        machine = self.the_primary()
        if machine and self.may_lose(machine):
            others = self._world.database._workspaces["sim"].ack_set
            for standby in [self._world.machines[other] for other in sorted(others)]:
                if standby is not machine and standby.alive and standby.replica:
                    self.say(f"black-out: {standby.id} lost power, {machine.id} is gone")
                    standby.power_cycle()
                    machine.die()

    def _crash_engine(self) -> None:
        if (machine := self.some_machine()) and machine.replica:
            self.say(f"crashed the engine of {machine.id}")
            machine.crash_engine()
            self.later(self._rng.uniform(0.1, 3.0), machine.start_engine, machine)

    def _power_cycle(self) -> None:
        if (machine := self.victim()) and machine.replica:
            self.say(f"power-cycled {machine.id}")
            self.lose_power(machine)
            machine.power_cycle()

    def lose_power(self, machine: Machine) -> None:
        """What it had not fsynced is lost: it is no healthy copy in this epoch any more, should it lead."""
        self._powerless[machine.id] = self._world.database._workspaces["sim"].epoch

    def _fill_disk(self) -> None:
        if machine := self.victim():
            self.say(f"filled the disk of {machine.id}")
            machine.disk.full = True

    def _break_fsync(self) -> None:
        if machine := self.victim():
            self.say(f"fsync fails on {machine.id}")
            machine.disk.failing = True

    def _slow_disk(self) -> None:
        """Nothing is lost, and nobody is dead: what is slow is only slow (I6)."""
        if machine := self.some_machine():
            machine.disk.slow_s = self._rng.choice([0.02, 0.2, 0.6])
            self.note(f"an fsync of {machine.id} takes up to {machine.disk.slow_s} s")

    def _stubborn(self) -> None:
        if machine := self.some_machine():
            self.say(f"the workload of {machine.id} often can't be frozen")
            machine.stubborn = 0.7
            if machine.source:
                machine.source.stubborn = 0.7

    def _cling(self) -> None:
        """The primary's workload does not end, so that no switchover comes off; what follows is `after_event`'s."""
        if machine := self.the_primary():
            self.say(f"the workload of {machine.id} does not end")
            machine.clings = True

    def _ambush(self) -> None:
        """The next exchange of a standby is interrupted at its worst moment: see `after_event`."""
        self._ambushing = True

    def after_event(self) -> None:
        """What goes wrong in the very instant in which ownership changes, which no chance would ever hit."""
        before, self._row = self._row, self._world.database._workspaces["sim"]
        if before is None or before is self._row or before.primary_id != self._row.primary_id:
            return
        machine = self._world.machines.get(self._row.primary_id)
        if machine is None or machine.replica is None:
            return
        if before.epoch < self._row.epoch and before.switching_to:
            self._restart_who_clings(machine)
        joined = self._row.ack_set - before.ack_set
        if self._ambushing and joined and before.ack_set and before.epoch == self._row.epoch:
            self._interrupt(machine, before.ack_set, joined)

    def _interrupt(self, machine: Machine, members: frozenset[str], joined: frozenset[str]) -> None:
        """Neither the primary nor its standby is told who joined, whose disk is slow; then the primary dies."""
        self._ambushing = False
        network = self._world.network
        self.note(f"{machine.id} is not told that {', '.join(joined)} joined, and will die")
        for name in {machine.id, *members}:
            network.cut(name + "/engine", ["server"], "in")
        for name in joined:
            self._world.machines[name].disk.slow_s = 0.6

        def die() -> None:
            for name in members:
                network.heal(name + "/engine")
            if machine.alive and self.may_lose(machine):
                self.say(f"killed the primary {machine.id}, which was not told of its standby")
                machine.die()
            else:
                network.heal(machine.id + "/engine")

        self.later(self._rng.uniform(0.2, 2.0), die, None)

    def _restart_who_clings(self, machine: Machine) -> None:
        """A switchover was just given up to it, and it restarts before it is told."""
        if machine.clings and self.may_lose(machine):
            machine.clings = False
            self.say(f"power-cycled {machine.id}, to which a switchover has just been given up")
            self.lose_power(machine)
            machine.power_cycle()

    # --- network

    def _cut(self) -> None:
        if machine := self.some_machine():
            self._cut_off(machine)

    def _cut_primary(self) -> None:
        if machine := self.the_primary():
            self._cut_off(machine)

    def _cut_off(self, machine: Machine) -> None:
        direction = self._rng.choice(["both", "both", "out", "in"])
        self.cut_off(machine, direction, self._rng.choice([0.5, 1.5, 2.7, 4.0, 12.0]))

    def cut_off(self, machine: Machine, direction: str, seconds: float) -> None:
        """Silence one machine's network, one way or both."""
        self.say(f"cut {machine.id} off ({direction}) for {seconds} s")
        row = self._world.database._workspaces["sim"]
        sick = {other.id for other in self._world.machines.values() if other.disk.full or other.disk.failing}
        if sick & {row.primary_id, *row.ack_set} - {machine.id}:
            self.forgiven = True  # the other copy can't take over, and it may not be known yet
        others = [*_OTHERS, *(other.id + "/engine" for other in self._world.machines.values() if other is not machine)]
        for process in ("/engine", "/pulse"):
            self._world.network.cut(machine.id + process, others, direction)
        self.later(seconds, lambda: self._mend(machine), None)

    def _split(self) -> None:
        """Primary and standby don't reach each other; everybody else reaches both."""
        machine = self.the_primary()
        if machine:
            self.say(f"split {machine.id} from the other machines")
            others = [other.id + "/engine" for other in self._world.machines.values() if other is not machine]
            self._world.network.cut(machine.id + "/engine", others, self._rng.choice(["both", "out", "in"]))
            self.later(self._rng.uniform(0.5, 8.0), lambda: self._mend(machine), None)

    def _mend(self, machine: Machine) -> None:
        self.say(f"mended the network of {machine.id}")
        for process in ("/engine", "/pulse"):
            self._world.network.heal(machine.id + process)

    def _slow_network(self) -> None:
        self._world.network.slow_s_max = self._rng.choice([0.002, 0.02, 0.1])
        self.say(f"the network takes up to {self._world.network.slow_s_max} s")

    def _heal(self) -> None:
        self.say("mended the network")
        self._world.network.cuts.clear()

    # --- server and provider

    def _crash_server(self) -> None:
        if self._world.server:
            self.note("killed the server")
            self._world.crash_server()
            self.later(self._rng.choice([0.1, 1.0, 5.0]), self._restart_server, None)

    def _restart_server(self) -> None:
        if self._world.server is None:
            self._world.start_server()

    def _freeze_server(self) -> None:
        seconds = self._rng.choice([0.4, 2.0, 2.6, 10.0])
        self.note(f"froze the server for {seconds} s")
        self._world.stopped.add("server")
        self._world.network.frozen.add("server")
        self.later(seconds, lambda: self._world.stopped.discard("server"), None)
        # Its timers go off before it has read what arrived meanwhile: the worst order.
        self.later(seconds + 0.1, lambda: self._world.network.frozen.discard("server"), None)

    def _provider_lies(self) -> None:
        rng = self._rng
        self._world.provider.faults = Faults(
            outage=rng.random() < 0.2,
            error_share=rng.choice([0.0, 0.3]),
            lost_share=rng.choice([0.0, 0.3]),
            slow_s=rng.choice([0.0, 2.0]),
            boot_s=0.5,
            stale_s=rng.choice([0.0, 3.0]),
            unknown_share=rng.choice([0.0, 0.5]),
            vanish_share=rng.choice([0.0, 0.4]),
            broke=rng.random() < 0.1,
        )
        self.note(f"the provider: {self._world.provider.faults}")

    # ---

    def some_machine(self) -> Machine | None:
        living = [machine for _, machine in sorted(self._world.machines.items()) if machine.alive]
        return self._rng.choice(living) if living else None

    def victim(self) -> Machine | None:
        machine = self.some_machine()
        return machine if machine and self.may_lose(machine) else None

    def the_primary(self) -> Machine | None:
        leading = [
            machine
            for _, machine in sorted(self._world.machines.items())
            if machine.alive and machine.replica and machine.replica._primary
        ]
        return self._rng.choice(leading) if leading else None

    def later(self, seconds: float, what: "object", machine: Machine | None) -> None:
        def happen() -> None:
            if machine is None or (machine.alive and machine.replica is None):
                what()  # type: ignore[operator]

        self._world.loop.call_later(seconds, happen)

    def say(self, what: str) -> None:
        now = self._world.clock.monotonic()
        hit = [name for name in self._world.machines if name in what]
        for name in hit or self._world.machines:
            self._disturbed[name] = now
        self.note(what)

    def note(self, what: str) -> None:
        self.log.append(f"{self._world.clock.monotonic():7.2f} {what}")
