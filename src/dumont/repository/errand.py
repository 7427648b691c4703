"""An errand: work that a process of its own does beside this one, which takes the bytes that came of it."""

import os
import signal
from collections.abc import Callable

from dumont.errors import DumontError

_WRITE_BYTES_MAX = 2**30


class Errand:
    """`work` in a forked process. Make it while this program has one thread.

    `work` is told by `is_wanted` whether anybody still waits: whoever takes long asks it now and then, and may stop.
    """

    def __init__(self, work: Callable[[Callable[[], bool]], bytes]) -> None:
        self._from, into = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _run(work, lambda: os.getppid() == parent, into)
        os.close(into)

    def result(self) -> bytes | None:
        """What the work gave, or None when it failed; waits for it. Call it once."""
        with open(self._from, "rb") as pipe:
            body = pipe.read()
        os.waitpid(self._pid, 0)
        return body or None

    def stop(self) -> None:
        """End it instead of asking for its result."""
        os.close(self._from)
        os.kill(self._pid, signal.SIGKILL)  # not waited for yet, so the number is still its own
        os.waitpid(self._pid, 0)


def _run(work: Callable[[Callable[[], bool]], bytes], is_wanted: Callable[[], bool], into: int) -> None:
    """The life of the process: it never returns."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        body = memoryview(work(is_wanted))
        while body:  # a pipe that nobody reads any more raises
            body = body[os.write(into, body[:_WRITE_BYTES_MAX]) :]
    except (DumontError, OSError):
        pass  # whoever waits finds too little or nothing, tries itself, and says what is wrong
    finally:
        os._exit(0)
