"""Claims: pending records of savers that are not done, which keep packs from being pruned.

A saver may pause for ever and go on. It is stopped for good only by taking the number for which it pends: a void commit
is put there and never removed. Then, and only then, is its pending record removed without its commit being there.
"""

from dataclasses import dataclass

from dumont.errors import AlreadyStored, NotStored
from dumont.model.commit import Commit, CommitId
from dumont.repository.record import STATE, VERSION, CommitRecord, Pending, branch_prefix, commit_key
from dumont.repository.repository import Listing, Repository


@dataclass
class Claims:
    """`now_s`: Unix time; pending records younger than `grace_s` are left alone. Counts what `settle` did.

    `after`: savers of commits of the main line after that one are waited for, however long they take.
    """

    repo: Repository
    now_s: int
    grace_s: int
    after: CommitId | None = None
    removed: int = 0
    voided: int = 0

    async def held(self, listing: Listing) -> set[str]:
        """The packs that pending records of `listing` name. Raises Corrupt for one that can't be read."""
        packs: set[str] = set()
        for name in sorted(listing.pending):
            if pending := await self._read(name):
                packs.update(pending.packs)
        return packs

    async def settle(self, listing: Listing, change: bool) -> set[str]:
        """Remove the pending records of those who are done or stopped, and stop old ones; the packs of the others.

        Without `change` nothing is done. Raises Corrupt for a record that can't be read.
        """
        packs: set[str] = set()
        for name in sorted(listing.pending):
            pending = await self._read(name)
            if pending is None:
                continue
            if await self._is_over(name, pending, change):
                self.removed += 1
                if change:
                    await self.repo.store.delete(f"{STATE}pending/{name}")
            else:
                packs.update(pending.packs)
        return packs

    async def _read(self, name: str) -> Pending | None:
        try:
            return await self.repo.get_record(f"{STATE}pending/{name}", Pending)
        except NotStored:
            return None

    async def _is_over(self, name: str, pending: Pending, change: bool) -> bool:
        """Whether its saver is done, or can't name the commit any more.

        While another saver's commit has the number, this one could still get it, once that commit is forgotten.
        """
        if not _makes_sense(pending.prefix):
            return True  # no saver's: nothing could be named there
        found = await self._commit(pending)
        if found is None and self._is_awaited(pending):
            return False
        if found is None and abs(self.now_s - pending.created_s) >= self.grace_s:
            self.voided += 1
            if not change:
                return True
            found = await self._void(name, pending)
        return found is not None and (found.void or found.pending == name)

    def _is_awaited(self, pending: Pending) -> bool:
        return self.after is not None and not pending.prefix and pending.commit > self.after

    async def _commit(self, pending: Pending) -> CommitRecord | None:
        try:
            return await self.repo.get_record(commit_key(pending.commit, pending.prefix), CommitRecord)
        except NotStored:
            return None

    async def _void(self, name: str, pending: Pending) -> CommitRecord | None:
        nothing = Commit(pending.commit, None, b"", self.now_s * 10**9, consistent=False)
        void = CommitRecord(VERSION, nothing, pending=name, void=True)
        try:
            await self.repo.put_record(commit_key(pending.commit, pending.prefix), void)
        except AlreadyStored:
            self.voided -= 1
            return await self._commit(pending)
        return void


def _makes_sense(prefix: str) -> bool:
    name = prefix.removeprefix("branches/").removesuffix("/")
    return not prefix or (bool(name) and "/" not in name and prefix == branch_prefix(name))
