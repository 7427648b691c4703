"""Orders to the watchdog: lead, renew and end, as datagrams on its socket. The port `Watchdog` on a real machine."""

import json
import os
import socket
import time
from collections.abc import Callable

from dumont.agent.boot import RunDir


class Orders:
    """Never waits, never raises for a watchdog that is away: what counts is said again, and without a renewal the
    workload stops by itself.
    """

    def __init__(self, run: RunDir, now: Callable[[], float] = time.monotonic) -> None:
        self._name = run.watchdog_socket.name
        self._now = now
        self._directory = os.open(run.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def lead(self, epoch: int) -> None:
        """This instance is primary at `epoch`; a lease starts now."""
        self._say({"say": "lead", "epoch": epoch, "sent_at": self._now()})

    def renew(self, epoch: int, sent_at: float) -> None:
        """Somebody entitled answered a question sent at `sent_at` (monotonic seconds): the lease runs from then."""
        self._say({"say": "renew", "epoch": epoch, "sent_at": sent_at})

    def end(self, epoch: int) -> None:
        """A higher epoch exists: the workload of every lower one is over."""
        self._say({"say": "end", "epoch": epoch})

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
        os.close(self._directory)

    def _say(self, order: dict[str, str | int | float]) -> None:
        try:  # by way of the directory's descriptor: a socket's address holds 107 bytes at most
            self._socket.sendto(json.dumps(order).encode(), f"/proc/self/fd/{self._directory}/{self._name}")
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            return
