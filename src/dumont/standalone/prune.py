"""`dumont snapshot prune`: what no commit needs any more is deleted."""

import argparse
import asyncio
import time
from typing import Any

from dumont.i18n import _, plural
from dumont.repository.repository import Repository
from dumont.repository.upkeep.prune import Pruned, Terms, prune
from dumont.standalone.access import door
from dumont.standalone.output import name_some, show
from dumont.standalone.sizes import number, size
from dumont.standalone.surroundings import Surroundings


def run(options: argparse.Namespace, surroundings: Surroundings) -> int:
    """Prune `options.repo`. 1 when packs are damaged."""
    return asyncio.run(_prune(options, surroundings))


async def _prune(options: argparse.Namespace, surroundings: Surroundings) -> int:
    opened = await door(options, surroundings).open()
    done = await pruned(options, opened.repository)
    show(options, about_pruned(done), words_of(done))
    return warn_of_damage(done)


async def pruned(options: argparse.Namespace, repository: Repository) -> Pruned:
    """Prune on the terms that the options set."""
    terms = Terms(now_s=int(time.time()), grace_s=options.grace, dry_run=options.dry_run, break_lock=options.break_lock)
    return await prune(repository, terms)


def about_pruned(done: Pruned) -> dict[str, Any]:
    """What programs read."""
    return {
        "dry_run": done.dry_run,
        "packs": done.packs,
        "packs_bytes": done.packs_bytes,
        "deleted": done.deleted,
        "deleted_bytes": done.deleted_bytes,
        "repacked": done.repacked,
        "copied_bytes": done.copied_bytes,
        "freed_bytes": done.freed_bytes,
        "young": done.young,
        "held": done.held,
        "rescued": done.rescued,
        "pending_removed": done.pending_removed,
        "damaged": done.damaged,
    }


def words_of(done: Pruned) -> str:
    """What people read."""
    text = (
        _("would delete {deleted} of {packs} packs ({bytes}) and repack {repacked}")
        if done.dry_run
        else _("deleted {deleted} of {packs} packs ({bytes}), repacked {repacked}")
    )
    words = text.format(
        deleted=number(done.deleted),
        packs=number(done.packs),
        bytes=size(done.deleted_bytes),
        repacked=number(done.repacked),
    )
    if done.young:
        left = plural(
            "{count} pack that nothing needs is too young yet (--grace)",
            "{count} packs that nothing needs are too young yet (--grace)",
            done.young,
        )
        words += "; " + left.format(count=number(done.young))
    return words


def warn_of_damage(done: Pruned) -> int:
    """The status: 1 when packs are damaged, which are named."""
    name_some([_("pack {name} is damaged: {why}").format(name=name, why=why) for name, why in done.damaged.items()])
    return 1 if done.damaged else 0
