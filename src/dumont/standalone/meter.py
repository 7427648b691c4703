"""The progress line: how far a save or restore has come, on a terminal's standard error, one line at most."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dumont.i18n import _
from dumont.repository.progress import Progress
from dumont.standalone.sizes import duration, files, number, size

_EVERY_S = 0.2
_CLEAR = "\r\x1b[K"
_RATE_S = 1.0
"""A rate or a time left that is guessed from less than this says nothing."""


@asynccontextmanager
async def shown(progress: Progress, quiet: bool) -> AsyncIterator[None]:
    """Show `progress` on standard error while the block runs; nothing when `quiet` or when nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    task = asyncio.create_task(_draw(progress))
    try:
        yield
    finally:
        task.cancel()
        sys.stderr.write(_CLEAR)
        sys.stderr.flush()


def line(progress: Progress, elapsed_s: float, width: int) -> str:
    """What the progress line says after `elapsed_s`, in at most `width` columns."""
    parts = [_of(size(progress.done_bytes), progress.total_bytes and size(progress.total_bytes))]
    count = _of(number(progress.done_files), progress.total_files and number(progress.total_files))
    parts.append(files(count, progress.total_files or progress.done_files))
    if elapsed_s >= _RATE_S:
        rate = progress.done_bytes / elapsed_s
        parts.append(f"{size(rate)}/s")
        if progress.total_bytes and rate:
            left_s = max(0.0, progress.total_bytes - progress.done_bytes) / rate
            parts.append(_("{duration} left").format(duration=duration(max(1, round(left_s)))))
    while len(parts) > 1 and len(", ".join(parts)) > width:
        parts.pop()
    return ", ".join(parts)[:width]


def _of(done: str, total: str | int | None) -> str:
    return _("{done} of {total}").format(done=done, total=total) if total else done


async def _draw(progress: Progress) -> None:
    started_s = time.monotonic()
    while True:
        await asyncio.sleep(_EVERY_S)
        width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        sys.stderr.write(_CLEAR + line(progress, time.monotonic() - started_s, width - 1))
        sys.stderr.flush()
