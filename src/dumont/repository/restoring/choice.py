"""A choice: which paths of a tree a person wants, by patterns as shells write them."""

import re
from collections.abc import Sequence

from dumont.model.commit import Entry
from dumont.snapshot.tree import TOP, parent_of


def chosen(entries: dict[bytes, Entry], only: Sequence[bytes]) -> tuple[dict[bytes, Entry], set[bytes]]:
    """The entries that a pattern matches, or a directory above which it matches, with the directories above them.

    The second result are the paths that were matched, without those above. `*` and `?` match `/` too, as in fnmatch;
    `**/` also matches no directory at all.
    """
    pattern = re.compile(b"|".join(_expression(one) for one in only), re.DOTALL)
    matched: set[bytes] = set()
    kept: set[bytes] = set()
    for path in entries:  # directories come before what is in them
        if (path and parent_of(path) in matched) or pattern.fullmatch(path):
            matched.add(path)
            kept.add(path)
            above = path
            while above != TOP:
                above = parent_of(above)
                if above in kept:
                    break
                kept.add(above)
    return {path: entry for path, entry in entries.items() if path in kept}, matched


def _expression(pattern: bytes) -> bytes:
    """The regular expression of one pattern."""
    rest = pattern.strip(b"/")
    found = b""
    while rest:
        if rest.startswith(b"**/"):
            found, rest = found + b"(?:.*/)?", rest[3:]
        elif rest[:1] == b"*":
            found, rest = found + b".*", rest.lstrip(b"*")
        elif rest[:1] == b"?":
            found, rest = found + b".", rest[1:]
        elif rest[:1] == b"[" and (end := rest.find(b"]", 2)) > 0:
            inside = rest[1:end].replace(b"\\", b"\\\\").replace(b"[", b"\\[")
            found += b"[" + (b"^" + inside[1:] if inside[:1] == b"!" else inside.replace(b"^", b"\\^")) + b"]"
            rest = rest[end + 1 :]
        else:
            found, rest = found + re.escape(rest[:1]), rest[1:]
    return b"(?:" + found + b")"
