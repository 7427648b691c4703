"""What a verb says: one JSON object on standard output, or words; remarks go to standard error."""

import argparse
import json
import os
import sys
from datetime import datetime
from typing import Any

from dumont.i18n import _
from dumont.model.commit import CommitId

_NAMED_MAX = 20


def show(options: argparse.Namespace, about: Any, words: str) -> None:
    """The result: `about` with --json, else `words` unless --quiet."""
    if options.json:
        print(json.dumps(about))
    elif words and not options.quiet:
        print(words)


def remark(options: argparse.Namespace, words: str) -> None:
    """Something to know, on standard error; not with --quiet."""
    if not options.quiet:
        print(words, file=sys.stderr)


def warn(words: str) -> None:
    """Something that must be known, on standard error."""
    print(words, file=sys.stderr)


def name_some(lines: list[str]) -> None:
    """Warn of each, or of the first ones and how many more there are."""
    for line in lines[:_NAMED_MAX]:
        warn(line)
    if len(lines) > _NAMED_MAX:
        warn(_("… and {count} more").format(count=len(lines) - _NAMED_MAX))


def shown_path(path: bytes) -> str:
    """A path for a terminal: whatever could steer one is escaped."""
    text = os.fsdecode(path)
    return text if text.isprintable() else text.encode("unicode_escape", "surrogateescape").decode("ascii", "replace")


def moment(at_ns: int) -> str:
    """A time in Unix nanoseconds, by this machine's clock and zone."""
    return datetime.fromtimestamp(at_ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def short(id: CommitId) -> str:
    """A commit's id as it is typed: `41`, or `3.41` for one of a later epoch."""
    return str(id) if id.epoch else str(id.seq)
