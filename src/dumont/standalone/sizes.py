"""Sizes, durations and counts as people read them, in the language spoken now."""

from dumont.errors import BadInput
from dumont.i18n import _, language, plural

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def size(count: float) -> str:
    """A number of bytes like `1.6 GB`: three figures at most, powers of 1,000."""
    at = 0
    while count >= 999.5 and at < len(_UNITS) - 1:
        count /= 1000
        at += 1
    digits = 0 if at == 0 or count >= 99.95 else 1
    return f"{_point(f'{count:.{digits}f}')} {_UNITS[at]}"


def duration(seconds: float) -> str:
    """Seconds (an int: whole ones) like `0.34 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95 and not isinstance(seconds, int):
        return f"{_point(f'{seconds:.2f}' if seconds < 1 else f'{seconds:.1f}')} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def number(count: int) -> str:
    """An integer with its thousands set apart."""
    text = f"{count:,}"
    return text.replace(",", ".") if language() == "pt_BR" else text


def files(count: int | str, amount: int) -> str:
    """`12 files`; `count` is what is shown and `amount` decides between one and many."""
    return plural("{count} file", "{count} files", amount).format(count=count)


def read_size(text: str) -> int:
    """Bytes from `500MB`, `64MiB`, `1048576`. Raises BadInput."""
    word = text.strip().lower().removesuffix("b")
    digits = word.rstrip("kmgti")
    factor = {**_FACTORS, **_BINARY}.get(word[len(digits) :])
    if factor is None or not digits.isdigit():
        raise BadInput(_("{text!r} is no size: write it like 500MB or 64MiB").format(text=text))
    return int(digits) * factor


def read_duration(text: str) -> int:
    """Seconds from `24h`, `90m`, `7d`, `3600`. Raises BadInput."""
    word = text.strip().lower()
    digits, unit = (word[:-1], word[-1]) if word[-1:] in _SECONDS else (word, "s")
    if not digits.isdigit():
        raise BadInput(_("{text!r} is no duration: write it like 24h, 90m or 7d").format(text=text))
    return int(digits) * _SECONDS[unit]


def _point(text: str) -> str:
    return text.replace(".", ",") if language() == "pt_BR" else text
