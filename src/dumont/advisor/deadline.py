"""A deadline: what "sexta", "amanhã cedo" or "by tomorrow 5pm" mean in hours from now. Pure: now is an argument."""

import re
from datetime import datetime, timedelta

from dumont.advisor.reader.text import fold

NONE = re.compile(r"sem (?:\w+ )?pressa|nao t|prazo (?:livre|tranq)|no (?:rush|hurry|deadline|part)|not in a|whenever")
_DAYS = (
    ("segunda", "mon"), ("terca", "tue"), ("quarta", "wed"), ("quinta", "thu"), ("sexta", "fri"), ("sabado", "sat"),
    ("domingo", "sun"),
)  # fmt: skip
_CLOCK = re.compile(r"\b(\d{1,2})(?::(\d\d))? ?(h|am|pm)\b")
_SPAN = re.compile(r"\b\d{1,2}h-(\d{1,2})h\b")
_PARTS = (
    (r"madrugada|overnight|durante a noite", 7), (r"cedo|morning|de manha", 9), (r"noon", 12),
    (r"tarde|afternoon", 18), (r"noite|night|evening", 22),
)  # fmt: skip
WORKDAY_ENDS = 18
DAY_ENDS = 23


def hours_until(text: str, now: datetime) -> tuple[float, datetime] | None:
    """Hours until the moment that a text means, and that moment, in the time zone of `now`.

    A day without a time ends at 18:00, and today at 23:00. None when there is no hurry, or no moment in the text.
    """
    low = fold(text)
    day = None if NONE.search(low) else _day(low, now)
    if day is None:
        return None
    hour, minute = _time(low, DAY_ENDS if day.date() == now.date() else WORKDAY_ENDS)
    due = day.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(hours=hour, minutes=minute)
    if due <= now:
        due += timedelta(days=7 if _weekday(low) is not None else 1)
    return (due - now).total_seconds() / 3600, due


def _day(low: str, now: datetime) -> datetime | None:
    if re.search(r"depois de amanha|day after tomorrow", low):
        return now + timedelta(days=2)
    if re.search(r"amanha|tomorrow|durante a noite|overnight|madrugada", low):
        return now + timedelta(days=1)
    if re.search(r"\bhoje|\btoday|tonight|esta noite|end of day|\beod\b|this (?:afternoon|evening)", low):
        return now
    if (wanted := _weekday(low)) is not None:
        return now + timedelta(days=(wanted - now.weekday()) % 7)
    if re.search(r"next month|mes que vem", low):
        return _month_end(_month_end(now) + timedelta(days=1))
    if re.search(r"mes\b|month|\beom\b", low):
        return _month_end(now)
    if re.search(r"semana que vem|next week", low) and "end" not in low:
        return now + timedelta(days=(4 - now.weekday()) % 7 + 7 * (now.weekday() < 5))
    if re.search(r"fim de semana|weekend", low):
        return now + timedelta(days=(6 - now.weekday()) % 7)
    if re.search(r"semana|week|\beow\b", low):
        return now + timedelta(days=(4 - now.weekday()) % 7)
    return None


def _weekday(low: str) -> int | None:
    found = [at for at, (pt, en) in enumerate(_DAYS) if re.search(rf"\b(?:{pt}|{en}(?:\b|[a-z]*day))", low)]
    return found[0] if found else None


def _month_end(day: datetime) -> datetime:
    first = day.replace(day=1) + timedelta(days=32)
    return first.replace(day=1) - timedelta(days=1)


def _time(low: str, otherwise: int) -> tuple[int, int]:
    if span := _SPAN.search(low):
        return min(24, int(span[1])), 0
    if clock := _CLOCK.search(low):
        hour = int(clock[1]) % 12 + 12 * (clock[3] == "pm") if clock[3] != "h" else int(clock[1])
        return min(24, hour), int(clock[2] or 0)
    return next((hour for pattern, hour in _PARTS if re.search(pattern, low)), otherwise), 0
