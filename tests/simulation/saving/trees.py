"""Trees: small directories on a disk in memory, made once, from which hosts put their workspaces together.

A file's attributes tell a save whether it must be read. So nothing is written again: whole directories are moved in and
out, and files stay what they are for ever.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOSTS = 3
SLOTS = ("a", "b", "c")
VERSIONS = 4
_MTIME_NS = 1_700_000_000 * 10**9
Content = dict[bytes, bytes | None]
"""Bytes of files by path, `-> target` for a symlink; None for a directory."""


class Trees:
    """The material of all worlds of one process, below `top`."""

    def __init__(self, top: Path) -> None:
        self.top = top
        rng = random.Random(20)
        bodies = [rng.randbytes(size) for size in (1, 20, 90, 300, 700, 900, 2500, 70_000)]
        bodies.append(b"the same line again\n" * 60)
        for host in range(HOSTS):
            self.work(host).mkdir()
            for slot in SLOTS:
                for version in range(VERSIONS):
                    _fill(self._kept(host, slot, version), bodies, random.Random(f"{host % 2} {slot} {version}"))
        self._placed: dict[tuple[int, str], int] = {}

    def work(self, host: int) -> Path:
        """The directory that a host saves."""
        return self.top / f"work{host}"

    def put(self, host: int, versions: tuple[int | None, ...]) -> Content:
        """Have each slot of the host's tree hold that version, or nothing; what is there then."""
        for slot, version in zip(SLOTS, versions, strict=True):
            before = self._placed.pop((host, slot), None)
            if before is not None:
                (self.work(host) / slot).rename(self._kept(host, slot, before))
            if version is not None:
                self._kept(host, slot, version).rename(self.work(host) / slot)
                self._placed[host, slot] = version
        os.utime(self.work(host), ns=(_MTIME_NS, _MTIME_NS))
        return read_tree(self.work(host))

    @contextmanager
    def target(self, name: str) -> Iterator[Path]:
        """A place to restore to, which goes afterwards."""
        above = self.top / name
        above.mkdir()
        try:
            yield above / "tree"
        finally:
            shutil.rmtree(above)

    def _kept(self, host: int, slot: str, version: int) -> Path:
        return self.top / f"kept-{host}-{slot}-{version}"


@contextmanager
def made_trees() -> Iterator[Trees]:
    """Trees on a disk in memory, if there is one; gone afterwards."""
    memory = Path("/dev/shm")
    top = Path(tempfile.mkdtemp(prefix="dumont-trees-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        yield Trees(top)
    finally:
        shutil.rmtree(top)


def read_tree(top: Path) -> Content:
    """Everything below `top`, read with nothing of ours."""
    found: Content = {}
    for directory, folders, files in os.walk(top):
        for name in folders + files:
            path = Path(directory) / name
            key = os.fsencode(path.relative_to(top))
            if path.is_symlink():
                found[key] = b"-> " + os.fsencode(os.readlink(path))
            else:
                found[key] = path.read_bytes() if path.is_file() else None
    return found


def _fill(directory: Path, bodies: list[bytes], rng: random.Random) -> None:
    directory.mkdir()
    for number in range(rng.randint(1, 3)):
        (directory / f"f{number}").write_bytes(rng.choice(bodies))
    if rng.random() < 0.5:
        (directory / "below").mkdir()
        (directory / "below" / "g").write_bytes(rng.choice(bodies))
    if rng.random() < 0.2:
        (directory / "link").symlink_to("f0")
    if rng.random() < 0.2:
        os.link(directory / "f0", directory / "same")
    for path in [*directory.rglob("*"), directory]:
        os.utime(path, ns=(_MTIME_NS, _MTIME_NS), follow_symlinks=False)
