"""`dumont snapshot check`: whether everything that commits need is there and undamaged, and which files are hit."""

import argparse
import asyncio
import os
import time
from typing import Any

from dumont.i18n import _, plural
from dumont.repository.progress import Progress
from dumont.repository.repository import Repository
from dumont.repository.upkeep.hits import Hit
from dumont.repository.upkeep.recovery import repair_index
from dumont.repository.upkeep.verify import Terms, Verdict, verify
from dumont.standalone.access import door
from dumont.standalone.meter import shown
from dumont.standalone.output import name_some, remark, short, show, shown_path, warn
from dumont.standalone.sizes import number, size
from dumont.standalone.surroundings import Surroundings


def run(options: argparse.Namespace, surroundings: Surroundings) -> int:
    """Check `options.repo`. 1 when something is damaged."""
    return asyncio.run(_check(options, surroundings))


async def _check(options: argparse.Namespace, surroundings: Surroundings) -> int:
    opened = await door(options, surroundings).open()
    if options.repair_index:
        await _repair(options, opened.repository)
    progress = Progress(time.monotonic())
    async with shown(progress, options.quiet or options.json or not options.read_data):
        verdict = await verify(opened.repository, Terms(read_data=options.read_data), progress)
    show(options, _about(verdict, surroundings.seconds()), _words(options, verdict) if verdict.is_good else "")
    if not options.json:
        _name_troubles(options, verdict)
    return 0 if verdict.is_good else 1


async def _repair(options: argparse.Namespace, repository: Repository) -> None:
    done = await repair_index(repository)
    words = _("made the index again from {packs} packs; {removed} unreadable index objects are removed")
    remark(options, words.format(packs=number(done.packs), removed=number(done.removed)))
    name_some([f"  {name}: {why}" for name, why in done.unreadable.items()])


def _about(verdict: Verdict, seconds: float) -> dict[str, Any]:
    return {
        "ok": verdict.is_good,
        "commits": verdict.commits,
        "packs": verdict.packs,
        "chunks": verdict.chunks,
        "read_bytes": verdict.read_bytes,
        "damage": [{"key": one.key, "what": one.what} for one in verdict.damage],
        "leftovers": [{"key": one.key, "what": one.what} for one in verdict.leftovers],
        "damaged_files": verdict.hit_count,
        "files": [_about_hit(hit) for hit in verdict.hits],
        "vouched": verdict.vouched,
        "seconds": round(seconds, 3),
    }


def _about_hit(hit: Hit) -> dict[str, Any]:
    return {
        "commit": str(hit.commit),
        "branch": hit.branch,
        "path": os.fsdecode(hit.path),
        "everything_below": hit.below,
    }


def _words(options: argparse.Namespace, verdict: Verdict) -> str:
    words = _("{commits} commits and {packs} packs are whole").format(
        commits=number(verdict.commits), packs=number(verdict.packs)
    )
    if options.read_data:
        return words + _("; every byte was read ({bytes})").format(bytes=size(verdict.read_bytes))
    return words + _("; their data was not read (--read-data does)")


def _name_troubles(options: argparse.Namespace, verdict: Verdict) -> None:
    if verdict.damage:
        count = len(verdict.damage)
        warn(plural("{count} damage:", "{count} damages:", count).format(count=number(count)))
        name_some([f"  {one.key}: {one.what}" for one in verdict.damage])
    if verdict.hit_count:
        count = verdict.hit_count
        heading = plural("{count} file can't be restored:", "{count} files can't be restored:", count)
        warn(heading.format(count=number(count)))
        name_some([f"  {_hit_line(hit)}" for hit in verdict.hits])
        warn(_("everything else can be restored"))
    if verdict.leftovers:
        count = len(verdict.leftovers)
        words = plural(
            "{count} thing was left behind by an interrupted run; a prune removes it",
            "{count} things were left behind by interrupted runs; a prune removes them",
            count,
        )
        remark(options, words.format(count=number(count)))


def _hit_line(hit: Hit) -> str:
    what = _("{path} and what is in it") if hit.below else "{path}"
    commit = hit.branch + short(hit.commit)
    return _("commit {commit}: {what}").format(commit=commit, what=what.format(path=shown_path(hit.path) or "."))
