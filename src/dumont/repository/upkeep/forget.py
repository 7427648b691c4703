"""Forgetting: commits go, by name or by policy. What only they needed is freed by the next prune."""

from collections.abc import Iterable
from dataclasses import replace

from dumont.errors import BadInput, Corrupt, NotStored
from dumont.model.commit import CommitId
from dumont.repository.record import STATE, CommitRecord, commit_key
from dumont.repository.repository import Listing, Repository
from dumont.repository.upkeep.labels import label_keys, labelled
from dumont.repository.upkeep.retention import Decision, Policy, decide, group_of, newest_first


async def readable(repo: Repository, listing: Listing) -> tuple[list[CommitRecord], dict[str, str]]:
    """The commits that can be read, with their labels, oldest first; and the keys of the others, with the reason."""
    try:
        return await labelled(repo, listing), {}
    except Corrupt:
        found, damaged = [], {}
    for key in listing.commits:
        try:
            found += await labelled(repo, replace(listing, commits=(key,)))
        except Corrupt as error:
            damaged[key] = str(error)
    return found, damaged


async def forget(
    repo: Repository, ids: Iterable[CommitId], even_last: bool = False, despite_damage: bool = False
) -> list[CommitRecord]:
    """Delete the commits `ids`; their records. Raises NotStored when one lacks.

    Raises BadInput, and nothing was forgotten, when one is the newest of its host and path, unless `even_last`; and
    Corrupt when any record can't be read, unless `despite_damage`: then that one stays and counts for nothing, so that
    no more of the others go than would without it.
    """
    listing = await repo.look()
    found = (await readable(repo, listing))[0] if despite_damage else await labelled(repo, listing)
    records = {record.commit.id: record for record in found}
    chosen = dict.fromkeys(ids)
    for id in chosen:
        if id not in records:
            raise NotStored(f"there is no commit {id}; `dumont snapshot ls` shows what there is")
    newest = {}
    for record in sorted(records.values(), key=newest_first, reverse=True):
        newest[group_of(record)] = record.commit.id
    for id in chosen:
        if not even_last and id in newest.values():
            raise BadInput(f"{id} is the newest commit of its host and path: say --even-last to forget it all the same")
    for id in chosen:
        if records[id].pending:
            # First: a commit's pending record without the commit would look like that of a saver which is not done.
            await repo.store.delete(f"{STATE}pending/{records[id].pending}")
        await repo.store.delete(commit_key(id))
        for key in label_keys(listing, id):
            await repo.store.delete(key)
    return [records[id] for id in chosen]


async def forget_by_policy(repo: Repository, policy: Policy, now_s: int, dry_run: bool = False) -> Decision:
    """Forget what `policy` does not keep; what it decided. Raises BadInput for a policy that keeps nothing."""
    decision = decide(await labelled(repo, await repo.look()), policy, now_s)
    if not dry_run and decision.forgotten:
        await forget(repo, [record.commit.id for record in decision.forgotten], even_last=policy.even_last)
    return decision
