"""`dumont snapshot save`: a directory becomes a commit in a repository, which is made if there is none."""

import argparse
import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

from dumont.errors import BadInput
from dumont.i18n import _
from dumont.repository.probe import Compression
from dumont.repository.progress import Progress
from dumont.repository.saving.save import Draft, Saved, save, start_saving
from dumont.standalone.access import door
from dumont.standalone.apart import keep_apart
from dumont.standalone.counted import CountedStore
from dumont.standalone.exclude import about_exclusion, exclusion_of
from dumont.standalone.meter import shown
from dumont.standalone.output import name_some, remark, short, show, shown_path
from dumont.standalone.sizes import duration, files, number, size
from dumont.standalone.surroundings import Surroundings
from dumont.standalone.workers import Workers, workers
from dumont.store.address import Address, parse

_UNREADABLE = "unreadable"


def run(options: argparse.Namespace, surroundings: Surroundings) -> int:
    """Save `options.path` in `options.repo`. 1 when something could not be read, though the rest is saved."""
    address = parse(options.repo)
    source = _source(options.path, address)
    with workers(start_saving, address, options.budget) as hands:
        return asyncio.run(_save(options, surroundings, source, hands))


async def _save(options: argparse.Namespace, surroundings: Surroundings, source: Path, hands: Workers) -> int:
    walk = surroundings.walk
    excluded = walk.exclusion if walk else exclusion_of(options, source)  # a file of patterns may be a pipe: read once
    at = door(options, surroundings)
    counted = CountedStore(at.store)
    opened = await replace(at, store=counted).open_or_create()
    if opened.created:
        remark(options, _("made a repository at {where}").format(where=at.where))
        if options.insecure_no_passphrase:
            remark(
                options,
                _("it has no passphrase: whoever can read {where} can read what is saved").format(where=at.where),
            )
    draft = Draft(
        at_ns=time.time_ns(),
        name=options.name,
        tags=tuple(dict.fromkeys(options.tag)),
        host=os.uname().nodename,
        path=os.fsencode(source),
        walk=walk,
        excluded=excluded,
        compression=Compression(options.compression),
    )
    progress = Progress(time.monotonic())
    async with hands.over(counted) as all_hands, shown(progress, options.quiet or options.json):
        saved = await save(opened.repository, source, draft, all_hands, progress)
    known = hands.share_store or not saved.stored_bytes  # else processes of their own put packs
    return _tell(options, saved, surroundings.seconds(), counted.requests if known else None)


def _tell(options: argparse.Namespace, saved: Saved, seconds: float, requests: int | None) -> int:
    record = saved.record
    commit = record.commit
    about = {
        "commit": str(commit.id),
        "root": commit.root.hex(),
        "name": record.name,
        "tags": list(record.tags),
        "files": record.files,
        "plain_bytes": record.plain_bytes,
        "new_bytes": saved.new_bytes,
        "stored_bytes": saved.stored_bytes,
        "consistent": commit.consistent,
        "fuzzy": [os.fsdecode(path) for path in commit.fuzzy],
        "excluded": about_exclusion(record.excluded),
        "uncovered": {os.fsdecode(path): why for path, why in saved.uncovered.items()},
        "seconds": round(seconds, 3),
    }
    if requests is not None:
        about["requests"] = requests
    words = _("saved as commit {commit}: {files}, {plain}; {new} new, {stored} stored, in {time}").format(
        commit=short(commit.id),
        files=files(number(record.files), record.files),
        plain=size(record.plain_bytes),
        new=size(saved.new_bytes),
        stored=size(saved.stored_bytes),
        time=duration(seconds),
    )
    show(options, about, words)
    name_some([_("changed while it was read: {path}").format(path=shown_path(path)) for path in commit.fuzzy])
    name_some(
        [
            _("not saved: {path}: {why}").format(path=shown_path(path), why=why)
            for path, why in sorted(saved.uncovered.items())
        ]
    )
    return 1 if any(_UNREADABLE in why for why in saved.uncovered.values()) else 0


def _source(path: str, repo: Address) -> Path:
    """The directory to save. Raises BadInput for none, and for one that holds the repository or lies in it."""
    source = Path(os.path.realpath(path))
    if not source.is_dir():
        if "://" in path:
            raise BadInput(_("{path} is no directory of this machine: the order is PATH REPO").format(path=path))
        if not os.path.lexists(path):
            raise BadInput(
                _("there is no {path}: PATH is the directory to save, and REPO comes after it").format(path=path)
            )
        raise BadInput(_("{path} is no directory; give the directory that it lies in").format(path=path))
    keep_apart(source, repo)
    return source
