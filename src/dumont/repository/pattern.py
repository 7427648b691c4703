"""A pattern: names paths of a tree as shells write them. `restore --only` and `save --exclude` read the same ones.

It is laid over the whole path from the top of the tree: `*` and `?` match `/` too, as in fnmatch; `**/` also matches no
directory at all, so that `**/name` is that name anywhere; `[ab]` and `[!ab]` are one byte. Slashes at its ends,
and `./` before it, say nothing.
"""

import re
from collections.abc import Callable, Sequence

from dumont.errors import BadInput

Matches = Callable[[bytes], object]
"""Gives something true for a path that is meant."""


def matcher(patterns: Sequence[bytes]) -> Matches:
    """What tells whether any of `patterns` matches a path. Raises BadInput for one that makes no sense."""
    expressions = [_expression(pattern) for pattern in patterns]
    for pattern, expression in zip(patterns, expressions, strict=True):
        try:
            re.compile(expression)
        except re.error as error:
            raise BadInput(f"the pattern {pattern.decode(errors='replace')!r} makes no sense: {error}") from error
    return re.compile(b"|".join(expressions), re.DOTALL).fullmatch


def _expression(pattern: bytes) -> bytes:
    """The regular expression of one pattern."""
    rest = pattern.removeprefix(b"./").strip(b"/")
    found = b""
    while rest:
        if rest.startswith(b"**/"):
            found, rest = found + b"(?:.*/)?", rest[3:]
        elif rest[:1] == b"*":
            found, rest = found + b".*", rest.lstrip(b"*")
        elif rest[:1] == b"?":
            found, rest = found + b".", rest[1:]
        elif rest[:1] == b"[" and (end := rest.find(b"]", 3 if rest[1:2] == b"!" else 2)) > 0:
            inside = rest[1:end].replace(b"\\", b"\\\\").replace(b"[", b"\\[")
            found += b"[" + (b"^" + inside[1:] if inside[:1] == b"!" else inside.replace(b"^", b"\\^")) + b"]"
            rest = rest[end + 1 :]
        else:
            found, rest = found + re.escape(rest[:1]), rest[1:]
    return b"(?:" + found + b")"
