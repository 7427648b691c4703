"""A barrier: OK only when a commit holding all earlier writes is fsynced by the whole ack set; otherwise unknown."""

import asyncio
from dataclasses import dataclass

from dumont.model.commit import Commit, CommitId


@dataclass(frozen=True)
class Answer:
    """What a barrier answers. `ok` False is *unknown*: the writes may or may not be safe; `reason` says why."""

    ok: bool
    commit: Commit | None = None
    reason: str = ""


@dataclass(frozen=True)
class AckSet:
    """Whose fsync a barrier of this epoch needs. `version` orders the sets that a server made."""

    epoch: int
    version: int = 0
    members: frozenset[str] = frozenset()


class Barriers:
    """The barriers of one epoch: asked, attached to a commit, answered. Nothing here can say OK without acks.

    `ok_seq` is the newest commit under which a barrier returned OK: a replica that joins the ack set must hold it.
    """

    def __init__(self, epoch: int) -> None:
        self.ack_set = AckSet(epoch)
        self.ok_seq = 0
        self._asked: list[asyncio.Future[Answer]] = []
        self._waiting: list[tuple[Commit, asyncio.Future[Answer]]] = []
        self._acked: dict[str, CommitId] = {}
        self._closed = ""

    @property
    def asked(self) -> bool:
        """Whether somebody waits for the next commit."""
        return bool(self._asked)

    async def ask(self, timeout_s: float) -> Answer:
        """Wait for the answer; unknown after `timeout_s` seconds, or at once when it can't be had."""
        if reason := self._impossible():
            return Answer(ok=False, reason=reason)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked.append(future)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            missing = ", ".join(sorted(self.ack_set.members)) or "nobody"
            return Answer(ok=False, reason=f"not acknowledged within {timeout_s:g} s by {missing}")

    def take_asked(self) -> list[asyncio.Future[Answer]]:
        """Those that the cut starting now will cover."""
        asked, self._asked = self._asked, []
        return asked

    def cover(self, asked: list[asyncio.Future[Answer]], commit: Commit) -> None:
        """`commit` holds every write made before these were asked."""
        self._waiting += [(commit, future) for future in asked]
        self._settle()

    def ack(self, member: str, id: CommitId) -> None:
        """`member` has fsynced `id` and everything before it. Acks of another epoch count for nothing."""
        if id.epoch == self.ack_set.epoch and id > self._acked.get(member, CommitId(0, 0)):
            self._acked[member] = id
            self._settle()

    def acked(self, member: str) -> CommitId | None:
        """The newest commit of this epoch that `member` acknowledged."""
        return self._acked.get(member)

    def adopt(self, ack_set: AckSet) -> None:
        """Use the server's newer set; older ones and those of another epoch are ignored."""
        if ack_set.epoch == self.ack_set.epoch and ack_set.version >= self.ack_set.version:
            self.ack_set = ack_set
            self._settle()

    def close(self, reason: str) -> None:
        """Acknowledge nothing more in this epoch; everything open is answered unknown."""
        self._closed = reason
        self._settle()

    def safe(self) -> CommitId | None:
        """The newest commit that the whole ack set holds; None when there is none."""
        ids = [self._acked.get(member) for member in self.ack_set.members]
        return min((id for id in ids if id), default=None) if ids and all(ids) else None

    def _impossible(self) -> str:
        if self._closed:
            return self._closed
        return "" if self.ack_set.members else "single copy: no standby holds this workspace yet"

    def _settle(self) -> None:
        if reason := self._impossible():
            for future in self._asked + [future for _, future in self._waiting]:
                _answer(future, Answer(ok=False, reason=reason))
            self._asked, self._waiting = [], []
            return
        safe = self.safe()
        still = []
        for commit, future in self._waiting:
            if future.done():
                continue  # its time was over
            if safe is None or safe < commit.id:
                still.append((commit, future))
            else:
                self.ok_seq = max(self.ok_seq, commit.id.seq)
                _answer(future, Answer(ok=True, commit=commit))
        self._waiting = still


def _answer(future: asyncio.Future[Answer], answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)
