"""`dumont snapshot key`: passphrases come and go, on every machine at once, and nobody is locked out."""

import json
from pathlib import Path

import pytest

from tests.integration.test_snapshot_cli import Terminal


@pytest.fixture(name="terminal")
def _terminal(tmp_path: Path) -> Terminal:
    terminal = Terminal(tmp_path)
    terminal.source.mkdir()
    (terminal.source / "a.txt").write_text("hello\n")
    terminal.save()
    terminal.environment["DUMONT_NEW_PASSPHRASE"] = "second"
    terminal.run("key", "add", terminal.repo, "for Ana")
    return terminal


def _become(terminal: Terminal, passphrase: str, machine: str = "one") -> None:
    terminal.environment["DUMONT_PASSPHRASE"] = passphrase
    terminal.environment["DUMONT_CACHE"] = str(terminal.home / machine)


def test_a_removed_passphrase_opens_nothing_even_where_it_is_remembered(terminal: Terminal) -> None:
    """A machine keeps how it opened a repository last: that must not outlive the passphrase."""
    _become(terminal, "second", "hers")
    terminal.run("ls", terminal.repo)
    _become(terminal, "correct horse")
    told = terminal.run("key", "remove", terminal.repo, "for Ana")
    assert "copy of its key object" in told.stderr
    assert "new repository" in told.stderr, "what would help is said"
    for machine in ("hers", "fresh"):
        _become(terminal, "second", machine)
        assert "passphrase" in terminal.run("ls", terminal.repo, status=1).stderr
    _become(terminal, "correct horse")
    assert [slot["id"] for slot in terminal.json("key", "list", terminal.repo)] == ["first"]
    assert terminal.json("check", terminal.repo)["ok"]


def test_the_first_passphrase_goes_like_any_other(terminal: Terminal) -> None:
    """It lies elsewhere, in an object that is never overwritten; that must not make it stay for ever."""
    _become(terminal, "correct horse", "old")
    terminal.run("ls", terminal.repo)
    _become(terminal, "second")
    terminal.run("key", "remove", terminal.repo, "first")
    for machine in ("old", "fresh"):
        _become(terminal, "correct horse", machine)
        assert "passphrase" in terminal.run("ls", terminal.repo, status=1).stderr
    _become(terminal, "second", "new")
    (slot,) = terminal.json("key", "list", terminal.repo)
    assert (slot["label"], slot["in_use"], slot["going"]) == ("for Ana", True, False)
    assert terminal.json("check", terminal.repo, "--read-data")["ok"]
    (terminal.source / "b.txt").write_text("more\n")
    assert terminal.save()["commit"] == "0.2"
    terminal.run("restore", terminal.repo, terminal.home / "back")
    assert (terminal.home / "back" / "b.txt").read_text() == "more\n"
    again = terminal.save()
    assert again["requests"] <= 5


def test_the_last_one_and_the_one_in_use_stay(terminal: Terminal) -> None:
    """Whoever removes the one in use has not shown that another opens the repository."""
    assert "in use" in terminal.run("key", "remove", terminal.repo, "first", status=2).stderr
    assert "in use" in terminal.run("key", "list", terminal.repo).stdout.splitlines()[0]
    terminal.run("key", "remove", terminal.repo, "for Ana")
    assert "only passphrase" in terminal.run("key", "remove", terminal.repo, "first", status=2).stderr
    assert len(json.loads(terminal.run("ls", terminal.repo, "--json").stdout)) == 1


def test_a_slip_removes_nothing(terminal: Terminal) -> None:
    """No id, one that is not there, one that could mean two."""
    terminal.run("key", "add", terminal.repo, "for Ana")
    assert "ID" in terminal.run("key", "remove", terminal.repo, status=2).stderr
    assert "key list" in terminal.run("key", "remove", terminal.repo, "nobody", status=2).stderr
    assert "several" in terminal.run("key", "remove", terminal.repo, "for Ana", status=2).stderr
    slots = terminal.json("key", "list", terminal.repo)
    assert len(slots) == 3
    terminal.run("key", "remove", terminal.repo, slots[1]["id"][:12])
    assert [slot["id"] for slot in terminal.json("key", "list", terminal.repo)] == ["first", slots[2]["id"]]


def test_a_writer_removes_nothing(terminal: Terminal) -> None:
    """It lies on a stranger's machine."""
    key = terminal.json("key", "add-writer", terminal.repo, "gpu1")["key"]
    del terminal.environment["DUMONT_PASSPHRASE"]
    terminal.environment["DUMONT_WRITER_KEY"] = key
    assert "writer" in terminal.run("key", "remove", terminal.repo, "for Ana", status=1).stderr
