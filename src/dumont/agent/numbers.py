"""Numbers: the newest commit id that this instance gave out, in a file that outlives the engine's process."""

import os
import re
from contextlib import suppress
from pathlib import Path

from dumont.model.commit import CommitId

_LINE = re.compile(rb"(\d{20}) (\d{20})\n")


class WrittenNumbers:
    """Port `Numbers`. Not fsynced: what a killed process wrote, its kernel still has.

    Raises OSError when `file` can't be opened.
    """

    def __init__(self, file: Path) -> None:
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def last(self) -> CommitId | None:
        """The newest id noted; None before the first."""
        found = _LINE.match(os.pread(self._fd, 42, 0))
        return CommitId(int(found[1]), int(found[2])) if found else None

    def note(self, id: CommitId) -> None:
        """Remember `id`. Lines are of one length: only the first can meet a full disk, and is noted with the next."""
        with suppress(OSError):  # an id that is not noted is only missed by an engine that dies now
            os.pwrite(self._fd, b"%020d %020d\n" % (id.epoch, id.seq), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
