"""`dumont snapshot tag`: a commit's name and tags, changed."""

import argparse
import asyncio

from dumont.errors import BadInput
from dumont.i18n import _
from dumont.repository.upkeep.labels import label
from dumont.standalone.access import door
from dumont.standalone.output import short, show
from dumont.standalone.surroundings import Surroundings
from dumont.standalone.which import commits_of, pick


def run(options: argparse.Namespace, surroundings: Surroundings) -> int:
    """Change the labels of `options.commit`. Raises BadInput when nothing is asked for."""
    if not (options.add or options.remove or options.name is not None):
        raise BadInput(_("say what to change: --add TAG, --remove TAG or --name NAME"))
    return asyncio.run(_tag(options, surroundings))


async def _tag(options: argparse.Namespace, surroundings: Surroundings) -> int:
    opened = await door(options, surroundings).open()
    record = pick(await commits_of(opened.repository, opened.listing), options.commit)
    tags = [tag for tag in (*record.tags, *options.add) if tag not in options.remove]
    labels = await label(opened.repository, record.commit.id, options.name, tuple(dict.fromkeys(tags)))
    words = _("commit {commit}: name {name}, tags {tags}").format(
        commit=short(record.commit.id), name=labels.name or "-", tags=", ".join(labels.tags) or "-"
    )
    show(options, {"commit": str(record.commit.id), "name": labels.name, "tags": list(labels.tags)}, words)
    return 0
