"""A command of this machine, such as `ip`: run without a shell, bounded in time, its complaint kept."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

from dumont.errors import ProviderError

SECONDS_MAX = 15.0
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


_inherited: ContextVar[tuple[int, ...]] = ContextVar("inherited", default=())


@contextlib.contextmanager
def handing_down(lock: int) -> Iterator[None]:
    """Commands run meanwhile inherit the lock's descriptor.

    When we are killed, a command that was started goes on; the lock is held until the last of them has ended.
    """
    before = _inherited.set((*_inherited.get(), lock))
    try:
        yield
    finally:
        _inherited.reset(before)


def which(name: str) -> str:
    """Where a program of the system lies, or "". Also looks in the `sbin` folders, which a user's PATH may lack."""
    found = (Path(folder) / name for folder in SYSTEM_PATH.split(":"))
    return next((str(path) for path in found if path.is_file()), "")


async def run(argv: Sequence[str], stdin: str = "") -> str:
    """What the command wrote. Raises ProviderError with its complaint when it fails, is missing or takes > 15 s."""
    try:
        process = await asyncio.create_subprocess_exec(
            which(argv[0]) or argv[0],
            *argv[1:],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=_inherited.get(),
        )
    except OSError as error:
        raise ProviderError(f"`{argv[0]}` can't be started: {error}") from error
    try:
        async with asyncio.timeout(SECONDS_MAX):
            out, complaint = await process.communicate(stdin.encode())
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise ProviderError(f"`{' '.join(argv)}` did not end within {SECONDS_MAX:.0f} s") from error
    if process.returncode:
        said = complaint.decode(errors="replace").strip() or f"exit status {process.returncode}"
        raise ProviderError(f"`{' '.join(argv)}` failed: {said}")
    return out.decode(errors="replace")
