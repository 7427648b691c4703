"""Spending on language models, kept in a file: it outlives restarts, and every process of a home counts in it."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

MONTHS_KEPT = 24


class FileSpending:
    """A Spending (`spending.py`) in a JSON object of `organisation/YYYY-MM` and micro-US-dollars, under a file lock.

    A file that can't be read counts as spent up: what is unknown must not let anybody spend without end.
    """

    def __init__(self, path: Path, limit_micros_per_month: int) -> None:
        self._path = path
        self._limit = limit_micros_per_month

    async def reserve(self, organisation: str, micros: int, now: datetime) -> bool:
        assert micros >= 0, "a call can't earn money"
        try:
            with self._counts() as (file, counts):
                key = _key(organisation, now)
                if counts.get(key, 0) + micros > self._limit:
                    return False
                counts[key] = counts.get(key, 0) + micros
                _write(file, counts)
                return True
        except (OSError, ValueError):
            return False

    async def settle(self, organisation: str, reserved: int, actual: int, now: datetime) -> None:
        assert actual >= 0, "a call can't earn money"
        try:
            with self._counts() as (file, counts):
                key = _key(organisation, now)
                counts[key] = max(0, counts.get(key, 0) - reserved + actual)
                _write(file, counts)
        except (OSError, ValueError):
            return  # the reservation stands, which is never too little

    @contextmanager
    def _counts(self) -> Iterator[tuple[IO[str], dict[str, int]]]:
        """The file, locked, and what it holds. Raises OSError; ValueError for what is no object of counts."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = file.read()
            found = json.loads(text) if text.strip() else {}
            if not isinstance(found, dict) or not all(isinstance(count, int) for count in found.values()):
                raise ValueError(f"{self._path} holds no counts")
            yield file, found


def _key(organisation: str, now: datetime) -> str:
    return f"{organisation}/{now.year:04}-{now.month:02}"


def _write(file: IO[str], counts: dict[str, int]) -> None:
    """In place, under the lock; a crash in between leaves what can't be read, and that counts as spent up."""
    kept = dict(sorted(counts.items(), key=lambda item: item[0].rpartition("/")[2])[-MONTHS_KEPT:])
    file.seek(0)
    file.truncate()
    file.write(json.dumps(kept))
    file.flush()
    os.fsync(file.fileno())
