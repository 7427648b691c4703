"""Commits as the command line shows them: a line for people, an object for programs."""

import os
from typing import Any

from dumont.repository.record import NOTHING_EXCLUDED, CommitRecord
from dumont.standalone.exclude import about_exclusion, exclusion_words
from dumont.standalone.output import moment, short, shown_path
from dumont.standalone.sizes import files, number, size

_REMINDER_CHARACTERS = 60


def about_commit(record: CommitRecord) -> dict[str, Any]:
    """What programs read of a commit. Times are Unix seconds."""
    return {
        "commit": str(record.commit.id),
        "root": record.commit.root.hex(),
        "at_s": record.commit.at_ns / 1e9,
        "name": record.name,
        "tags": list(record.tags),
        "host": record.host,
        "path": os.fsdecode(record.path),
        "files": record.files,
        "plain_bytes": record.plain_bytes,
        "stored_bytes": record.stored_bytes,
        "consistent": record.commit.consistent,
        "excluded": about_exclusion(record.excluded),
    }


def shortened(words: str) -> str:
    """Words that are there to remind and not to be read whole, at most _REMINDER_CHARACTERS of them."""
    return words if len(words) <= _REMINDER_CHARACTERS else words[: _REMINDER_CHARACTERS - 1] + "…"


def commit_line(record: CommitRecord) -> str:
    """A commit on one line, with what was left out at its end."""
    words = [record.name, *(f"#{tag}" for tag in record.tags)]
    if record.excluded != NOTHING_EXCLUDED:
        words.append(f"({shortened(exclusion_words(record.excluded))})")
    labels = " ".join(words).strip()
    parts = (
        f"{short(record.commit.id):>6}",
        moment(record.commit.at_ns),
        f"{size(record.plain_bytes):>8}",
        f"{files(number(record.files), record.files):>16}",
        f"{record.host}:{shown_path(record.path)}" if record.host else shown_path(record.path),
        labels,
    )
    return "  ".join(parts).rstrip()
