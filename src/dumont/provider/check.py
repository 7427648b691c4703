"""What a provider's account is found to allow, and the steps of a trial that confirms how the live service behaves."""

import enum
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that renting needs, as `dumont provider check` shows it. Nothing was rented to find it.

    `ok` is None when it can't be told without renting. `remedy` says what to do about what is missing; "" when nothing
    is. Texts are English.
    """

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


class Outcome(enum.StrEnum):
    """How a step of a trial went. SKIPPED: an earlier one failed, or this account can't try it."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of `dumont provider probe`, which rents for a few cents and cleans up after itself.

    `assumption` is what our contract of the service holds without proof, and what this step confirms or refutes.
    REFUTED: the service answered, and otherwise than assumed. FAILED: it did not get that far.
    """

    name: str
    assumption: str
    outcome: Outcome
    detail: str = ""


@runtime_checkable
class Checkable(Protocol):
    """A provider whose account can be checked."""

    async def check(self) -> list[Finding]:
        """What renting needs, and what of it is missing. Rents nothing; raises nothing that the provider does."""


@runtime_checkable
class Triable(Protocol):
    """A provider whose behaviour can be tried."""

    async def probe(self) -> list[Step]:
        """Rent the cheapest machine, confirm what we assume of the service, and end it, whatever happens."""
