"""Spending on language models: how much an organisation may spend in a month, reserved before a call, settled after."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


class Spending(Protocol):
    """Counts in micro-US-dollars, per organisation and calendar month (UTC). Every reservation is settled once."""

    async def reserve(self, organisation: str, micros: int, now: datetime) -> bool:
        """Set the amount aside, or answer False and set nothing aside when the month's limit would be passed."""

    async def settle(self, organisation: str, reserved: int, actual: int, now: datetime) -> None:
        """Replace a reservation by what the call really cost. What is unknown must be settled as reserved, not as 0."""


@dataclass
class MemorySpending:
    """Spending in this process's memory: forgotten at a restart, which starts the month's count anew."""

    limit_micros_per_month: int
    spent: dict[tuple[str, str], int] = field(default_factory=dict)

    async def reserve(self, organisation: str, micros: int, now: datetime) -> bool:
        assert micros >= 0, "a call can't earn money"
        key = (organisation, _month(now))
        if self.spent.get(key, 0) + micros > self.limit_micros_per_month:
            return False
        self.spent[key] = self.spent.get(key, 0) + micros
        return True

    async def settle(self, organisation: str, reserved: int, actual: int, now: datetime) -> None:
        assert actual >= 0, "a call can't earn money"
        key = (organisation, _month(now))
        self.spent[key] = max(0, self.spent.get(key, 0) - reserved + actual)


def _month(now: datetime) -> str:
    return f"{now.year:04}-{now.month:02}"
