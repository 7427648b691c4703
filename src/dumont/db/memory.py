"""The database in memory: the same promises as on SQL for as long as the process lives. For tests and simulations."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from dumont.clock import Clock, SystemClock
from dumont.errors import NameTaken, NoSuchWorkspace
from dumont.model.branch import Branch
from dumont.model.event import Event
from dumont.model.instance import Instance, InstanceState
from dumont.model.observed import BidPoint, CapacityAnswer, Look
from dumont.model.offer import PricePoint
from dumont.model.past import Past
from dumont.model.workspace import State, Wanted, Workspace

_ORDER = list(InstanceState)
_Row = TypeVar("_Row")


class MemoryDatabase:
    """The driver of `Database` in memory. No method waits for anything, so each is one step of the event loop."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._workspaces: dict[str, Workspace] = {}
        self._instances: dict[str, Instance] = {}
        self._spent: dict[str, str] = {}
        self._events: dict[str, list[Event]] = {}
        self._branches: dict[str, dict[str, Branch]] = {}
        self._prices: dict[tuple[datetime, str, str, str, bool], PricePoint] = {}
        self._bids: dict[tuple[str, datetime], BidPoint] = {}
        self._capacities: dict[tuple[str, datetime], CapacityAnswer] = {}
        self._looks: dict[str, Look] = {}
        self._pasts: dict[tuple[str, int], Past] = {}

    async def close(self) -> None:
        """Nothing to give back."""

    async def add_workspace(self, workspace: Workspace) -> None:
        before = self._workspaces.get(workspace.name)
        if before is not None and before.state is not State.DELETED:
            raise NameTaken(f"a workspace named {workspace.name} exists; pick another name")
        epoch = max(before.epoch if before else 0, workspace.epoch)
        generation = max(before.generation + 1 if before else 1, workspace.generation)
        self._workspaces[workspace.name] = replace(workspace, epoch=epoch, generation=generation)

    async def workspace(self, name: str) -> Workspace:
        if name not in self._workspaces:
            raise NoSuchWorkspace(f"there is no workspace named {name}; `dumont ls` lists them")
        return self._workspaces[name]

    async def workspaces(self) -> list[Workspace]:
        return [row for _, row in sorted(self._workspaces.items()) if row.state is not State.DELETED]

    async def want(self, name: str, wanted: Wanted) -> None:
        self._workspaces[name] = replace(await self.workspace(name), wanted=wanted)

    async def describe(self, workspace: Workspace) -> None:
        self._workspaces[workspace.name] = replace(
            await self.workspace(workspace.name),
            policy=workspace.policy,
            state=workspace.state,
            single_copy_since=workspace.single_copy_since,
            stored=workspace.stored,
            ssh_port=workspace.ssh_port,
            http_port=workspace.http_port,
            host_key=workspace.host_key,
            owner_keys=workspace.owner_keys,
        )

    async def promote(self, seen: Workspace, *, primary_id: str, epoch: int, ack_set: Iterable[str]) -> bool:
        row = self._as_seen(seen)
        if row is None or epoch <= row.epoch:
            return False
        self._workspaces[row.name] = replace(
            row,
            primary_id=primary_id,
            epoch=epoch,
            ack_set=frozenset(ack_set),
            ack_version=0,
            switching_to="",
            promoted_at=self._clock.now(),
        )
        return True

    async def change_ack_set(self, seen: Workspace, ack_set: Iterable[str]) -> bool:
        row = self._as_seen(seen)
        if row is None:
            return False
        self._workspaces[row.name] = replace(row, ack_set=frozenset(ack_set), ack_version=row.ack_version + 1)
        return True

    async def begin_switch(self, seen: Workspace, to: str) -> bool:
        row = self._as_seen(seen)
        if row is None or row.switching_to:
            return False
        self._workspaces[row.name] = replace(row, switching_to=to)
        return True

    async def add_instance(self, instance: Instance) -> None:
        if instance.id in self._instances:
            raise NameTaken(f"an instance {instance.id} is written down already")
        self._instances[instance.id] = instance

    async def save_instance(self, instance: Instance) -> None:
        before = self._instances.get(instance.id)
        if before is None:
            return
        self._instances[instance.id] = replace(
            instance,
            state=max(before.state, instance.state, key=_ORDER.index),
            gone_at=before.gone_at or instance.gone_at,
            lost=before.lost or instance.lost,
            branch=instance.branch or before.branch,
            ended=before.ended or instance.ended,
            ended_at=before.ended_at or instance.ended_at,
            token_hash="" if instance.token_hash == self._spent.get(instance.id) else instance.token_hash,
        )

    async def instance(self, instance_id: str) -> Instance | None:
        return self._instances.get(instance_id)

    async def instances(self, workspace: str | None = None, *, gone: bool = False) -> list[Instance]:
        found = [
            row
            for row in self._instances.values()
            if workspace in (None, row.workspace) and (gone or row.state is not InstanceState.GONE)
        ]
        return sorted(found, key=lambda row: (row.created_at, row.id))

    async def spend_token(self, instance_id: str, token_hash: str) -> bool:
        row = self._instances.get(instance_id)
        if not token_hash or row is None or row.token_hash != token_hash:
            return False
        self._spent[instance_id] = token_hash
        self._instances[instance_id] = replace(row, token_hash="")
        return True

    async def add_event(self, event: Event) -> None:
        self._events.setdefault(event.workspace, []).append(replace(event, facts=dict(event.facts)))

    async def events(self, workspace: str, limit: int = 200) -> list[Event]:
        return self._events.get(workspace, [])[-limit:] if limit > 0 else []

    async def happened(self, kind: str, limit: int = 1000) -> list[Event]:
        found = [event for events in self._events.values() for event in events if event.kind == kind]
        return sorted(found, key=lambda event: event.at)[-limit:] if limit > 0 else []

    async def add_branch(self, branch: Branch) -> None:
        self._branches.setdefault(branch.workspace, {}).setdefault(branch.name, branch)

    async def branches(self, workspace: str) -> list[Branch]:
        return sorted(self._branches.get(workspace, {}).values(), key=lambda branch: (branch.created_at, branch.name))

    async def leave_past(self, past: Past) -> None:
        before = self._pasts.get((past.workspace, past.generation))
        if before is None or not before.ending:
            self._pasts[past.workspace, past.generation] = past

    async def pasts(self) -> list[Past]:
        found = [past for past in self._pasts.values() if not self._is_alive(past)]
        return sorted(found, key=lambda past: (past.removed_at, past.workspace, past.generation))

    async def change_past(self, seen: Past, to: Past) -> bool:
        key = (seen.workspace, seen.generation)
        present = self._pasts.get(key)
        if present is None or present.ending or present.keep_until != seen.keep_until or self._is_alive(seen):
            return False
        self._pasts[key] = replace(present, keep_until=to.keep_until, ending=to.ending)
        return True

    async def drop_past(self, past: Past) -> None:
        present = self._pasts.get((past.workspace, past.generation))
        if present is not None and present.ending:
            del self._pasts[past.workspace, past.generation]

    async def add_prices(self, points: Iterable[PricePoint]) -> None:
        for point in points:
            key = (point.at, point.provider, point.product, point.region, point.spot)
            self._prices.setdefault(key, point)

    async def prices(self, since: datetime, product: str = "") -> list[PricePoint]:
        found = [point for point in self._prices.values() if point.at >= since and product in ("", point.product)]
        return sorted(found, key=lambda point: (point.at, point.provider, point.product, point.region, point.spot))

    async def drop_prices(self, before: datetime) -> None:
        self._prices = {key: point for key, point in self._prices.items() if point.at >= before}

    async def spot_lives(self, since: datetime) -> list[Instance]:
        ends = {row.id: row.ended_at or row.gone_at for row in self._instances.values() if row.spot}
        ended = {name for name, end in ends.items() if end is not None and end < since}
        return [row for row in await self.instances(gone=True) if row.id in ends.keys() - ended]

    async def add_bids(self, points: Iterable[BidPoint]) -> None:
        for point in points:
            self._bids.setdefault((point.slice, point.at), point)

    async def bids(self, since: datetime, provider: str = "") -> list[BidPoint]:
        found = [point for point in self._bids.values() if point.at >= since and provider in ("", point.provider)]
        return sorted(found, key=lambda point: (point.at, point.slice))

    async def add_capacity(self, answer: CapacityAnswer) -> None:
        self._capacities.setdefault((answer.domain, answer.at), answer)

    async def capacities(self, provider: str = "") -> list[CapacityAnswer]:
        newest = {domain: answer for (domain, _), answer in sorted(self._capacities.items())}
        return [answer for answer in newest.values() if provider in ("", answer.provider)]

    async def save_look(self, look: Look, before: datetime | None) -> bool:
        last = self._looks.get(look.provider)
        if (last.at if last else None) != before:
            return False
        self._looks[look.provider] = look
        return True

    async def looks(self, provider: str = "") -> list[Look]:
        return [look for name, look in sorted(self._looks.items()) if provider in ("", name)]

    async def drop_observed(self, before: datetime) -> None:
        self._bids = _without_old(self._bids, before)
        self._capacities = _without_old(self._capacities, before)

    def _is_alive(self, past: Past) -> bool:
        row = self._workspaces.get(past.workspace)
        return row is not None and row.generation == past.generation and row.state is not State.DELETED

    def _as_seen(self, seen: Workspace) -> Workspace | None:
        """The row, if it still has the epoch and the version of the ack set that the caller saw."""
        row = self._workspaces.get(seen.name)
        if row is None or (row.epoch, row.ack_version) != (seen.epoch, seen.ack_version):
            return None
        return row


def _without_old(rows: dict[tuple[str, datetime], _Row], before: datetime) -> dict[tuple[str, datetime], _Row]:
    """Those from `before` on, and the last one of each name."""
    last = dict(sorted(rows))
    return {key: row for key, row in rows.items() if key[1] >= before or key[1] == last[key[0]]}
