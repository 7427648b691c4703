"""`save --compression`: how small a repository gets is a wish, and what comes back is the same."""

import base64
import os
import sysconfig
from pathlib import Path

import pytest

from dumont.repository.codec import RAW, ZSTD
from dumont.repository.keys import unwrap
from dumont.repository.record import DATA, Frame
from dumont.repository.repository import open_repository, read_config
from dumont.store.directory import DirectoryStore
from tests.integration.depot import settle
from tests.integration.test_snapshot_cli import Terminal, contents


@pytest.fixture(name="terminal")
def _terminal(tmp_path: Path) -> Terminal:
    terminal = Terminal(tmp_path)
    terminal.source.mkdir()
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    (terminal.source / "text").write_bytes(b"".join(path.read_bytes() for path in sources)[: 4 * 2**20])
    (terminal.source / "noise").write_bytes(os.urandom(2**20))
    (terminal.source / "base64").write_bytes(base64.b64encode(os.urandom(3 * 2**18)))  # repeats nothing, yet has slack
    settle()
    return terminal


async def _frames(terminal: Terminal) -> list[Frame]:
    """The frames of files' chunks in the repository."""
    store = DirectoryStore(terminal.repo)
    config = await read_config(store)
    secret = unwrap(config.slot, terminal.environment["DUMONT_PASSPHRASE"].encode())
    repo = open_repository(store, config, secret, os.urandom)
    await repo.catch_up()
    return [frame for pack in repo.catalogue.packs.values() for frame in pack.frames if frame.kind == DATA]


async def test_each_wish_is_met_and_all_bring_back_the_same(terminal: Terminal) -> None:
    """On a directory, where `auto` has no reason to wait for zstd."""
    stored: dict[str, int] = {}
    coders: dict[str, set[int]] = {}
    for wish in ("fastest", "auto", "max"):
        terminal.repo = terminal.home / wish
        told = terminal.save("--compression", wish)
        stored[wish] = told["stored_bytes"]
        coders[wish] = {frame.codec & 3 for frame in await _frames(terminal)}
        terminal.run("restore", terminal.repo, terminal.home / f"{wish}-back")
        assert contents(terminal.home / f"{wish}-back") == contents(terminal.source)
    assert ZSTD not in coders["fastest"]
    assert coders["max"] == {RAW, ZSTD}, "noise is stored as it is"
    assert stored["max"] < 0.7 * stored["fastest"]
    assert stored["max"] < stored["auto"]


async def test_another_wish_sends_nothing_again(terminal: Terminal) -> None:
    """What is stored stays as it is packed: else one `max` would upload the whole tree anew."""
    terminal.save()
    (terminal.source / "new").write_bytes((terminal.source / "text").read_bytes()[2**20 : 2**21 - 1] + b"!")
    settle()
    told = terminal.save("--compression", "max")
    assert told["stored_bytes"] < 2**19
    assert "max" in terminal.run("save", terminal.source, terminal.repo, "--compression", "most", status=2).stderr
