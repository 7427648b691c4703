"""`dumont snapshot restore`: a commit becomes a directory again; onto an earlier restore, only differences come."""

import argparse
import asyncio
import hashlib
import os
import time
from pathlib import Path

from dumont.errors import BadInput
from dumont.i18n import _
from dumont.repository.cache import Cache
from dumont.repository.progress import Progress
from dumont.repository.record import CommitRecord
from dumont.repository.restoring.restore import Restored, Wanted, restore, start_restoring
from dumont.standalone.access import door
from dumont.standalone.apart import keep_apart
from dumont.standalone.known import caches_of
from dumont.standalone.meter import shown
from dumont.standalone.output import remark, short, show
from dumont.standalone.sizes import duration, files, number, size
from dumont.standalone.surroundings import Surroundings
from dumont.standalone.which import latest, pick, readable_commits
from dumont.standalone.workers import Workers, workers
from dumont.store.address import Address, parse


def run(options: argparse.Namespace, surroundings: Surroundings) -> int:
    """Restore from `options.repo` into `options.target`."""
    address = parse(options.repo)
    target = _target(options.target, address)
    with workers(start_restoring, address, options.budget) as hands:
        return asyncio.run(_restore(options, surroundings, target, hands))


async def _restore(options: argparse.Namespace, surroundings: Surroundings, target: Path, hands: Workers) -> int:
    opened = await door(options, surroundings).open()
    repository = opened.repository
    record = _picked(options, await readable_commits(repository, opened.listing))
    notes = Notes(Cache(caches_of(surroundings.environment) / "restored", b""), repository.keys.repository)
    if not options.overwrite and _holds_something(target) and not notes.knows(target):
        raise BadInput(
            _(
                "{target} is not empty and no earlier restore of this repository: give another directory, "
                "or say --overwrite to change the files that differ"
            ).format(target=target)
        )
    await repository.catch_up(opened.listing)
    target.mkdir(mode=0o700, exist_ok=True)
    notes.note(target)
    progress = Progress(time.monotonic() - surroundings.seconds())
    wanted = Wanted(
        only=tuple(os.fsencode(pattern) for pattern in options.only),
        keep_extra=not options.delete,
        progress=progress,
    )
    async with hands.over(repository.store) as all_hands, shown(progress, options.quiet or options.json):
        restored = await restore(repository, record, target, all_hands, wanted)
    _tell(options, record, restored, (surroundings.seconds(), progress.working_set_s))
    return 0


def _tell(
    options: argparse.Namespace, record: CommitRecord, restored: Restored, took: tuple[float, float | None]
) -> None:
    seconds, working_set_s = took
    about = {
        "commit": str(restored.commit.id),
        "root": restored.commit.root.hex(),
        "name": record.name,
        "files": restored.files,
        "plain_bytes": restored.plain_bytes,
        "fetched_bytes": restored.fetched_bytes,
        "owners": restored.owners,
        "working_set_s": round(seconds if working_set_s is None else working_set_s, 3),
        "seconds": round(seconds, 3),
    }
    words = _("restored commit {commit}: {files}, {plain}; {fetched} fetched, in {time}").format(
        commit=short(restored.commit.id),
        files=files(number(restored.files), restored.files),
        plain=size(restored.plain_bytes),
        fetched=size(restored.fetched_bytes),
        time=duration(seconds),
    )
    show(options, about, words)
    if not restored.owners and not options.json:
        remark(options, _("everything belongs to you now: only root can give files back to their owners"))


def _picked(options: argparse.Namespace, commits: list[CommitRecord]) -> CommitRecord:
    if options.commit:
        return pick(commits, options.commit)
    return latest(commits, options.name, options.path)


def _target(path: str, repo: Address) -> Path:
    """Where to restore to. Raises BadInput when it can't be there."""
    if "://" in path:
        raise BadInput(_("{path} is no directory of this machine: the order is REPO TARGET").format(path=path))
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_dir():
        raise BadInput(_("{path} is no directory: give one, or a name that is free").format(path=path))
    if not target.parent.is_dir():
        raise BadInput(_("there is no {path}: make it first").format(path=target.parent))
    keep_apart(target, repo)
    return target


def _holds_something(target: Path) -> bool:
    try:
        with os.scandir(target) as names:
            return any(True for _name in names)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise BadInput(_("{path} can't be read: {error}").format(path=target, error=error.strerror)) from error


class Notes:
    """Which directories of this machine are restores of a repository, so that restoring again asks nothing."""

    def __init__(self, cache: Cache, repository: bytes) -> None:
        self._cache = cache
        self._repository = repository

    def knows(self, target: Path) -> bool:
        """Whether `target` is the very directory that was restored into."""
        return self._cache.read(_name(target)) == self._about(target)

    def note(self, target: Path) -> None:
        """`target` is about to be restored into."""
        self._cache.write(_name(target), self._about(target))

    def _about(self, target: Path) -> bytes:
        seen = os.stat(target)
        return f"{self._repository.hex()} {seen.st_dev} {seen.st_ino}".encode()


def _name(target: Path) -> str:
    return hashlib.sha256(os.fsencode(target)).hexdigest()[:32]
