"""`dumont snapshot` on the store of a server's workspace: the operator sees, checks, restores and prunes it by hand."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from dumont.control.vault import Vault
from dumont.model.commit import Commit, CommitId
from dumont.repository.hands import ThreadHand
from dumont.repository.progress import Progress
from dumont.repository.record import branch_prefix
from dumont.repository.saving.save import Draft, save, start_saving
from dumont.store.directory import DirectoryStore
from tests.integration.archivist import scanned
from tests.integration.depot import settle, started
from tests.integration.test_snapshot_cli import Terminal

KEY = os.urandom(32)


class Workspace:
    """A home as a server leaves it, with commits of one workspace as an agent stores them."""

    def __init__(self, home: Path) -> None:
        self.terminal = Terminal(home)
        del self.terminal.environment["DUMONT_PASSPHRASE"]
        self.key = home / "keys" / "store.key"
        self.key.parent.mkdir()
        self.key.write_text(KEY.hex() + "\n")
        (home / "store").mkdir()
        self.repo = home / "store" / "workspaces" / "train"
        self.tree = home / "tree"
        self.tree.mkdir()

    def keep(self, seq: int, prefix: str = "") -> None:
        """Store commit 3.`seq` of the tree as it is now."""
        settle()
        asyncio.run(self._keep(seq, prefix))

    async def _keep(self, seq: int, prefix: str) -> None:
        store = DirectoryStore(self.repo.parent.parent)
        repo = await Vault(store, KEY, os.urandom).open("train")
        tree = scanned(self.tree, repo.keys.chunk_key)
        commit = Commit(CommitId(3, seq), None, b"", time.time_ns(), consistent=True)
        async with started(lambda: ThreadHand(start_saving, repo.store), 2) as hands:
            await save(repo, self.tree, Draft(0, commit=commit, known=tree, prefix=prefix), hands, Progress())

    def snapshot(self, verb: str, *words: object) -> Any:
        """What the verb tells of the workspace's part of the store."""
        return self.terminal.json(verb, *words, "--key-file", self.key)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    (workspace.tree / "big").write_bytes(os.urandom(3 * 2**20))
    (workspace.tree / "small").write_bytes(b"one")
    workspace.keep(7)
    (workspace.tree / "small").write_bytes(b"two, longer")
    workspace.keep(9)
    return workspace


def test_the_operator_lists_checks_and_restores_a_workspace(workspace: Workspace, tmp_path: Path) -> None:
    """When the server is gone for good, the store and its key must be enough."""
    for _ in range(2):  # the second run knows from the first how to open it
        listed = workspace.snapshot("ls", workspace.repo)
        assert [row["commit"] for row in listed] == ["3.7", "3.9"]
    workspace.snapshot("check", workspace.repo, "--read-data")
    workspace.snapshot("restore", workspace.repo, tmp_path / "out", "--commit", "3.7")
    assert (tmp_path / "out" / "small").read_bytes() == b"one"
    assert (tmp_path / "out" / "big").read_bytes() == (workspace.tree / "big").read_bytes()


def test_a_prune_by_hand_leaves_what_commits_and_branches_need(workspace: Workspace, tmp_path: Path) -> None:
    """A branch may be all that is left of what nobody acknowledged."""
    (workspace.tree / "divergent").write_bytes(os.urandom(2**20))
    workspace.keep(10, branch_prefix("gpu-1-e3"))
    workspace.snapshot("forget", workspace.repo, "3.7")
    workspace.snapshot("prune", workspace.repo, "--grace", "0s")
    assert [row["commit"] for row in workspace.snapshot("ls", workspace.repo)] == ["3.9"]
    workspace.snapshot("check", workspace.repo, "--read-data")
    workspace.snapshot("restore", workspace.repo, tmp_path / "out")
    assert (tmp_path / "out" / "small").read_bytes() == b"two, longer"


def test_another_key_opens_nothing_and_says_so(workspace: Workspace) -> None:
    """The wrong home's key, a passphrase file, or none at all: each in words."""
    other = workspace.key.with_name("other.key")
    other.write_text(os.urandom(32).hex() + "\n")
    run = workspace.terminal.run
    assert "key does not open" in run("ls", workspace.repo, "--key-file", other, status=1).stderr
    other.write_text("secret\n")
    assert "64 hexadecimal digits" in run("ls", workspace.repo, "--key-file", other, status=2).stderr
    assert "can't be read" in run("ls", workspace.repo, "--key-file", other / "none", status=2).stderr
    both = ("--key-file", workspace.key, "--insecure-no-passphrase")
    assert "leave one of them out" in run("ls", workspace.repo, *both, status=2).stderr
    workspace.terminal.environment["DUMONT_PASSPHRASE"] = "correct horse"
    assert "does not open" in run("ls", workspace.repo, status=1).stderr
    workspace.snapshot("ls", workspace.repo)  # the option is meant, whatever the environment says
