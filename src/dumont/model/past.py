"""A past: the history that a removed workspace left in the store, and until when it is kept. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dumont.errors import BadInput
from dumont.model.workspace import folder_of

FOR_EVER = timedelta.max
KEPT = timedelta(days=30)
"""How long a history is kept when nobody says otherwise."""
DAYS_MAX = 36_500
WORD_FOR_EVER = "for-ever"


@dataclass(frozen=True, kw_only=True)
class Past:
    """Our record of it. `keep_until` None: for ever. `ending`: it is decided that it goes, and that is never undone.

    From then on the store may hold half of it, so that nothing may be restored from there.
    """

    workspace: str
    generation: int
    removed_at: datetime
    keep_until: datetime | None
    ending: bool = False

    @property
    def folder(self) -> str:
        return folder_of(self.workspace, self.generation)

    def is_over(self, now: datetime) -> bool:
        """Whether the time for which it is kept has passed."""
        return self.keep_until is not None and self.keep_until <= now


def kept_until(now: datetime, term: timedelta) -> datetime | None:
    """The moment when `term` from now on is over; None for FOR_EVER."""
    return None if term == FOR_EVER else now + term


def read_term(text: str) -> timedelta:
    """A number of days, or `for-ever`. Raises BadInput that says so."""
    if text == WORD_FOR_EVER:
        return FOR_EVER
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) <= DAYS_MAX):
        raise BadInput(f"{text!r} is no time for which a history is kept: say 0 to {DAYS_MAX} days, or {WORD_FOR_EVER}")
    return timedelta(days=int(text))
