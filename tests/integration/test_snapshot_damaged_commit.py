"""Forgetting beside a damaged commit: nothing goes that would have stayed, and what only it needs is never pruned."""

from pathlib import Path

import pytest

from tests.integration.test_snapshot_cli import Terminal, contents


@pytest.mark.parametrize("which", [0, 3])
def test_forgetting_goes_on_beside_a_damaged_commit_when_somebody_says_so(tmp_path: Path, which: int) -> None:
    """One flipped bit must not keep a repository growing for ever; nor may it make anything else go."""
    terminal = Terminal(tmp_path)
    terminal.source.mkdir()
    for number in range(4):
        (terminal.source / f"{number}").write_text(f"{number}" * 1000)
        terminal.save()
    record = sorted(terminal.repo.glob("state/commits/*"))[which]
    body = bytearray(record.read_bytes())
    body[-1] ^= 1
    record.chmod(0o600)
    record.write_bytes(body)
    before = contents(terminal.repo)
    keep = ("forget", terminal.repo, "--keep-last", "2")
    assert "--despite-damage" in terminal.run(*keep, status=1).stderr
    assert "--prune" in terminal.run(*keep, "--despite-damage", "--prune", status=2).stderr
    terminal.run(*keep, "--despite-damage", "--dry-run")
    assert contents(terminal.repo) == before
    told = terminal.json(*keep, "--despite-damage")
    readable = [f"0.{number + 1}" for number in range(4) if number != which]
    assert [one["commit"] for one in told["forgotten"]] == readable[:1]
    assert [one["commit"] for one in told["kept"]] == readable[1:]
    assert len(told["damaged"]) == 1
    assert record.read_bytes() == body, "it stays, for whoever can mend it"
    packs = set(terminal.packs())
    assert terminal.run("prune", terminal.repo, "--grace", "0s", status=1).stderr
    assert set(terminal.packs()) == packs
    terminal.run("restore", terminal.repo, terminal.home / "back", "--commit", readable[-1])
    assert (terminal.home / "back" / "0").exists()
