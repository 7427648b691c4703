"""A lease: until when the workload of a led epoch may run unquestioned, and what to do with it afterwards.

Leases only stop a stale workload; that two replicas never acknowledge at once rests on epochs. Pure, and standard
library only: the watchdog runs it on a machine, the simulator in virtual time. All times are seconds of one machine's
monotonic clock.
"""

import enum

LEASE_S = 2.0
"""How long one entitled answer lets a workload run, from the instant its question was sent."""

HEARD_MS_MAX = 1000
"""A beat that heard nothing for longer than this many milliseconds is no sign of life: replies do not get through."""


class Verdict(enum.StrEnum):
    """What the watchdog must do with the workload now."""

    RUN = "run"
    STOP = "stop"  # held still until the lease returns
    END = "end"  # a higher epoch exists: killed, for good


class Lease:
    """What was led, renewed and ended so far. Every event may come late, twice, or out of order.

    `ended` is the highest epoch that ended lower ones, as remembered from before a restart.
    """

    def __init__(self, ended: int = 0) -> None:
        self.ended = ended
        self.led: int | None = None
        self.runs_until: float | None = None

    def lead(self, epoch: int, now: float) -> None:
        """This instance is primary at `epoch`. A lease starts when it is higher than what was led before.

        Saying it again renews nothing: only somebody else's answer does.
        """
        if self.led is None or epoch > self.led:
            self.led = epoch
            self.runs_until = now + LEASE_S

    def renew(self, epoch: int, sent_at: float, now: float) -> None:
        """Somebody entitled answered, at the led epoch, a question sent at `sent_at`; no later than `now`."""
        if epoch == self.led and self.runs_until is not None:
            self.runs_until = max(self.runs_until, min(sent_at, now) + LEASE_S)

    def end(self, epoch: int) -> None:
        """`epoch` exists: whatever was led below it is over, until this instance leads that epoch or a higher one."""
        self.ended = max(self.ended, epoch)

    def tick(self, now: float) -> Verdict:
        """What to do with the workload at `now`. Before any lead nothing is stopped."""
        if self.led is None or self.runs_until is None:
            return Verdict.RUN
        if self.led < self.ended:
            return Verdict.END
        return Verdict.RUN if now < self.runs_until else Verdict.STOP


class Beats:
    """What the pulse says of its own hearing: the time since a server's word last reached this instance."""

    def __init__(self, now: float) -> None:
        self._heard_at = now

    def opened(self, now: float) -> None:
        """A link was opened: its handshake proves both directions."""
        self.heard(now)

    def heard(self, now: float) -> None:
        """A reply arrived."""
        self._heard_at = max(self._heard_at, now)

    def heard_ms_ago(self, now: float) -> int:
        """Milliseconds since the last word from a server, or since the start when there was none."""
        return max(0, round((now - self._heard_at) * 1000))
