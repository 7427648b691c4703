"""Which commit: what a person writes (`41`, `3.41`, `latest`, a name, a path) becomes a stored commit."""

import os
from collections.abc import Sequence

from dumont.errors import BadInput
from dumont.i18n import _
from dumont.repository.record import CommitRecord, parse_commit
from dumont.repository.repository import Listing, Repository
from dumont.repository.upkeep.forget import readable
from dumont.repository.upkeep.labels import labelled
from dumont.standalone.output import warn

LATEST = "latest"


async def commits_of(repository: Repository, listing: Listing) -> list[CommitRecord]:
    """All commits with their present names and tags, oldest first. Raises Corrupt when one can't be read."""
    return await labelled(repository, listing)


async def readable_commits(repository: Repository, listing: Listing) -> list[CommitRecord]:
    """As `commits_of`, but damaged ones are warned of and left out: they don't keep anybody from the others."""
    found, damaged = await readable(repository, listing)
    for why in damaged.values():
        warn(_("a commit is damaged: {why}").format(why=why))
    return found


def pick(commits: Sequence[CommitRecord], word: str) -> CommitRecord:
    """The commit that `word` means: an id, `latest`, or the latest of that name. Raises BadInput."""
    if word == LATEST:
        return latest(commits)
    if word.replace(".", "", 1).isdigit():
        id = parse_commit(word)
        found = [one for one in commits if one.commit.id == id]
    else:
        found = [one for one in commits if one.name == word]
    if not found:
        raise BadInput(_("there is no commit {word}; `dumont snapshot ls` shows what there is").format(word=word))
    return found[-1]


def latest(commits: Sequence[CommitRecord], name: str = "", path: str = "") -> CommitRecord:
    """The newest commit, of that name and of that directory if they are given. Raises BadInput."""
    where = os.fsencode(os.path.abspath(path)) if path else b""
    found = [one for one in commits if (not name or one.name == name) and (not path or one.path == where)]
    if found:
        return max(found, key=lambda one: (one.commit.at_ns, one.commit.id))
    if not commits:
        raise BadInput(_("the repository holds no commit yet"))
    looked_for = " ".join(part for part in (name, path) if part)
    raise BadInput(_("there is no commit of {what}; `dumont snapshot ls` shows what there is").format(what=looked_for))
