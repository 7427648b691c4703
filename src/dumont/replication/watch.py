"""The dirty set: which paths must be read again before the next commit may claim to be complete.

Hints only ever add to it. Losing hints (an overflow) makes everything dirty; nothing but a reading makes a path clean.
"""

from collections.abc import Iterable

from dumont.replication.ports import Happening, Hint
from dumont.snapshot.tree import TOP, Tree, parent_of


class DirtySet:
    """Paths to read, and directories to walk, since they were last taken."""

    def __init__(self) -> None:
        self._paths: set[bytes] = set()
        self._walks: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self._paths or self._walks)

    def take(self, hints: Iterable[Hint]) -> None:
        """Add what the kernel said."""
        for hint in hints:
            match hint.happening:
                case Happening.TOUCHED:
                    self._paths.add(hint.path)
                case Happening.SUBTREE:
                    self._paths.add(hint.path)
                    self._walks.add(hint.path)
                case Happening.OVERFLOW:
                    self._walks.add(TOP)

    def declare(self, paths: Iterable[bytes]) -> None:
        """Add paths that somebody says have changed, whatever their time stamps tell."""
        self._paths.update(paths)

    def walks(self) -> list[bytes]:
        """Hand out the directories to walk, each once: none that lies under another."""
        walks, self._walks = sorted(self._walks), set()
        return [walk for walk in walks if not any(_is_under(walk, other) for other in walks)]

    @property
    def everything(self) -> bool:
        """Whether the whole workspace has to be walked."""
        return TOP in self._walks

    def paths(self, known: Tree) -> list[bytes]:
        """Hand out the paths to read, with every directory above them that `known` lacks; parents come first."""
        paths, self._paths = self._paths, set()
        for path in list(paths):
            while path != TOP:
                path = parent_of(path)
                if path in paths or path in known:
                    break
                paths.add(path)
        return sorted(paths)


def _is_under(path: bytes, other: bytes) -> bool:
    return path != other and (other == TOP or path.startswith(other + b"/"))
