"""A choice: which paths of a tree a person wants, by patterns."""

from collections.abc import Sequence

from dumont.model.commit import Entry
from dumont.repository.pattern import matcher
from dumont.snapshot.tree import TOP, parent_of


def chosen(entries: dict[bytes, Entry], only: Sequence[bytes]) -> tuple[dict[bytes, Entry], set[bytes]]:
    """The entries that a pattern matches, or a directory above which it matches, with the directories above them.

    The second result are the paths that were matched, without those above. Raises BadInput for a pattern that makes no
    sense.
    """
    matches = matcher(only)
    matched: set[bytes] = set()
    kept: set[bytes] = set()
    for path in entries:  # directories come before what is in them
        if (path and parent_of(path) in matched) or matches(path):
            matched.add(path)
            kept.add(path)
            above = path
            while above != TOP:
                above = parent_of(above)
                if above in kept:
                    break
                kept.add(above)
    return {path: entry for path, entry in entries.items() if path in kept}, matched
