"""The shell around `decide`: look, read the records, decide, act, tell everybody; at every news, and every TICK_S.

Level-triggered: nothing is remembered from pass to pass that a new process could not find in the database or hear from
the agents again within a second.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from dumont.clock import Clock
from dumont.control import detect
from dumont.control.act import Acts, Fact
from dumont.control.assign import assignment, route
from dumont.control.decide import decide
from dumont.control.history import PROMOTED, History
from dumont.control.hub import Hub
from dumont.control.observe import Observatory, Seen
from dumont.control.view import Action, BeginSwitch, ChangeAckSet, Notify, Promote, Reason, View
from dumont.model.branch import Branch
from dumont.model.commit import CommitId
from dumont.model.instance import Instance, InstanceState, Machine
from dumont.model.workspace import Workspace
from dumont.wire.control import BranchSaved, Status
from dumont.wire.route import Route

TICK_S = 0.1
LATE_S = 2.0
"""Whoever promoted has written it down by then, or never will."""
ROUNDS_MAX = 20
"""How often one pass decides again because its last actions changed something; more would be a bug of ours."""

Decider = Callable[[View, datetime], list[Action]]

log = structlog.get_logger()


@dataclass(frozen=True)
class Landed:
    """A promotion whose new primary is not ready yet: what the timeline is to say once it is."""

    epoch: int
    reason: Reason
    why: str
    detected_at: str
    began: float
    decided: float
    commit: str
    consistent: bool


class Shell:
    """One server process's control loop."""

    def __init__(self, acts: Acts, hub: Hub, observatory: Observatory, clock: Clock, decider: Decider = decide) -> None:
        self._decide = decider
        self._acts = acts
        self._database = acts.database
        self._hub = hub
        self._observatory = observatory
        self._clock = clock
        self._rows: dict[str, Workspace] = {}
        self._instances: dict[str, Sequence[Instance]] = {}
        self._routes: dict[str, Route] = {}
        self._branches: dict[str, set[str]] = {}
        self._landing: dict[str, Landed] = {}
        self._read_at = float("-inf")
        self.passed_at = float("-inf")

    async def run(self) -> None:
        """Pass after pass, for ever. An error ends one pass, is logged, and the next pass starts from what is true."""
        while True:
            wake = asyncio.create_task(self._hub.changed.wait())
            tick = asyncio.create_task(self._clock.sleep(TICK_S))
            try:
                await asyncio.wait({wake, tick}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                wake.cancel()
                tick.cancel()
            self._hub.changed.clear()
            await outcome(asyncio.create_task(self.pass_all()), "a pass failed")

    async def pass_all(self) -> None:
        """One pass over every workspace. Raises what the database raises."""
        seen = self._observatory.look()
        instances = await self._database.instances()
        rows = await self._database.workspaces()
        self._read_at = seen.at
        self._rows = {row.name: row for row in rows}
        self._instances = {row.name: [one for one in instances if one.workspace == row.name] for row in rows}
        for gone in self._routes.keys() - self._rows.keys():
            del self._routes[gone]
        self._observatory.forget({instance.id for instance in instances})
        self._hub.own(rows, instances, self._read_at)
        for stray in (one for one in instances if one.workspace not in self._rows):
            self._acts.resume(stray)
        passes = [asyncio.create_task(self._pass(row, seen)) for row in rows]
        for one in passes:
            await outcome(one, "a pass over a workspace failed")
        self._tell_gateway()
        self.passed_at = self._clock.monotonic()

    async def _pass(self, row: Workspace, seen: Seen) -> None:
        """Decide about one workspace and act, until there is nothing left to do at this moment."""
        name = row.name
        async with self._acts.lock(name):
            instances = self._instances[name]
            history = await self._acts.history(name)
            await self._complete_timeline(row, instances, history)
            for _ in range(ROUNDS_MAX):
                row = await self._take_note(row, instances, seen)
                if row.switching_to and history.switch_began_at(row.switching_to, row.epoch) is None:
                    await self._acts.written(BeginSwitch(row.switching_to), row)  # a server died before it wrote that
                view = await self._view(row, instances, seen, history)
                actions = self._decide(view, self._clock.now())
                self._tell(view)
                if not await self._carry_out(actions, view, seen):
                    break
                seen = self._observatory.look()
                instances = await self._database.instances(name)
                row = await self._database.workspace(name)
                self._rows[name], self._instances[name] = row, instances
            else:
                log.error("a pass does not come to rest", workspace=name, actions=[str(one) for one in actions])
            for instance in instances:
                if instance.state in (InstanceState.INTENDED, InstanceState.RELEASING):
                    self._acts.resume(instance)

    async def _view(self, row: Workspace, instances: Sequence[Instance], seen: Seen, history: History) -> View:
        now = self._clock.now()
        return View(
            workspace=row,
            sightings=seen.sightings(row, instances),
            offers=self._acts.listing.all,
            failovers_last_hour=history.promotions(Reason.FAILOVER, now),
            give_ups_last_hour=history.promotions(Reason.GIVE_UP, now),
            last_switchover_at=history.last_switchover_at,
            switch_began_at=history.switch_began_at(row.switching_to, row.epoch) if row.switching_to else None,
            failures={machine: history.failures(machine, now) for machine in Machine},
            branches=tuple(sorted(await self._known_branches(row.name))),
            told_of_no_offer=history.told_of_no_offer(now),
            beliefs=replace(self._acts.listing.beliefs, shunned=history.shunned(now)),
            restore_s=history.restore_s,
        )

    async def _carry_out(self, actions: Iterable[Action], view: View, seen: Seen) -> bool:
        """True when something was changed, or found changed by somebody else: look again."""
        changed = False
        row = view.workspace
        for action in actions:
            if not await self._acts.do(action, row):
                return True
            changed = changed or not isinstance(action, Notify)
            if isinstance(action, Promote | ChangeAckSet | BeginSwitch):
                await self._spread(action, view, seen)
                row = self._rows[row.name]
        return changed

    async def _spread(self, action: Promote | ChangeAckSet | BeginSwitch, view: View, seen: Seen) -> None:
        """Ownership changed: tell the agents and the gateway before anything else is done."""
        decided = self._clock.monotonic()
        row = await self._database.workspace(view.workspace.name)
        self._rows[row.name] = row
        self._tell(replace(view, workspace=row))
        self._tell_gateway()
        if isinstance(action, Promote):
            self._landing[row.name] = self._landed(action, view, seen.at, decided)
        await self._acts.written(action, row)

    def _landed(self, action: Promote, view: View, seen_at: float, decided: float) -> Landed:
        before, began = view.primary, seen_at
        if action.reason is Reason.SWITCHOVER and view.switch_began_at is not None:
            began = decided - (self._clock.now() - view.switch_began_at).total_seconds()
        chosen = view.sighting(action.instance_id)
        head = chosen.status.head if chosen and chosen.status else None
        return Landed(
            epoch=action.epoch,
            reason=action.reason,
            why=detect.verdict(before.witnesses).why if before else "it has no record any more",
            detected_at=(self._clock.now() - timedelta(seconds=self._clock.monotonic() - seen_at)).isoformat(),
            began=began,
            decided=decided,
            commit=str(head) if head else "",
            consistent=bool(chosen and chosen.status and chosen.status.consistent),
        )

    async def _complete_timeline(self, row: Workspace, instances: Sequence[Instance], history: History) -> None:
        """Add the promotion that a server did not live to write down: flapping is counted from the timeline."""
        late = row.promoted_at is not None and self._clock.now() - row.promoted_at > timedelta(seconds=LATE_S)
        if late and history.lacks_promotion(row.epoch, row.promoted_at):
            trusted = {instance.id for instance in instances if not instance.lost}
            reason = Reason.SWITCHOVER if history.promoted_id in trusted else Reason.FAILOVER
            facts: dict[str, Fact] = {"reason": reason.value, "instance": row.primary_id, "epoch": row.epoch}
            await self._acts.note(row.name, PROMOTED, facts | {"late": True})

    # --- what the statuses say that belongs into the records

    async def _take_note(self, row: Workspace, instances: Sequence[Instance], seen: Seen) -> Workspace:
        for instance in instances:
            status = seen.heard[instance.id].status if instance.id in seen.heard else None
            if status is None:
                continue
            if status.branch_saved and status.branch_saved.name == instance.branch:  # only what it was asked for
                await self._keep_branch(row, instance, status.branch_saved)
            if instance.id == row.primary_id and status.epoch == row.epoch:
                await self._note_landing(row, instance, status)
                if (
                    status.stored
                    and status.stored.epoch <= row.epoch
                    and status.stored > (row.stored or CommitId(0, 0))
                ):
                    row = replace(await self._database.workspace(row.name), stored=status.stored)
                    await self._database.describe(row)
        return row

    async def _keep_branch(self, row: Workspace, instance: Instance, saved: BranchSaved) -> None:
        if saved.name in await self._known_branches(row.name):
            return
        paths = tuple(path.decode(errors="backslashreplace") for path in saved.paths)
        branch = Branch(
            workspace=row.name,
            name=saved.name,
            commit=saved.commit,
            root=saved.root.hex(),
            created_at=self._clock.now(),
            forked_from=saved.forked_from,
            paths=paths,
        )
        await self._database.add_branch(branch)
        (await self._known_branches(row.name)).add(saved.name)
        facts: dict[str, Fact] = {"branch": saved.name, "commit": str(saved.commit), "paths": len(paths)}
        await self._acts.note(row.name, "branch", facts | {"instance": instance.id})

    async def _note_landing(self, row: Workspace, instance: Instance, status: Status) -> None:
        """The new primary serves: the timeline gets the measured times of its promotion."""
        landed = self._landing.get(row.name)
        if landed is None or not status.ready:
            return
        del self._landing[row.name]
        if landed.epoch != row.epoch:
            return
        now = self._clock.monotonic()
        facts: dict[str, Fact] = {
            "epoch": row.epoch,
            "instance": instance.id,
            "machine": instance.machine.value,
            "commit": landed.commit,
            "consistent": landed.consistent,
            "decided_ms": round((landed.decided - landed.began) * 1000),
            "promoted_ms": round((now - landed.began) * 1000),
        }
        if landed.reason is Reason.FAILOVER:
            facts |= {"detected_at": landed.detected_at, "why": landed.why}
        await self._acts.note(row.name, landed.reason.value, facts)

    async def _known_branches(self, workspace: str) -> set[str]:
        if workspace not in self._branches:
            self._branches[workspace] = {branch.name for branch in await self._database.branches(workspace)}
        return self._branches[workspace]

    # --- telling

    def _tell(self, view: View) -> None:
        row = self._rows[view.workspace.name] = view.workspace
        self._hub.own(self._rows.values(), [one for some in self._instances.values() for one in some], self._read_at)
        for sighting in view.sightings:
            self._hub.assign(sighting.instance.id, assignment(view, sighting.instance.id))
        self._routes[row.name] = route(view)

    def _tell_gateway(self) -> None:
        if self._routes.keys() == self._rows.keys():  # a gateway drops the address of a workspace that is left out
            self._hub.route(route for _, route in sorted(self._routes.items()))


async def outcome(task: "asyncio.Task[None]", what: str) -> None:
    """Wait for a task of ours. Whatever ended it is logged: the next pass, or round, is the repair."""
    try:
        await asyncio.wait({task})
    finally:
        task.cancel()
    if not task.cancelled() and (error := task.exception()):
        log.error(what, why=repr(error), exc_info=error)
