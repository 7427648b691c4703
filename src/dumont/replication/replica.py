"""A replica: what an instance is to its workspace. It follows the server's assignments, one role at a time.

Level-triggered: the newest assignment says everything, repeating it is harmless, and an older epoch than one that was
promised is never followed. A higher epoch silences the old role at once, before anything is awaited.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from msgspec.structs import replace

from dumont.errors import Corrupt, DiskFull, Fenced, NotDurable, Refused, StoreError
from dumont.model.commit import Commit, CommitId
from dumont.model.instance import Role
from dumont.replication.barrier import Answer
from dumont.replication.crew import Crew
from dumont.replication.cut import Cutter, Pace
from dumont.replication.ports import Host, Kept, Promise
from dumont.replication.primary import Primary, Seat
from dumont.replication.sender import StreamLink
from dumont.replication.standby import Standby, hello_of
from dumont.snapshot.tree import Tree
from dumont.wire.control import Assignment, BranchSaved, Endpoints, Risk, Status

_HEARD_S_MAX = 5.0


@dataclass
class _Fork:
    """What a primary left behind that was fenced before it sealed: its tree may hold files nobody acknowledged."""

    primary: Primary | None
    cutter: Cutter | None

    def close(self) -> None:
        """Nothing will be read of it any more."""
        if self.cutter:
            self.cutter.close()


class Replica:
    """The role machine of one instance. `assign` and `attach` may be called at any time.

    Whoever runs it awaits `crew.fail`: what is unforeseen ends the engine. What is foreseen is told as `halted`.
    """

    standby_type: type[Standby] = Standby

    def __init__(self, instance_id: str, host: Host, pace: Pace | None = None) -> None:
        self._me = instance_id
        self._host = host
        self._pace = pace or Pace()
        self.crew = Crew()
        self._lock = asyncio.Lock()
        self._promise = Promise()
        self._tree = Tree()
        self._head: Commit | None = None
        self._latest: Assignment | None = None
        self._primary: Primary | None = None
        self._cutter: Cutter | None = None
        self._running: asyncio.Task[None] | None = None
        self._standby: Standby | None = None
        self._fork: _Fork | None = None
        self._branch: BranchSaved | None = None
        self._halted = ""
        self._unfit = ""  # why this replica plays no role any more, until its engine starts anew
        self._full = ""  # why it would refuse as a standby what it refused before
        self._unwatched = False  # it led, and nobody has watched the tree since
        self._seen = 0
        self._unsure_epoch = 0  # see `Promise`

    async def start(self) -> None:
        """Recover what the disk holds. Every agent boots without a role; one that can't be recovered never has any."""
        try:
            kept = await self._host.disk.load()
        except (DiskFull, NotDurable, Corrupt) as error:
            self._unfit = f"what the disk holds can't be recovered: {error}"
            return
        self._promise, self._tree, self._head = kept.promise, kept.tree, kept.head
        self._seen = kept.promise.epoch
        if kept.head is None and len(kept.tree) > 1 and kept.promise.epoch:
            self._fork = _Fork(None, None)
        if kept.head is None:
            self._unsure_epoch = kept.promise.epoch if kept.rebooted else kept.promise.unsure_epoch

    async def assign(self, assignment: Assignment) -> None:
        """Become what the newest assignment says. Returns when that is so, or when it can't be (see `status`)."""
        if assignment.epoch < self._seen:
            return
        if assignment.epoch > self._seen:
            self._seen = assignment.epoch
            self._silence(assignment)
        self._latest = assignment
        async with self._lock:
            if assignment is self._latest and not self._unfit:
                try:
                    await self._converge(assignment)
                except (NotDurable, Corrupt) as error:
                    self._give_up(str(error))
                except (Refused, StoreError, OSError) as error:
                    self._halted = str(error)
                else:
                    self._halted = ""

    @property
    def may_go_on(self) -> bool:
        """Whether it is halted for a reason that may pass: the same assignment is worth another try."""
        return bool(self._halted) and not self._unfit

    def attach(self, link: StreamLink) -> "asyncio.Task[None] | None":
        """Use a replication stream that was dialled or accepted; the task ends when the link does.

        A stranger's, or one that comes too early, is closed, and None returned.
        """
        peers = {peer.instance_id for peer in self._latest.peers} if self._latest else set()
        if link.peer in peers and self._primary:
            return self._primary.attach(link)
        if link.peer in peers and self._standby:
            return self._standby.attach(link)
        link.close()
        return None

    async def barrier(self, paths: Collection[bytes] = (), timeout_s: float = 10.0) -> Answer:
        """See `Primary.barrier`. Unknown when this instance is not the primary."""
        if self._primary is None:
            return Answer(ok=False, reason="this instance is not the primary of its workspace now")
        return await self._primary.barrier(paths, timeout_s)

    async def retire(self, timeout_s: float) -> Answer:
        """End the workload in good order and take the last barrier of a primary that is to go.

        Its doors are shut when it is OK; when it isn't, `resume` was called and the workload runs again.
        """
        assignment, primary = self._latest, self._primary
        answer = await self.barrier((), timeout_s)
        if not answer.ok or assignment is None or primary is None:
            return answer
        try:
            await self._host.doors.quiesce(assignment)
            answer = await self.barrier((), timeout_s)
        except Refused as error:
            answer = Answer(ok=False, reason=str(error))
        if not answer.ok:
            self.resume()
        return answer

    def resume(self) -> None:
        """Let people in again after `retire`, if this is still the primary and the server wants nothing else."""
        assignment, primary = self._latest, self._primary
        if primary and assignment and assignment.role is Role.PRIMARY and not assignment.seal and not primary.sealed:
            self._host.doors.open(assignment, primary.head)

    @property
    def keepers(self) -> frozenset[str]:
        """Members of a primary's ack set that are there now, and are known never to end themselves."""
        if self._primary is None or self._latest is None:
            return frozenset()
        named = {peer.instance_id for peer in self._latest.peers if peer.keeper}
        there = {peer.instance_id for peer in self._primary.peers() if peer.connected}
        return self._primary.barriers.ack_set.members & named & there

    @property
    def hears_primary(self) -> bool:
        """Whether this is a standby whose primary's stream said something within the last seconds."""
        return self._standby is not None and self._standby.up and self._standby.silent_s <= _HEARD_S_MAX

    @property
    def holds_files(self) -> bool:
        """Whether its disk holds, or may hold, anything of the workspace."""
        return bool(self._unfit or self._head or self._fork or self._primary or self._standby or len(self._tree) > 1)

    @property
    def role(self) -> Role:
        """What this replica plays now."""
        if self._primary:
            return Role.PRIMARY
        return Role.STANDBY if self._standby else Role.NONE

    @property
    def store_every_s(self) -> float:
        """How often a primary adds its commit to the store, in seconds."""
        return self._latest.store_every_s if self._latest else 60.0

    @property
    def barrier_timeout_s(self) -> float:
        """How long a barrier waits that does not say so itself, in seconds."""
        return self._latest.barrier_timeout_s if self._latest else 10.0

    def committed(self) -> tuple[Commit, Tree] | None:
        """A primary's newest commit with its tree; None for others, and while the tree is already ahead of it."""
        primary, cutter = self._primary, self._cutter
        if primary is None or cutter is None or primary.head is None or cutter.pending:
            return None
        return primary.head, cutter.tree.copy()

    def status(self, endpoints: Endpoints) -> Status:
        """All that is known here, for the server."""
        primary, standby = self._primary, self._standby
        head = primary.head if primary else standby.head if standby else self._head
        return Status(
            instance_id=self._me,
            epoch=self._seen if self._unfit else self._promise.epoch,  # the unfit acknowledge nothing, so can't lie
            role=self.role,
            endpoints=endpoints,
            ready=primary is not None and self._host.doors.serving == self._promise.epoch,
            head=head.id if head else None,
            applied=standby.applied if standby else None,
            root=head.root if head else b"",
            ack_version=primary.barriers.ack_set.version if primary else -1,
            ok_seq=primary.barriers.ok_seq if primary else 0,
            peers=primary.peers() if primary else (),
            sealed=self._promise.sealed,
            stream_up=standby is not None and standby.up,
            stream_seen=standby is not None and standby.ever_up,
            stream_silent_ms=int(standby.silent_s * 1000) if standby else 0,
            risk=primary.risk() if primary else Risk(),
            consistent=head.consistent if head else True,
            fuzzy=primary.last_cut.fuzzy if primary else (),
            uncovered=head.uncovered if head else (),
            commits=primary.commits if primary else standby.commits if standby else 0,
            branch_saved=self._branch,
            halted=self._unfit or self._halted or (standby.halted if standby else ""),
            rebooted=self._is_unsure,
        )

    @property
    def _is_unsure(self) -> bool:
        """Whether its machine restarted, and its tree, which nobody has led since, may lack what was acknowledged."""
        holds_a_commit = bool(self._head or (self._standby and self._standby.head))
        return self._unsure_epoch > 0 and self._primary is None and not holds_a_commit

    def _may_lead(self, assignment: Assignment) -> bool:
        """Not in an epoch that ended here, by a seal or a restart; after a restart only when no other copy is left.

        Whoever promoted this replica may not have known of its restart. A member of the ack set holds everything that
        was acknowledged, so it is to lead; the server learns of the restart by our status.
        """
        if self._promise.sealed:
            return False
        return not self._is_unsure or (self._unsure_epoch < self._promise.epoch and not assignment.ack_set)

    def _silence(self, assignment: Assignment) -> None:
        """A higher epoch exists: acknowledge nothing more, this instant."""
        if self._primary:
            self._primary.close(f"fenced: epoch {assignment.epoch} exists")
            if assignment.primary_id != self._me:
                self._host.watchdog.end(assignment.epoch)
                self._host.doors.close()
        if self._standby:
            self._standby.silence()

    def _give_up(self, reason: str) -> None:
        """What this disk or tree holds can't be relied on: no role any more."""
        self._unfit = self._unfit or reason
        if self._primary:
            self._primary.close(reason)
            self._host.doors.close()
        if self._standby:
            self._standby.silence()

    async def _converge(self, assignment: Assignment) -> None:
        if assignment.epoch > self._promise.epoch:
            await self._leave()
            await self._keep(Promise(assignment.epoch, unsure_epoch=self._unsure_epoch if self._is_unsure else 0))
        if self._unfit:
            return
        match assignment.role:
            case Role.PRIMARY:
                await self._lead(assignment)
            case Role.STANDBY:
                await self._follow(assignment)
            case Role.NONE:
                await self._idle(assignment)

    async def _lead(self, assignment: Assignment) -> None:
        if not self._may_lead(assignment):
            return
        if self._primary is None:
            await self._leave()
            self._forget_fork()
            if self._unsure_epoch:  # from here on its tree is the workspace, whatever it lacks
                await self._keep(Promise(assignment.epoch))
                self._unsure_epoch = 0
            self._primary = await self._open_primary(assignment)
        await self._adopt(assignment, self._primary)
        if assignment.seal:
            await self._seal(assignment, self._primary)
        else:
            self._host.doors.open(assignment, self._primary.head)

    async def _adopt(self, assignment: Assignment, primary: Primary) -> None:
        """Use the server's ack set. One with several members is noted first, or not used.

        Once it is in use the server may drop the older member. A new engine here that was told the set before it, by
        a server that lags behind, would answer OK for what the other member does not hold.
        """
        if len(assignment.ack_set) > 1 and assignment.ack_version > self._promise.ack_version:
            try:
                await self._keep(replace(self._promise, ack_version=assignment.ack_version))
            except (DiskFull, NotDurable):
                return  # barriers go on with the set before it
        primary.adopt(assignment.ack_version, assignment.ack_set)

    async def _open_primary(self, assignment: Assignment) -> Primary:
        """Set the watches, then say that the tree moves on from its commit, then lead."""
        host = self._host
        source = await host.watch(self._tree)
        cutter = Cutter(source, self._tree, host.clock, self._pace)
        try:
            await host.disk.set_head(None, self._tree)
        except (DiskFull, NotDurable):
            cutter.close()
            raise
        if self._head is None or self._unwatched:
            cutter.distrust_everything()
        seat = Seat(assignment.workspace, self._me, assignment.epoch)
        primary = Primary(seat, cutter, self._head, host, self.crew)
        primary.adopt(self._promise.ack_version, ())
        self._cutter = cutter
        self._running = self.crew.start(self._run(primary))
        host.watchdog.lead(assignment.epoch)
        return primary

    async def _run(self, primary: Primary) -> None:
        try:
            await primary.run()
        except (OSError, NotDurable) as error:
            self._give_up(f"the workspace can't be read: {error}")

    async def _seal(self, assignment: Assignment, primary: Primary) -> None:
        """Stop the workload, cut the last commit, and promise never to acknowledge in this epoch again."""
        try:
            await self._host.doors.quiesce(assignment)
            commit = await primary.seal()
        except (Refused, Fenced):
            return  # without a sealed commit the server gives the switchover up, or it has already
        await self._host.disk.set_head(commit, self._tree)
        await self._keep(replace(self._promise, sealed=commit.id))

    async def _follow(self, assignment: Assignment) -> None:
        if self._primary:
            raise Refused("told to follow in the epoch it leads; a new epoch is needed")
        if self._fork:
            raise Refused("holds files that nobody acknowledged; they have to be kept as a branch first")
        if self._full:
            raise DiskFull(self._full)
        if self._standby is None:
            hello = hello_of(assignment.workspace, self._me, assignment.epoch)
            kept = Kept(self._promise, self._head, self._tree)
            self._standby = self.standby_type(hello, assignment.primary_id, kept, self._host, self.crew)
        self._host.doors.prepare(assignment)

    async def _idle(self, assignment: Assignment) -> None:
        await self._leave()
        self._host.doors.prepare(assignment)
        if assignment.restore and self._head is None and self._fork is None:
            kept = await self._host.history.restore(assignment.restore)
            self._tree, self._head = kept.tree, kept.head
            await self._host.disk.set_head(self._head, self._tree)
        if assignment.branch and (self._branch is None or self._branch.name != assignment.branch):
            self._branch = await self._keep_branch(assignment.branch)

    async def _keep_branch(self, name: str) -> BranchSaved:
        """Put the divergent files of a fenced primary into the store; answers with no paths when none diverged."""
        fork = self._fork
        if fork is None:
            return BranchSaved(name, self._head.id if self._head else CommitId(0, 0), b"")
        if fork.primary is None or fork.cutter is None:
            return await self._host.history.keep_branch(name, self._tree, None, set())
        await fork.cutter.cut(_nowhere)
        forked_from, paths = fork.primary.divergence()
        if not paths:
            return BranchSaved(name, forked_from or CommitId(0, 0), b"", forked_from)
        return await self._host.history.keep_branch(name, self._tree, forked_from, paths)

    def _forget_fork(self) -> None:
        if self._fork:
            self._fork.close()
        self._fork, self._branch = None, None

    async def _leave(self) -> None:
        """End the present role. Afterwards the tree is exactly the head, or a fork that nobody may build on."""
        if self._primary:
            await self._leave_primary(self._primary)
        if self._standby:
            await self._standby.stop()
            self._full = self._standby.halted
            if self._standby.unfit:  # a new engine may recover: it finishes what is journaled
                self._give_up(self._standby.halted)
            self._head, self._unwatched = self._standby.head, False
            self._standby = None

    async def _leave_primary(self, primary: Primary) -> None:
        primary.close("this replica left its role")
        self._host.doors.close()
        if self._running:
            await asyncio.wait([self._running])
        if primary.sealed and self._promise.sealed == primary.sealed.id:
            self._head, self._unwatched = primary.sealed, True
            if self._cutter:
                self._cutter.close()
        else:
            self._head = None
            self._fork = _Fork(primary, self._cutter)
        self._primary = self._running = self._cutter = None

    async def _keep(self, promise: Promise) -> None:
        await self._host.disk.promise(promise)
        self._promise = promise


async def _nowhere(chunk: bytes, data: bytes) -> None:
    """A sink for blocks that nobody needs."""
