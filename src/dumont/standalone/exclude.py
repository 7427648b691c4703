"""What a save leaves out: from the options to an exclusion, and back to words."""

import argparse
import os
from pathlib import Path
from typing import Any

from dumont.errors import BadInput
from dumont.i18n import _
from dumont.repository.pattern import matcher
from dumont.repository.record import NOTHING_EXCLUDED, Exclusion
from dumont.standalone.output import shown_path


def exclusion_of(options: argparse.Namespace, source: Path) -> Exclusion:
    """What the options of a save leave out of `source`. Raises BadInput for a file or pattern that can't be meant."""
    patterns = [os.fsencode(pattern) for pattern in options.exclude]
    for file in options.exclude_file:
        patterns += _lines(file)
    top = os.fsencode(source)
    for pattern in patterns:
        if not pattern.strip(b"/"):
            raise BadInput(_("an empty pattern excludes everything: say which paths to leave out"))
        if pattern == top or pattern.startswith(top.rstrip(b"/") + b"/"):
            within = pattern.removeprefix(top).strip(b"/")
            raise BadInput(
                _("patterns are laid over paths inside {top}: write {within}, not {pattern}").format(
                    top=source, within=shown_path(within) or "*", pattern=shown_path(pattern)
                )
            )
    matcher(patterns)
    return Exclusion(tuple(dict.fromkeys(patterns)), options.one_file_system, options.exclude_caches)


def about_exclusion(excluded: Exclusion) -> dict[str, Any]:
    """What programs read of it."""
    return {
        "patterns": [os.fsdecode(pattern) for pattern in excluded.patterns],
        "one_file_system": excluded.one_file_system,
        "caches": excluded.caches,
    }


def exclusion_words(excluded: Exclusion) -> str:
    """What people read of it: the options that say the same."""
    if excluded == NOTHING_EXCLUDED:
        return _("nothing")
    words = [f"--exclude {_quoted(shown_path(pattern))}" for pattern in excluded.patterns]
    words += ["--one-file-system"] * excluded.one_file_system + ["--exclude-caches"] * excluded.caches
    return " ".join(words)


def _quoted(text: str) -> str:
    """As a shell takes it. What a terminal must not see is escaped already."""
    return "'" + text.replace("'", "'\\''") + "'"


def _lines(file: str) -> list[bytes]:
    """The patterns of an exclude file: one a line; empty lines and comments left out."""
    try:
        body = Path(file).read_bytes()
    except OSError as error:
        raise BadInput(_("{path} can't be read: {error}").format(path=file, error=error.strerror)) from error
    patterns = [line.strip() for line in body.splitlines()]
    for line in patterns:
        if line.startswith(b"!"):
            raise BadInput(
                _(
                    "{path}: {line} would take something back in, which patterns can't do; "
                    "a name that begins with ! is written [!]"
                ).format(path=file, line=shown_path(line))
            )
    return [line for line in patterns if line and not line.startswith(b"#")]
