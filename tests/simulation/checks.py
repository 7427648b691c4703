"""The invariants, checked after every event of a world. Each says which promise is broken and by what."""

from typing import TYPE_CHECKING

from dumont.model.commit import Commit, CommitId
from dumont.replication.primary import Primary
from tests.simulation.machine import Ask, Machine

if TYPE_CHECKING:
    from tests.simulation.world import World


class Broken(AssertionError):
    """An invariant does not hold."""


class Checks:
    """Remembers what was acknowledged, and looks whether every later primary still has it."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._asks: list[Ask] = []
        self._acked: list[Ask] = []
        self._leading: dict[str, Primary] = {}
        self._roots: dict[CommitId, bytes] = {}
        self._leaders: dict[int, str] = {}
        self.acknowledged = 0
        self.promotions = 0

    def asked(self, machine: Machine) -> Ask:
        """A program asks for a barrier now: what it sees of the tree is what must never be lost once it's OK."""
        content = machine.disk.files.content
        shared = {path: value for path, value in content.items() if path == b"shared"}
        covered = {path: value for path, value in content.items() if path not in (b"shared", b"tmp/new")}
        ask = Ask(machine.id, covered, shared)
        self._asks.append(ask)
        return ask

    def after_event(self) -> None:
        """Called after every turn of the loop."""
        self._take_answers()
        self._look_at_primaries()

    def _take_answers(self) -> None:
        for ask in [ask for ask in self._asks if ask.answer is not None]:
            self._asks.remove(ask)
            if ask.answer is not None and ask.answer.ok:
                self.acknowledged += 1
                self._acked.append(ask)
                for machine in self._world.machines.values():
                    primary = machine.replica._primary if machine.replica else None
                    if primary and ask.answer.commit and primary.seat.epoch > ask.answer.commit.id.epoch:
                        self._holds(machine, ask)

    def _look_at_primaries(self) -> None:
        """I1 and I3 at the instant a replica becomes primary."""
        for machine in self._world.machines.values():
            primary = machine.replica._primary if machine.replica else None
            head = primary.head if primary else None
            if head and self._roots.setdefault(head.id, head.root) != head.root:
                raise Broken(f"I3: the id {head.id} names two commits")
            if primary is None or self._leading.get(machine.id) is primary:
                continue
            self._leading[machine.id] = primary
            leader = self._leaders.setdefault(primary.seat.epoch, machine.id)
            if leader != machine.id:
                raise Broken(f"I2: {leader} and {machine.id} both lead epoch {primary.seat.epoch}")
            self.promotions += 1
            self._whole(machine, primary)
            for ask in self._acked:
                self._holds(machine, ask)

    def _whole(self, machine: Machine, primary: Primary) -> None:
        head = primary.started_from
        if head is None:
            return
        if head.id.epoch < primary.seat.epoch and machine.disk.files.tree().root() != head.root:
            raise Broken(
                f"I3: {machine.id} leads epoch {primary.seat.epoch} with a tree that is not its commit {head.id}"
            )
        if head.consistent:
            self._pair(machine, head)

    def _pair(self, machine: Machine, head: Commit) -> None:
        first, second = (machine.disk.files.content.get(path, b"") for path in (b"pair/a", b"pair/b"))
        if second > first:
            raise Broken(
                f"I3: commit {head.id} says it is consistent, but holds {second!r} that was written after {first!r}"
            )

    def _holds(self, machine: Machine, ask: Ask) -> None:
        """Values of a path only grow, and only `tmp/new` ever goes: a smaller or missing one is a loss."""
        content = machine.disk.files.content
        commit = ask.answer.commit if ask.answer else None
        for path, value in ask.covered.items():
            if content.get(path, b"") < value:
                raise Broken(
                    f"I1: {machine.id} leads without acknowledged {path!r}={value!r} (has {content.get(path)!r}); "
                    f"barrier of {ask.machine}, commit {commit.id if commit else None}"
                )
        for path, value in ask.mapped.items():
            named = commit is not None and path in commit.fuzzy
            if content.get(path, b"") < value and not named:
                raise Broken(f"I1: a write through shared memory to {path!r} was neither covered nor named by {commit}")
