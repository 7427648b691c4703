"""`dumont snapshot ls`: the commits of a repository, or what one of them holds."""

import argparse
import asyncio
import os
import stat
from typing import Any

from dumont.i18n import _
from dumont.model.commit import Entry, Kind
from dumont.repository.record import NOTHING_EXCLUDED
from dumont.repository.upkeep.reach import Directories
from dumont.standalone.access import Opened, door
from dumont.standalone.commits import about_commit, commit_line
from dumont.standalone.exclude import exclusion_words
from dumont.standalone.output import moment, remark, show, shown_path
from dumont.standalone.sizes import size
from dumont.standalone.surroundings import Surroundings
from dumont.standalone.trees import entries_at
from dumont.standalone.which import pick, readable_commits


def run(options: argparse.Namespace, surroundings: Surroundings) -> int:
    """List. Raises BadInput for a commit or path that is not there."""
    return asyncio.run(_ls(options, surroundings))


async def _ls(options: argparse.Namespace, surroundings: Surroundings) -> int:
    opened = await door(options, surroundings).open()
    commits = await readable_commits(opened.repository, opened.listing)
    if not options.commit:
        lines = [commit_line(record) for record in commits] or [_("the repository holds no commit yet")]
        print_all(options, [about_commit(record) for record in commits], lines)
        return 0
    record = pick(commits, options.commit)
    entries = await _entries(opened, record.commit.root, os.fsencode(options.path.strip("/")))
    print_all(options, [about_entry(*one) for one in entries], [entry_line(*one) for one in entries])
    if record.excluded != NOTHING_EXCLUDED and not options.json:
        remark(options, _("left out of this commit: {what}").format(what=exclusion_words(record.excluded)))
    return 0


async def _entries(opened: Opened, root: bytes, path: bytes) -> list[tuple[bytes, Entry]]:
    await opened.repository.catch_up(opened.listing)
    return await entries_at(Directories(opened.repository), root, path)


def print_all(options: argparse.Namespace, about: list[dict[str, Any]], lines: list[str]) -> None:
    """What is asked for is printed even with --quiet."""
    if options.json:
        show(options, about, "")
    else:
        print("\n".join(lines))


def about_entry(path: bytes, entry: Entry) -> dict[str, Any]:
    """What programs read of a name in a tree."""
    about: dict[str, Any] = {
        "path": os.fsdecode(path),
        "kind": entry.kind.value,
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime_ns": entry.mtime_ns,
        "size": entry.size,
    }
    if entry.kind is Kind.SYMLINK:
        about["target"] = os.fsdecode(entry.target)
    return about


def entry_line(path: bytes, entry: Entry) -> str:
    """A name in a tree on one line, like `ls -l` writes it."""
    kinds = {Kind.FILE: stat.S_IFREG, Kind.DIRECTORY: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK, Kind.FIFO: stat.S_IFIFO}
    name = shown_path(path) + ("/" if entry.kind is Kind.DIRECTORY else "")
    if entry.kind is Kind.SYMLINK:
        name += f" → {shown_path(entry.target)}"
    mode = stat.filemode(kinds[entry.kind] | entry.mode)
    return f"{mode}  {size(entry.size):>8}  {moment(entry.mtime_ns)}  {name}"
