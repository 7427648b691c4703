"""The port of the database. Every write of ownership is a compare-and-set."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from dumont.model.branch import Branch
from dumont.model.event import Event
from dumont.model.instance import Instance
from dumont.model.observed import BidPoint, CapacityAnswer, Look
from dumont.model.offer import PricePoint
from dumont.model.past import Past
from dumont.model.workspace import Wanted, Workspace


class Database(Protocol):
    """Records that survive every crash. A method that returned has been committed.

    Ownership (`epoch`, `primary_id`, `ack_set`, `ack_version`, `switching_to`) changes only through the three
    compare-and-sets; each answers False, and changes nothing, when the row is no longer as the caller saw it:
    `promote` wants a strictly higher epoch and that the row still has the epoch and ack_version of `seen`; it sets
    ack_version 0 and promoted_at, and clears switching_to. `change_ack_set` wants both too and raises ack_version by
    one. `begin_switch` names the target of a switchover; False when one is named already.
    """

    async def add_workspace(self, workspace: Workspace) -> None:
        """Raises NameTaken. The name of a deleted workspace is free again, but its epochs go on where they were.

        The new one is of the next generation, or of a later one if it says so.
        """

    async def workspace(self, name: str) -> Workspace:
        """Also a deleted one. Raises NoSuchWorkspace."""

    async def workspaces(self) -> list[Workspace]:
        """All but the deleted ones, by name."""

    async def want(self, name: str, wanted: Wanted) -> None: ...

    async def describe(self, workspace: Workspace) -> None:
        """Save what is not ownership: state, single_copy_since, stored, policy, ports and keys."""

    async def promote(self, seen: Workspace, *, primary_id: str, epoch: int, ack_set: Iterable[str]) -> bool: ...

    async def change_ack_set(self, seen: Workspace, ack_set: Iterable[str]) -> bool: ...

    async def begin_switch(self, seen: Workspace, to: str) -> bool: ...

    async def add_instance(self, instance: Instance) -> None:
        """The intent to rent: written before the provider is asked. Raises NameTaken for an id that is written down."""

    async def save_instance(self, instance: Instance) -> None:
        """Save a known instance (an unknown one is left out). A stale writer turns nothing back: `state` only goes on,
        `lost`, `branch` and `gone_at` stay once set, and a token that was spent stays spent."""

    async def instance(self, instance_id: str) -> Instance | None: ...

    async def instances(self, workspace: str | None = None, *, gone: bool = False) -> list[Instance]:
        """Instances of one or all workspaces, oldest first; with `gone` also those confirmed gone."""

    async def spend_token(self, instance_id: str, token_hash: str) -> bool:
        """True once for the right token: clears it."""

    async def add_event(self, event: Event) -> None: ...

    async def events(self, workspace: str, limit: int = 200) -> list[Event]:
        """The newest `limit` events, oldest first."""

    async def happened(self, kind: str, limit: int = 1000) -> list[Event]:
        """The newest `limit` events of one kind, of all workspaces and deleted ones too, oldest first."""

    async def add_branch(self, branch: Branch) -> None:
        """Harmless when it is already there."""

    async def branches(self, workspace: str) -> list[Branch]:
        """Oldest first."""

    async def leave_past(self, past: Past) -> None:
        """What becomes of the history of a workspace that is to be deleted; the last word counts, until it ends.

        Written down before the wish: who is killed between the two leaves no history without a record.
        """

    async def pasts(self) -> list[Past]:
        """Those whose workspace is deleted, in the order in which they were removed."""

    async def change_past(self, seen: Past, to: Past) -> bool:
        """Set `keep_until` and `ending`. False, and nothing is changed, when the record is no longer as the caller saw
        it, when it is ending, or while its workspace is not deleted: a new one of the same name is another.
        """

    async def drop_past(self, past: Past) -> None:
        """Forget one that is ending: nothing is left of it. Harmless twice."""

    async def close(self) -> None:
        """Give everything back that is held open; nothing may be asked afterwards."""

    async def add_prices(self, points: Iterable[PricePoint]) -> None:
        """Harmless when repeated; the first of two at one moment counts."""

    async def prices(self, since: datetime, product: str = "") -> list[PricePoint]:
        """From that moment on, of one product or all, oldest first."""

    async def drop_prices(self, before: datetime) -> None: ...

    async def spot_lives(self, since: datetime) -> list[Instance]:
        """Spot instances that are still held, and those that ended at that moment or later, oldest first."""

    async def add_bids(self, points: Iterable[BidPoint]) -> None:
        """Harmless when repeated; the first of two for one slice at one moment counts. All of them, or none."""

    async def bids(self, since: datetime, provider: str = "") -> list[BidPoint]:
        """From that moment on, of one provider or all, oldest first."""

    async def add_capacity(self, answer: CapacityAnswer) -> None:
        """Harmless when repeated."""

    async def capacities(self, provider: str = "") -> list[CapacityAnswer]:
        """The newest answer for each domain, of one provider or all, by domain."""

    async def save_look(self, look: Look, before: datetime | None) -> bool:
        """False, and nothing is changed, unless the provider's last look was at `before` (None: there was none)."""

    async def looks(self, provider: str = "") -> list[Look]:
        """The last look of one provider or all, by provider."""

    async def drop_observed(self, before: datetime) -> None:
        """Forget bids and capacity answers older than that, but none that is the last of its slice or domain."""
