"""`dumont snapshot` over a real S3 server, as a user with a bucket runs it."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.store.address import parse
from dumont.store.cloud import open_cloud
from tests.integration import s3_server
from tests.integration.s3_server import S3Server
from tests.integration.test_snapshot_cli import Terminal, contents


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server.running(tmp_path_factory.mktemp("s3")) as server:
        bucket = open_cloud(parse(f"s3://{s3_server.BUCKET}"), server.environment())
        asyncio.run(bucket.put("first", b"makes the bucket"))
        yield server


@pytest.fixture
def terminal(tmp_path: Path, server: S3Server) -> Terminal:
    terminal = Terminal(tmp_path)
    terminal.source.mkdir()
    (terminal.source / "a.txt").write_text("hello\n")
    (terminal.source / "weights.bin").write_bytes(os.urandom(3_000_000))
    terminal.environment |= server.environment()
    return terminal


def test_save_and_restore_over_a_bucket(terminal: Terminal) -> None:
    """The whole story; and the promise of at most five requests for a save of what did not change."""
    address = f"s3://{s3_server.BUCKET}/{terminal.home.name}"
    for path in [terminal.source, *terminal.source.iterdir()]:
        os.utime(path, ns=(10**18, 10**18))
    first = terminal.json("save", terminal.source, address)
    assert first["new_bytes"] == 3_000_006
    assert first["requests"] > 5
    terminal.json("save", terminal.source, address)
    told = terminal.json("save", terminal.source, address)
    assert (told["commit"], told["stored_bytes"]) == ("0.3", 0)
    assert told["requests"] <= 5
    terminal.run("restore", address, terminal.home / "back")
    assert contents(terminal.home / "back") == contents(terminal.source)
    assert terminal.json("check", address, "--read-data")["ok"]


def test_credentials_that_only_read_restore(terminal: Terminal, server: S3Server) -> None:
    """A machine that restores need not be able to write; and it says why a save there fails."""
    address = f"s3://{s3_server.BUCKET}/{terminal.home.name}"
    terminal.run("save", terminal.source, address)
    terminal.environment |= server.environment("reader")
    terminal.environment["DUMONT_CACHE"] = str(terminal.home / "other")
    terminal.run("restore", address, terminal.home / "back")
    assert contents(terminal.home / "back") == contents(terminal.source)
    (terminal.source / "a.txt").write_text("changed\n")
    assert "denied" in terminal.run("save", terminal.source, address, status=1).stderr


def test_a_service_that_does_not_answer_is_named(terminal: Terminal) -> None:
    """Missing credentials are said before anything is asked."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del terminal.environment[name]
    told = terminal.run("save", terminal.source, f"s3://{s3_server.BUCKET}/x", status=2)
    assert "AWS_ACCESS_KEY_ID" in told.stderr
