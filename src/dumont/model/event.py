"""An event: one thing that happened to a workspace, kept for its timeline."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Event:
    """`kind` is a stable word (`failover`, `rented`, `joined`, `switchover`, `degraded` …), `facts` what is known."""

    workspace: str
    at: datetime
    kind: str
    facts: dict[str, str | int | float | bool] = field(default_factory=dict)
