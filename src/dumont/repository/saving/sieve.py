"""A sieve: an exclusion at work. It says which names of a directory are saved, before anything of them is looked at.

What it holds back is neither walked nor read. The top is saved whatever it is: somebody named it.
"""

import os
import stat

from dumont.repository.pattern import matcher
from dumont.repository.record import NOTHING_EXCLUDED, Exclusion
from dumont.snapshot.place import Place
from dumont.snapshot.tree import TOP, join

CACHE_TAG = b"CACHEDIR.TAG"
_CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
"""How an ordinary file of that name begins: Cache Directory Tagging Specification 0.6, bford.info/cachedir."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Sieve:
    """For one tree, whose top lies on the device `device`. Raises BadInput for a pattern that makes no sense."""

    def __init__(self, exclusion: Exclusion, device: int) -> None:
        self._matches = matcher(exclusion.patterns) if exclusion.patterns else None
        self._device = device if exclusion.one_file_system else None
        self._caches = exclusion.caches

    def names(self, path: bytes, fd: int) -> "list[tuple[bytes, os.DirEntry[str]]]":
        """What is saved of the open directory at `path`, in no order. Raises OSError when it can't be read.

        Of another file system the directory stays, empty, as the place to mount it; of a cache the directory and its
        tag, so that it is one after a restore.
        """
        if self._device is not None and os.fstat(fd).st_dev != self._device:
            return []
        with os.scandir(fd) as names:
            seen = [(os.fsencode(name.name), name) for name in names]
        if self._caches and path != TOP and any(name == CACHE_TAG for name, _ in seen) and is_cache(fd):
            seen = [one for one in seen if one[0] == CACHE_TAG]
        if self._matches is not None:
            matches = self._matches
            seen = [one for one in seen if not matches(join(path, one[0]))]
        return seen


def sieve_for(exclusion: Exclusion, place: Place) -> Sieve | None:
    """The sieve of `exclusion` over `place`; None when nothing is held back. Raises BadInput."""
    if exclusion == NOTHING_EXCLUDED:
        return None
    return Sieve(exclusion, os.fstat(place.top).st_dev)


def is_cache(fd: int) -> bool:
    """Whether the open directory is tagged as a cache. A tag that can't be read tags nothing."""
    try:
        tag = os.open(CACHE_TAG, _OPEN, dir_fd=fd)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(tag).st_mode):
            return False
        return os.read(tag, len(_CACHE_SIGNATURE)) == _CACHE_SIGNATURE
    except OSError:
        return False
    finally:
        os.close(tag)
