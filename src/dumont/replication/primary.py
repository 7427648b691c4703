"""A primary: cuts commits, sends them to its standbys, answers barriers. Its `run` returning ends the role."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from dumont.errors import Fenced
from dumont.model.commit import Change, Commit, CommitId
from dumont.replication.barrier import AckSet, Answer, Barriers
from dumont.replication.crew import Crew
from dumont.replication.cut import Cut, Cutter
from dumont.replication.ports import Host
from dumont.replication.sender import Heard, Progress, Sender, StreamLink
from dumont.wire.control import PeerStatus, Risk
from dumont.wire.stream import VERSION, StreamHello

FUZZY_AFTER_S = 5.0
"""When changes wait for so long for a consistent cut, a fuzzy commit, that says what it is, risks less than none."""
_IDLE_CHECK_S = 1.0
_UNACKED_MAX = 256
_UNACKED_PATHS_MAX = 50_000


@dataclass(frozen=True)
class Seat:
    """Who plays a role: an instance, for a workspace, at an epoch."""

    workspace: str
    instance_id: str
    epoch: int


@dataclass
class _Unacked:
    """Commits that the ack set does not hold yet: since when, how many bytes, which paths."""

    id: CommitId
    since: float
    size: int = 0
    paths: set[bytes] = field(default_factory=set)


class Primary:
    """The one replica whose barriers count, as long as nobody has heard of a higher epoch."""

    def __init__(self, seat: Seat, cutter: Cutter, head: Commit | None, host: Host, crew: Crew) -> None:
        self.seat = seat
        self.head = head
        self.started_from = head
        self.barriers = Barriers(seat.epoch)
        self.sealed: Commit | None = None
        self.commits = 0
        self.last_cut = Cut(consistent=True)
        self._cutter = cutter
        self._clock = host.clock
        self._watchdog = host.watchdog
        self._numbers = host.numbers
        self._crew = crew
        self._senders: dict[str, Sender] = {}
        self._declared: set[bytes] = set()
        self._unacked: list[_Unacked] = []
        self._blob_bytes = 0
        self._dirty_since: float | None = None
        self._sealing: asyncio.Future[None] | None = None
        self._closed = ""
        self._wake = asyncio.Event()
        self._checked_at = 0.0
        self._parent_root = cutter.tree.root()

    async def run(self) -> None:
        """Commit until closed: at once when somebody waits, otherwise as often as the pace allows."""
        while not self._closed:
            await self._step()
            await self._rest()

    def close(self, reason: str) -> None:
        """Acknowledge nothing more, hang up on the standbys, let `run` return and `seal` fail."""
        self._closed = self._closed or reason
        self.barriers.close(self._closed)
        if self._sealing is not None:
            self._sealing.cancel()
        for sender in self._senders.values():
            sender.close()
        self._wake.set()

    def attach(self, link: StreamLink) -> "asyncio.Task[None] | None":
        """Serve a standby over `link`; a newer link of the same standby replaces the older. Done when it closed."""
        if self._closed:
            link.close()
            return None
        if before := self._senders.get(link.peer):
            before.close()
        root = self._cutter.tree.root() if self.head and not self._cutter.pending else b""
        hello = StreamHello(VERSION, self.seat.workspace, self.seat.instance_id, self.seat.epoch, _id(self.head), root)
        sender = Sender(link, hello, self._clock, Heard(self._ack, self._alive, self._wake.set))
        self._senders[link.peer] = sender
        return self._crew.start(sender.run())

    def adopt(self, version: int, members: Collection[str]) -> None:
        """Use the ack set that the server made; older versions are ignored."""
        self.barriers.adopt(AckSet(self.seat.epoch, version, frozenset(members)))
        self._trim()

    async def barrier(self, paths: Collection[bytes] = (), timeout_s: float = 10.0) -> Answer:
        """Wait until every earlier write is on the whole ack set; otherwise unknown. `paths` are read again."""
        self._declared.update(paths)
        self._wake.set()
        return await self.barriers.ask(timeout_s)

    async def seal(self) -> Commit:
        """Cut the last commit of this epoch, the workload being stopped, and acknowledge nothing more.

        Waits for a consistent one: the tree must be exactly the commit. Raises Fenced when this primary was closed.
        """
        if self._sealing is None:
            self._sealing = asyncio.get_running_loop().create_future()
            self._wake.set()
        if not self._closed:
            await asyncio.wait([self._sealing])
        if self.sealed is None or self._closed:
            raise Fenced(self._closed)
        return self.sealed

    def divergence(self) -> tuple[CommitId | None, set[bytes]]:
        """The last commit that the ack set holds, and every path that changed after it."""
        paths = self._cutter.pending.union(*(unacked.paths for unacked in self._unacked))
        return self.barriers.safe() or _id(self.started_from), paths

    def risk(self) -> Risk:
        """What the primary's death would lose now."""
        starts = [unacked.since for unacked in self._unacked] + ([self._dirty_since] if self._dirty_since else [])
        if not starts:
            return Risk()
        total = self._blob_bytes + sum(unacked.size for unacked in self._unacked)
        return Risk(bytes=total, ms=int((self._clock.monotonic() - min(starts)) * 1000))

    def peers(self) -> tuple[PeerStatus, ...]:
        """What is known of each standby, by instance id."""
        return tuple(
            PeerStatus(
                instance_id=peer,
                connected=not sender.closed,
                acked=self.barriers.acked(peer),
                refusal=sender.refusal,
                silent_ms=int(sender.silent_s * 1000),
            )
            for peer, sender in sorted(self._senders.items())
        )

    async def _rest(self) -> None:
        """Wait for work. Background cuts are spaced so that freezing stays within its duty."""
        pace = self._cutter.pace
        pause_s = max(pace.interval_s, self.last_cut.frozen_s / pace.duty_max)
        try:
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _step(self) -> None:
        """One turn: cut if anybody or anything asks for it, and send the commit."""
        joining = [sender for sender in self._senders.values() if sender.progress is Progress.JOINING]
        sealing = self._sealing is not None and self.sealed is None
        wanted = bool(joining) or sealing or self.barriers.asked
        if self.sealed is not None and not joining:
            return
        if not wanted and self._is_idle():
            return
        asked = self.barriers.take_asked()
        declared, self._declared = self._declared, set()
        for sender in joining:
            declared |= self._missing(sender)
        began = self._clock.monotonic()
        self._dirty_since = self._dirty_since or began
        self.last_cut = cut = await self._cutter.cut(self._sink, declared, thorough=wanted)
        if self._closed:
            return
        overdue = began - self._dirty_since > FUZZY_AFTER_S
        if cut.consistent or wanted or overdue:
            # Only a cut that began after the workload had ended may be the last one.
            commit = await self._commit(cut, began, joining, sealing=sealing and cut.consistent)
            self.barriers.cover(asked, commit)

    def _is_idle(self) -> bool:
        now = self._clock.monotonic()
        if self._cutter.quiet() and now - self._checked_at < _IDLE_CHECK_S:
            return True
        self._checked_at = now
        return False

    def _missing(self, sender: Sender) -> set[bytes]:
        """Paths that a joining standby has not, or has differently; they are read again so that their blocks flow."""
        assert sender.greeted is not None
        if sender.greeted.tree is None:
            return sender.stale | self._cutter.pending
        return {change.path for change in sender.greeted.tree.diff(self._cutter.tree)}

    async def _sink(self, chunk: bytes, data: bytes) -> None:
        known = self._cutter.tree.has_chunk(chunk)
        if not known:
            self._blob_bytes += len(data)
        for sender in list(self._senders.values()):
            await sender.blob(chunk, data, known)

    async def _commit(self, cut: Cut, began: float, joining: list[Sender], *, sealing: bool) -> Commit:
        """Record what was cut and send it on. Without changes the head still stands, unless somebody joins."""
        before, parent_root = self.head, self._parent_root
        changes = self._cutter.take_changes()
        for sender in self._senders.values():
            if not sender.closed:
                sender.stale.update(change.path for change in changes)
        commit = self.sealed or self._next(cut, joining, fresh=bool(changes or joining or sealing), sealing=sealing)
        assert commit.root == self._cutter.tree.root(), "the sealed tree changed after its workload had ended"
        self._note_unacked(commit, began, changes)
        self.head, self._parent_root = commit, commit.root
        if sealing:
            self._seal_with(commit)
        for sender in list(self._senders.values()):
            if sender.progress is Progress.FOLLOWING and commit is not before:
                await sender.commit(commit, parent_root, changes)
            elif sender in joining and sender.greeted is not None:
                await sender.commit(commit, sender.greeted.root, self._all_missing(sender))
        self._trim()
        return commit

    def _next(self, cut: Cut, joining: list[Sender], *, fresh: bool, sealing: bool) -> Commit:
        """The commit record for the tree as it is, or the head when it says all there is to say."""
        head = self.head
        if head is not None and not fresh and head.id.epoch == self.seat.epoch and _says(head, cut):
            return head
        given = [id.seq for id in (_id(head), self._numbers.last(), *(sender.peer_head for sender in joining)) if id]
        id = CommitId(self.seat.epoch, max(given, default=0) + 1)
        self._numbers.note(id)
        return Commit(
            id=id,
            parent=_id(head),
            root=self._cutter.tree.root(),
            at_ns=int(self._clock.now().timestamp() * 1_000_000) * 1_000,
            consistent=cut.consistent,
            fuzzy=cut.fuzzy,
            uncovered=tuple(sorted(self._cutter.uncovered)),
            sealed=sealing,
        )

    def _seal_with(self, commit: Commit) -> None:
        self.sealed = commit
        self.barriers.close("sealed for a switchover")
        if self._sealing is not None and not self._sealing.done():
            self._sealing.set_result(None)

    def _all_missing(self, sender: Sender) -> tuple[Change, ...]:
        tree = self._cutter.tree
        if sender.greeted is not None and sender.greeted.tree is not None:
            return tuple(sender.greeted.tree.diff(tree))
        return tuple(Change(path, tree.get(path)) for path in sorted(sender.stale))

    def _note_unacked(self, commit: Commit, began: float, changes: tuple[Change, ...]) -> None:
        blob_bytes, self._blob_bytes = self._blob_bytes, 0
        self._dirty_since = None
        if commit is self.head:
            return
        self.commits += 1
        self._unacked.append(_Unacked(commit.id, began, blob_bytes, {change.path for change in changes}))
        if len(self._unacked) > _UNACKED_MAX:
            first, second = self._unacked[:2]
            first.paths |= second.paths
            if len(first.paths) > max(_UNACKED_PATHS_MAX, 2 * len(self._cutter.tree)):  # names that came and went
                first.paths = {path for path in first.paths if path in self._cutter.tree}
            self._unacked[:2] = [_Unacked(second.id, first.since, first.size + second.size, first.paths)]

    def _trim(self) -> None:
        safe = self.barriers.safe()
        if safe is not None:
            self._unacked = [unacked for unacked in self._unacked if unacked.id > safe]

    def _ack(self, peer: str, id: CommitId) -> None:
        self.barriers.ack(peer, id)
        self._trim()

    def _alive(self, peer: str, sent_at: float) -> None:
        if peer in self.barriers.ack_set.members:
            self._watchdog.renew(self.seat.epoch, sent_at)


def _id(commit: Commit | None) -> CommitId | None:
    return commit.id if commit else None


def _says(head: Commit, cut: Cut) -> bool:
    """Whether `head` tells of the same tree what `cut` found: as consistent, and with every file named that moved."""
    return head.consistent == cut.consistent and set(cut.fuzzy) <= set(head.fuzzy)
