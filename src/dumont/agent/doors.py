"""The doors of a replica: the engine's side of the session process, which serves people and runs the workload."""

import asyncio

from dumont.agent.boot import RunDir
from dumont.clock import Clock
from dumont.errors import Corrupt, LinkClosed, Refused
from dumont.model.commit import Commit
from dumont.wire.control import Assignment
from dumont.wire.link import SocketLink
from dumont.wire.local import FromSession, Quiesce, Quiesced, Serve, Serving, ToSession

_REDIAL_S = 0.05
_QUIESCE_SLACK_S = 3.0
_CLOSED = Serving(epoch=0, serving=False, ssh_port=0, http_port=0)


class SessionDoors:
    """Port `Doors`. Says the newest order again whenever the session process comes back."""

    def __init__(self, run: RunDir, clock: Clock) -> None:
        self._run = run
        self._clock = clock
        self._order: Serve | None = None
        self._news = asyncio.Event()
        self._link: SocketLink[ToSession, FromSession] | None = None
        self._quiesced: asyncio.Event = asyncio.Event()
        self.report = _CLOSED

    @property
    def serving(self) -> int:
        """The epoch that is served now; 0 for none."""
        return self.report.epoch if self.report.serving else 0

    def prepare(self, assignment: Assignment) -> None:
        """Doors shut, keys known."""
        self._tell(_serve(assignment, serving=False, head=None))

    def open(self, assignment: Assignment, head: Commit | None) -> None:
        """Let people in and run the workload."""
        self._tell(_serve(assignment, serving=True, head=head))

    def close(self) -> None:
        """Throw everybody out."""
        if self._order is not None and self._order.serving:
            order = self._order
            self._tell(Serve(order.workspace, order.epoch, False, "", order.owner_keys, order.host_key))

    async def quiesce(self, assignment: Assignment) -> None:
        """Warn, run `on_switch`, end workload and shells. Bounded; the doors are shut afterwards in any case.

        Raises Refused when the session process did not say in time that nothing runs any more.
        """
        service = assignment.service
        self._quiesced.clear()
        try:
            if self._link is None:
                raise Refused("the session process is away: nobody can say whether the workload has ended")
            async with asyncio.timeout(service.switch_grace_s + _QUIESCE_SLACK_S):
                await self._link.send(Quiesce(service.on_switch, service.switch_grace_s))
                await self._quiesced.wait()
        except (LinkClosed, TimeoutError) as error:
            raise Refused(f"the session process did not end the workload: {str(error) or 'timed out'}") from error
        finally:
            self.prepare(assignment)

    async def run(self) -> None:
        """Hold the link to the session process for ever."""
        while True:
            try:
                await self._hold()
            except* (OSError, LinkClosed, Corrupt):
                self.report = _CLOSED
            await self._clock.sleep(_REDIAL_S)

    async def _hold(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self._run.session_socket)
        link: SocketLink[ToSession, FromSession] = SocketLink(reader, writer, FromSession, peer="session")
        self._link = link
        self._news.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear_forever(link))
                tasks.create_task(self._tell_forever(link))
        finally:
            self._link = None
            link.close()

    async def _hear_forever(self, link: SocketLink[ToSession, FromSession]) -> None:
        while True:
            match await link.receive():
                case Serving() as report:
                    self.report = report
                case Quiesced():
                    self._quiesced.set()

    async def _tell_forever(self, link: SocketLink[ToSession, FromSession]) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._order is not None:
                await link.send(self._order)

    def _tell(self, order: Serve) -> None:
        if order != self._order:
            self._order = order
            self._news.set()


def _serve(assignment: Assignment, *, serving: bool, head: Commit | None) -> Serve:
    service = assignment.service
    command = service.run if assignment.on_gpu else service.on_standby
    return Serve(
        workspace=assignment.workspace,
        epoch=assignment.epoch,
        serving=serving,
        command=command if serving else "",
        owner_keys=assignment.owner_keys,
        host_key=assignment.host_key,
        head=head.id if head and serving else None,
    )
