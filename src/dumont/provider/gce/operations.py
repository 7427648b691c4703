"""Operations: Google's record of a change that goes on after its answer, and of what it did by itself."""

from dataclasses import dataclass
from datetime import datetime

from google.cloud import compute_v1

from dumont.clock import Clock
from dumont.errors import ProviderError
from dumont.provider.gce.account import Account
from dumont.provider.gce.calls import Calls
from dumont.provider.gce.verdict import Absent

PREEMPTED = "compute.instances.preempted"
DONE = compute_v1.Operation.Status.DONE


class Unfinished(ProviderError):
    """An operation was not over within its time. It goes on; what comes of it is not known."""


@dataclass(frozen=True)
class Record:
    """One operation that ended something: of which machine, when, and by whom."""

    target_id: int
    at: datetime | None
    user: str


class Operations:
    """Reads operations of our zones."""

    def __init__(self, account: Account, calls: Calls, clock: Clock) -> None:
        self._account = account
        self._calls = calls
        self._clock = clock

    async def finish(
        self, zone: str, operation: compute_v1.Operation, seconds_max: float
    ) -> compute_v1.Operation | None:
        """The operation once it is DONE, failed or not. None when Google forgot it: then the resource must be read.

        Raises Unfinished after `seconds_max`.
        """
        project, name = self._account.project, operation.name
        until = self._clock.monotonic() + seconds_max
        while operation.status != DONE:
            if self._clock.monotonic() >= until:
                what = f"{operation.operation_type} of {operation.target_link.rpartition('/')[2]}"
                raise Unfinished(f"The {what} was not over within {seconds_max:.0f} s. Look at the machine again.")
            await self._clock.sleep(self._account.poll_s)
            try:
                operation = await self._calls.ask(
                    f"Reading operation {name}",
                    lambda c, s: c.operations.get(project=project, zone=zone, operation=name, retry=None, timeout=s),
                )
            except Absent:
                return None
        return operation

    async def finish_global(self, operation: compute_v1.Operation, seconds_max: float) -> compute_v1.Operation:
        """The same for an operation of no zone. Raises ProviderError when Google forgot it."""
        project, name = self._account.project, operation.name
        until = self._clock.monotonic() + seconds_max
        while operation.status != DONE:
            if self._clock.monotonic() >= until:
                raise Unfinished(f"Operation {name} was not over within {seconds_max:.0f} s.")
            await self._clock.sleep(self._account.poll_s)
            operation = await self._calls.ask(
                f"Reading operation {name}",
                lambda c, s: c.global_operations.get(project=project, operation=name, retry=None, timeout=s),
            )
        return operation

    async def records(self, zone: str, kind: str) -> list[Record]:
        """Operations of one type (`operationType`) in a zone, as far back as Google remembers."""
        request = compute_v1.ListZoneOperationsRequest(
            project=self._account.project, zone=zone, filter=f'operationType="{kind}"'
        )
        found = await self._calls.list_all(
            f"Listing operations in {zone}",
            lambda c, s: c.operations.list(request=request, retry=None, timeout=s),
        )
        return [Record(op.target_id, when(op.end_time or op.insert_time), op.user) for op in found]


def when(text: str) -> datetime | None:
    """An instant as Google writes it; None when there is none."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
