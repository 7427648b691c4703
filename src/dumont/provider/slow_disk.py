"""A slow disk, for drills: each fsync of a machine takes so much longer, whoever in it calls, as on a crowded host.

    python -m dumont.provider.slow_disk 0.2 COMMAND …

runs COMMAND, whose processes and all that they start wait 0.2 s longer in fsync, fdatasync, sync and syncfs. The
kernel hands these calls over to us (seccomp_unotify(2), seen by the thread that starts COMMAND and so not by the one
that answers), and carries them out when we let them go on. A signal makes a waiting call start again: it keeps the end
that it was given at first. Needs libseccomp, and root or else `no_new_privs`, which is then set.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pyseccomp

CALLS = ("fsync", "fdatasync", "sync", "syncfs")
GO_ON = 1
"""SECCOMP_USER_NOTIF_FLAG_CONTINUE of linux/seccomp.h: the kernel carries the call out as if nobody had looked."""
WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""The command ends with the thread that started it: with nobody to answer, the kernel would let its calls fail."""


class SlowDisk:
    """Lets the calls of one filter go on, each `delay_s` after it came."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._filter = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        self._filter.set_attr(pyseccomp.Attr.CTL_NNP, int(os.geteuid() != 0))
        for call in CALLS:
            self._filter.add_rule(pyseccomp.NOTIFY, call)
        self._ends_at: dict[int, float] = {}
        self._loaded = threading.Event()

    def run(self, command: Sequence[str]) -> int:
        """Run the command to its end; its exit status as a shell has it. Raises OSError when it can't be started."""
        outcome: list[int | OSError] = []
        starter = threading.Thread(target=self._start, args=(command, outcome))
        starter.start()
        self._loaded.wait()
        if not outcome:
            threading.Thread(target=self._answer_forever, daemon=True).start()
        starter.join()
        status = outcome[0]
        if isinstance(status, OSError):
            raise status
        return status if status >= 0 else 128 - status

    def _start(self, command: Sequence[str], outcome: list[int | OSError]) -> None:
        """Runs in a thread of its own: the filter holds for it, and for what it starts."""
        try:
            self._filter.load()
            self._loaded.set()
            outcome.append(subprocess.call([*WITH_US, *command], close_fds=False))
        except OSError as error:
            outcome.append(error)
            self._loaded.set()

    def _answer_forever(self) -> None:
        while True:
            with contextlib.suppress(OSError):  # a call that its process took back, having got a signal
                call = self._filter.receive_notify()
                now = time.monotonic()
                ends_at = self._ends_at.setdefault(call.pid, now + self._delay_s)
                threading.Timer(max(0.0, ends_at - now), self._let_go_on, (call,)).start()

    def _let_go_on(self, call: pyseccomp.Notification) -> None:
        try:
            self._filter.respond_notify(pyseccomp.NotificationResponse(0, GO_ON, call.id, 0))
        except OSError:
            return  # taken back meanwhile: it comes again, with the same end
        self._ends_at.pop(call.pid, None)


def main(arguments: Sequence[str]) -> int:
    """`DELAY_S COMMAND…`. SIGTERM is the command's business, which gets it as well."""
    delay_s, command = float(arguments[0]), arguments[1:]
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        return SlowDisk(delay_s).run(command)
    except OSError as error:
        sys.stderr.write(f"{command[0]} can't be started with a slow disk: {error}\n")
        return 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
