"""A server that deletes the history of a removed workspace, and dies where a test says.

Forked from one process that has imported everything, as those of `victim.py` are.
"""

import asyncio
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from dumont.clock import SystemClock
from dumont.control.act import Acts, Landing
from dumont.control.clearing import Clearing
from dumont.control.vault import Vault, placed_by
from dumont.db.base import Database
from dumont.db.sql import open_database
from dumont.repository.record import CONFIG
from dumont.store.directory import DirectoryStore
from tests.integration.victim import ROOT, die_at

SERVER_KEY = bytes(range(32))


class TardyStore(DirectoryStore):
    """A wrong driver: of a repository's config it says that it is deleted, and deletes it when all else is."""

    async def delete(self, key: str) -> None:
        if not key.endswith(f"/{CONFIG}"):
            await super().delete(key)

    async def drop_folders(self, prefix: str) -> None:
        await super().delete(f"{prefix}{CONFIG}")
        await super().drop_folders(prefix)

    async def keys(self, prefix: str = ""):  # type: ignore[no-untyped-def]
        async for key in super().keys(prefix):
            if not key.endswith(f"/{CONFIG}"):
                yield key


STORES = {"directory": DirectoryStore, "tardy": TardyStore}


def vault_over(home: Path, database: Database, store: str = "directory") -> Vault:
    """The vault of the server whose home that is."""
    return Vault(STORES[store](home / "store"), SERVER_KEY, os.urandom, placed_by(database))


async def end_and_clear(home: Path, store: str = "directory") -> None:
    """Decide that every past ends, and carry it out, as a server does that a person has told so."""
    database = await open_database(str(home / "dumont.db"))
    try:
        for past in await database.pasts():
            await database.change_past(past, replace(past, ending=True))
        landing = Landing(server_port=1, ca_pem="", token_for=lambda instance_id: instance_id)
        acts = Acts(database, {}, landing, SystemClock(), Random(1))
        await Clearing(acts, vault_over(home, database, store)).round_all()
    finally:
        await database.close()


class Clearers:
    """The process they are forked from, seen from a test."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        command = [sys.executable, "-m", "tests.integration.clearer"]
        self._process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(self, home: Path, at: int, store: str = "directory") -> int:
        """Let one work on that home until it has changed the disk `at` - 1 times; how it ended."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{at} {store} {home}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=30)


@contextmanager
def clearers() -> Iterator[Clearers]:
    """Ended with the block."""
    all_of_them = Clearers()
    try:
        yield all_of_them
    finally:
        all_of_them.close()


def serve() -> None:
    """Fork one for each line on standard input."""
    for line in sys.stdin:
        at, store, home = line.strip().split(" ", 2)
        pid = os.fork()
        if not pid:
            _die_or_exit(int(at), store, Path(home))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _die_or_exit(at: int, store: str, home: Path) -> None:
    """The life of one: it never returns."""
    status = 1
    try:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        die_at(at, reads=False)
        asyncio.run(end_and_clear(home, store))
        status = 0
    finally:  # a forked copy must not go on with what its parent was doing
        if status:
            traceback.print_exc()
        os._exit(status)


if __name__ == "__main__":
    serve()
