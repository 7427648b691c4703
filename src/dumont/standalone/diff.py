"""`dumont snapshot diff`: what differs between two commits."""

import argparse
import asyncio
import os
from collections import Counter
from typing import Any

from dumont.i18n import _
from dumont.model.commit import Entry
from dumont.repository.upkeep.reach import Directories
from dumont.standalone.access import door
from dumont.standalone.exclude import about_exclusion, exclusion_words
from dumont.standalone.output import short, show, shown_path
from dumont.standalone.sizes import number, size
from dumont.standalone.surroundings import Surroundings
from dumont.standalone.trees import Difference, differences
from dumont.standalone.which import pick, readable_commits

_SIGNS = {"added": "+", "removed": "-", "modified": "M", "attributes": "a"}


def run(options: argparse.Namespace, surroundings: Surroundings) -> int:
    """Compare the commits `options.a` and `options.b`."""
    return asyncio.run(_diff(options, surroundings))


async def _diff(options: argparse.Namespace, surroundings: Surroundings) -> int:
    opened = await door(options, surroundings).open()
    commits = await readable_commits(opened.repository, opened.listing)
    before, after = pick(commits, options.a), pick(commits, options.b)
    await opened.repository.catch_up(opened.listing)
    directories = Directories(opened.repository)
    found = [one async for one in differences(directories, before.commit.root, after.commit.root)]
    counts = Counter(one.kind for one in found)
    grown = sum(_size(one.after) - _size(one.before) for one in found)
    about = {
        "from": str(before.commit.id),
        "to": str(after.commit.id),
        "added": counts["added"],
        "removed": counts["removed"],
        "modified": counts["modified"],
        "attributes": counts["attributes"],
        "grown_bytes": grown,
        "excluded": [about_exclusion(record.excluded) for record in (before, after)],
        "changes": [_about(one) for one in found],
    }
    lines = [_line(one) for one in found]
    lines.append(
        _(
            "{before} → {after}: {added} added, {removed} removed, {modified} modified, {attributes} attributes only"
        ).format(
            before=short(before.commit.id),
            after=short(after.commit.id),
            added=number(counts["added"]),
            removed=number(counts["removed"]),
            modified=number(counts["modified"]),
            attributes=number(counts["attributes"]),
        )
    )
    if before.excluded != after.excluded:
        lines.append(
            _("not saved alike: {before} leaves out {what}; {after} leaves out {other}").format(
                before=short(before.commit.id),
                what=exclusion_words(before.excluded),
                after=short(after.commit.id),
                other=exclusion_words(after.excluded),
            )
        )
    if options.json:
        show(options, about, "")
    else:
        print("\n".join(lines))
    return 0


def _about(one: Difference) -> dict[str, Any]:
    return {
        "path": os.fsdecode(one.path),
        "kind": one.kind,
        "size_before": one.before.size if one.before else None,
        "size_after": one.after.size if one.after else None,
    }


def _line(one: Difference) -> str:
    sizes = ""
    if one.kind == "modified" and one.before and one.after:
        sizes = f"  ({size(one.before.size)} → {size(one.after.size)})"
    return f"{_SIGNS[one.kind]} {shown_path(one.path) or '.'}{sizes}"


def _size(entry: Entry | None) -> int:
    return entry.size if entry else 0
