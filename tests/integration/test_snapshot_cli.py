"""`dumont snapshot` as people and programs use it: real processes over a repository in a directory."""

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RUN_S_MAX = 60


class Terminal:
    """One user's machine: a home, a passphrase, and a repository."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.source = home / "work"
        self.repo = home / "repo"
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HOME": str(home),
            "DUMONT_PASSPHRASE": "correct horse",
            "LANG": "C.UTF-8",
        }

    def start(self, *words: object, **more: Any) -> "subprocess.Popen[str]":
        """Begin `dumont snapshot` with those words."""
        command = [sys.executable, "-m", "dumont.main", "snapshot", *map(str, words)]
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(command, env=self.environment, text=True, **more)

    def run(self, *words: object, status: int = 0) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, which must be `status`."""
        process = self.start(*words)
        out, err = process.communicate(timeout=RUN_S_MAX)
        assert process.returncode == status, (words, process.returncode, out, err)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def json(self, *words: object, status: int = 0) -> Any:
        """What it prints with --json."""
        return json.loads(self.run(*words, "--json", status=status).stdout)

    def save(self, *words: object) -> Any:
        """Save the source."""
        return self.json("save", self.source, self.repo, *words)

    def packs(self) -> list[Path]:
        """The packs stored, the largest last."""
        return sorted(self.repo.glob("packs/*/*"), key=lambda path: path.stat().st_size)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    terminal = Terminal(tmp_path)
    (terminal.source / "deep").mkdir(parents=True)
    (terminal.source / "a.txt").write_text("hello\n")
    (terminal.source / "deep" / "weights.bin").write_bytes(os.urandom(300_000))
    (terminal.source / "link").symlink_to("a.txt")
    return terminal


def contents(top: Path) -> dict[str, object]:
    """What a directory holds: names, content, modes and times."""
    found: dict[str, object] = {}
    for path in sorted(top.rglob("*")):
        about = path.lstat()
        body: object = os.readlink(path) if path.is_symlink() else None
        if stat.S_ISREG(about.st_mode):
            body = path.read_bytes()
        found[str(path.relative_to(top))] = (about.st_mode, about.st_mtime_ns, body)
    return found


def until(holds: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Wait for it, as long as the process runs."""
    end = time.monotonic() + RUN_S_MAX
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def read_to(terminal: int, prompt: str) -> str:
    """What a terminal shows up to the prompt, or, without one, to the end."""
    shown = ""
    while not prompt or prompt not in shown:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            part = b""
        if not part:
            assert not prompt, shown
            break
        shown += part.decode()
    return shown


# --- saving and restoring


def test_save_change_save_diff_restore(terminal: Terminal) -> None:
    """The whole story, with what programs read of it."""
    first = terminal.save("--name", "start", "--tag", "a", "--tag", "b")
    assert (first["commit"], first["files"], first["name"], first["tags"]) == ("0.1", 2, "start", ["a", "b"])
    assert first["plain_bytes"] == 300_006 == first["new_bytes"]
    assert first["stored_bytes"] > 300_000
    assert len(first["root"]) == 64
    assert first["seconds"] > 0
    (terminal.source / "a.txt").write_text("hello again\n")
    (terminal.source / "new").write_text("x")
    second = terminal.save()
    assert (second["commit"], second["files"], second["new_bytes"]) == ("0.2", 3, 13)
    changes = terminal.json("diff", terminal.repo, "1", "2")["changes"]
    assert {change["path"]: change["kind"] for change in changes if change["path"]} == {
        "a.txt": "modified",
        "new": "added",
    }
    target = terminal.home / "back"
    told = terminal.json("restore", terminal.repo, target)
    assert (told["commit"], told["files"], told["plain_bytes"]) == ("0.2", 3, second["plain_bytes"])
    assert 0 < told["working_set_s"] <= told["seconds"]
    assert told["fetched_bytes"] > 300_000
    assert contents(target) == contents(terminal.source)
    again = terminal.json("restore", terminal.repo, target, "--commit", "1", "--delete")
    assert again["fetched_bytes"] < 100_000, "only what differs is fetched"
    assert (target / "a.txt").read_text() == "hello\n"
    assert not (target / "new").exists()


def test_an_unchanged_tree_costs_four_requests(terminal: Terminal) -> None:
    """The promise is five at most, for each is a round trip to the other side of an ocean."""
    first = terminal.save()
    for path in [terminal.source, *terminal.source.rglob("*")]:
        os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)
    time.sleep(0.1)  # a change within a clock's tick of the save may hide: such files are read again
    terminal.save()
    told = terminal.save()
    assert (told["new_bytes"], told["stored_bytes"], told["requests"]) == (0, 0, 4)
    assert told["commit"] == "0.3"
    assert first["root"] != told["root"]


def test_a_restore_into_foreign_files_asks_first(terminal: Terminal) -> None:
    """A mistyped target must not cost anything; and what is not in the commit goes only on request."""
    terminal.save()
    target = terminal.home / "other"
    target.mkdir()
    (target / "precious").write_text("mine")
    (target / "a.txt").write_text("also mine")
    refused = terminal.run("restore", terminal.repo, target, status=2)
    assert "--overwrite" in refused.stderr
    assert (target / "a.txt").read_text() == "also mine"
    terminal.run("restore", terminal.repo, target, "--overwrite")
    assert (target / "a.txt").read_text() == "hello\n"
    assert (target / "precious").read_text() == "mine"
    terminal.run("restore", terminal.repo, target, "--overwrite", "--delete")
    assert not (target / "precious").exists()


def test_only_some_paths_are_restored(terminal: Terminal) -> None:
    """Most restores want one file."""
    terminal.save()
    target = terminal.home / "some"
    terminal.run("restore", terminal.repo, target, "--only", "deep/*")
    assert (target / "deep" / "weights.bin").read_bytes() == (terminal.source / "deep" / "weights.bin").read_bytes()
    assert not (target / "a.txt").exists()


def test_commits_are_found_by_name_and_path(terminal: Terminal) -> None:
    """Nobody remembers numbers."""
    terminal.save("--name", "good")
    (terminal.source / "a.txt").write_text("bad\n")
    terminal.save("--name", "bad")
    target = terminal.home / "named"
    assert terminal.json("restore", terminal.repo, target, "--name", "good")["commit"] == "0.1"
    elsewhere = terminal.home / "elsewhere"
    assert terminal.json("restore", terminal.repo, elsewhere, "--path", terminal.source)["commit"] == "0.2"
    missing = terminal.run("restore", terminal.repo, terminal.home / "none", "--name", "nobody", status=2)
    assert "nobody" in missing.stderr
    assert not (terminal.home / "none").exists()


def test_ls_shows_commits_and_what_they_hold(terminal: Terminal) -> None:
    """It is how people find what to restore."""
    terminal.save("--name", "start", "--tag", "a")
    commits = terminal.json("ls", terminal.repo)
    assert [(one["commit"], one["name"], one["tags"], one["files"]) for one in commits] == [("0.1", "start", ["a"], 2)]
    assert commits[0]["path"] == str(terminal.source)
    top = terminal.json("ls", terminal.repo, "1")
    assert {one["path"]: one["kind"] for one in top} == {"a.txt": "f", "deep": "d", "link": "l"}
    assert [one["path"] for one in terminal.json("ls", terminal.repo, "latest", "deep")] == ["deep/weights.bin"]
    words = terminal.run("ls", terminal.repo).stdout
    assert "start" in words
    assert "300 kB" in words


# --- secrets


def test_a_wrong_passphrase_changes_nothing(terminal: Terminal) -> None:
    """Neither the repository nor what this machine keeps of it."""
    terminal.save()
    before = contents(terminal.repo)
    terminal.environment["DUMONT_PASSPHRASE"] = "wrong"
    for words in (["save", terminal.source, terminal.repo], ["ls", terminal.repo], ["prune", terminal.repo]):
        assert "passphrase" in terminal.run(*words, status=1).stderr
    assert contents(terminal.repo) == before
    terminal.environment["DUMONT_PASSPHRASE"] = "correct horse"
    terminal.run("ls", terminal.repo)


def test_no_passphrase_has_to_be_said(terminal: Terminal) -> None:
    """An unset variable must not make a repository that everybody reads."""
    del terminal.environment["DUMONT_PASSPHRASE"]
    assert "DUMONT_PASSPHRASE" in terminal.run("save", terminal.source, terminal.repo, status=2).stderr
    assert not terminal.repo.exists()
    told = terminal.run("save", terminal.source, terminal.repo, "--insecure-no-passphrase")
    assert "no passphrase" in told.stderr
    terminal.environment["DUMONT_PASSPHRASE"] = ""
    assert "--insecure-no-passphrase" in terminal.run("ls", terminal.repo, status=2).stderr


def test_a_passphrase_is_asked_for_twice_and_not_shown(terminal: Terminal) -> None:
    """A slip while typing would lock the user out for ever."""
    del terminal.environment["DUMONT_PASSPHRASE"]
    ours, theirs = pty.openpty()
    terminals = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = terminal.start("save", terminal.source, terminal.repo, start_new_session=True, **terminals)
    os.close(theirs)
    shown = read_to(ours, "Passphrase of the new repository: ")
    os.write(ours, b"one secret\n")
    shown += read_to(ours, "Once more: ")
    os.write(ours, b"another\n")
    shown += read_to(ours, "")
    assert process.wait(timeout=RUN_S_MAX) == 2
    os.close(ours)
    assert "differ" in shown
    assert "secret" not in shown
    assert not terminal.repo.exists()


def test_a_passphrase_file_may_be_a_pipe(terminal: Terminal) -> None:
    """Password managers are used as `--passphrase-file <(pass show backup)`; a pipe can be read only once."""
    terminal.save()
    del terminal.environment["DUMONT_PASSPHRASE"]
    out, into = os.pipe()
    os.write(into, b"correct horse\n")
    os.close(into)
    process = terminal.start("ls", terminal.repo, "--passphrase-file", f"/dev/fd/{out}", pass_fds=(out,))
    os.close(out)
    _, err = process.communicate(timeout=RUN_S_MAX)
    assert process.returncode == 0, err


def test_another_passphrase_opens_it_too(terminal: Terminal) -> None:
    """Two people, two passphrases, and a machine that knew only the first."""
    terminal.save()
    terminal.environment["DUMONT_NEW_PASSPHRASE"] = "second"
    terminal.run("key", "add", terminal.repo, "for Ana")
    terminal.environment["DUMONT_PASSPHRASE"] = "second"
    assert [slot["label"] for slot in terminal.json("key", "list", terminal.repo)] == ["", "for Ana"]
    terminal.environment["DUMONT_CACHE"] = str(terminal.home / "fresh")
    assert len(terminal.json("ls", terminal.repo)) == 1


def test_a_writers_key_adds_and_reads_nothing(terminal: Terminal) -> None:
    """It lies on a stranger's machine."""
    terminal.save()
    made = terminal.json("key", "add-writer", terminal.repo, "gpu1")
    assert made["writer"] == "gpu1"
    del terminal.environment["DUMONT_PASSPHRASE"]
    terminal.environment["DUMONT_WRITER_KEY"] = made["key"]
    terminal.environment["DUMONT_CACHE"] = str(terminal.home / "strange")
    (terminal.source / "from the host").write_text("new")
    assert terminal.save()["commit"] == "0.2"
    for words in (
        ["ls", terminal.repo],
        ["restore", terminal.repo, terminal.home / "stolen"],
        ["check", terminal.repo],
        ["prune", terminal.repo],
        ["key", "list", terminal.repo],
    ):
        assert "writer" in terminal.run(*words, status=1).stderr
    assert not (terminal.home / "stolen").exists()
    del terminal.environment["DUMONT_WRITER_KEY"]
    terminal.environment["DUMONT_PASSPHRASE"] = "correct horse"
    terminal.run("restore", terminal.repo, terminal.home / "back")
    assert contents(terminal.home / "back") == contents(terminal.source)


def test_a_repository_that_was_replaced_is_noticed(terminal: Terminal) -> None:
    """What this machine remembers of an address is believed only as long as it is the same repository."""
    terminal.save()
    terminal.repo.rename(terminal.home / "old")
    told = terminal.save()
    assert (told["commit"], told["new_bytes"]) == ("0.1", 300_006)
    terminal.run("restore", terminal.repo, terminal.home / "back")
    assert contents(terminal.home / "back") == contents(terminal.source)


# --- damage


def test_check_names_the_damaged_file(terminal: Terminal) -> None:
    """A person wants to know what is lost, and not which hash."""
    terminal.save()
    assert terminal.json("check", terminal.repo, "--read-data")["ok"]
    pack = terminal.packs()[-1]
    body = bytearray(pack.read_bytes())
    body[len(body) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(body)
    told = terminal.run("check", terminal.repo, "--read-data", status=1)
    assert "deep/weights.bin" in told.stdout + told.stderr
    assert not terminal.json("check", terminal.repo, "--read-data", status=1)["ok"]
    broken = terminal.run("restore", terminal.repo, terminal.home / "broken", status=1)
    assert broken.stderr


def test_a_lost_index_is_made_again_from_the_packs(terminal: Terminal) -> None:
    """Packs tell by themselves what they hold: nothing but they and the commits is needed."""
    terminal.save()
    for index in (terminal.repo / "state/index").iterdir():
        index.unlink()
    assert not terminal.json("check", terminal.repo, status=1)["ok"]
    terminal.run("check", terminal.repo, "--repair-index", "--read-data")
    terminal.run("restore", terminal.repo, terminal.home / "out")
    assert (terminal.home / "out").is_dir()


def test_one_damaged_commit_does_not_hide_the_others(terminal: Terminal) -> None:
    """A flipped bit in one record must not cost every other commit."""
    terminal.save("--name", "good")
    (terminal.source / "a.txt").write_text("later\n")
    terminal.save()
    record = max(terminal.repo.glob("state/commits/*"))
    body = bytearray(record.read_bytes())
    body[-1] ^= 1
    record.chmod(0o600)
    record.write_bytes(body)
    listed = terminal.run("ls", terminal.repo, "--json")
    assert [one["commit"] for one in json.loads(listed.stdout)] == ["0.1"]
    assert "damaged" in listed.stderr
    assert terminal.json("restore", terminal.repo, terminal.home / "back")["commit"] == "0.1"
    assert not terminal.json("check", terminal.repo, status=1)["ok"]


# --- what a person does wrong


def test_path_and_repository_mixed_up(terminal: Terminal) -> None:
    """Half of all people do, once."""
    terminal.save()
    before = contents(terminal.source)
    assert "PATH REPO" in terminal.run("save", terminal.repo, terminal.source, status=2).stderr
    assert "PATH REPO" in terminal.run("save", "s3://bucket/x", terminal.source, status=2).stderr
    assert contents(terminal.source) == before


def test_a_missing_path_or_repository(terminal: Terminal) -> None:
    """Each with what to do, and nothing made on the way."""
    assert "there is no" in terminal.run("save", terminal.home / "nope", terminal.repo, status=2).stderr
    assert "no repository" in terminal.run("restore", terminal.repo, terminal.home / "back", status=2).stderr
    assert "lies in" in terminal.run("save", terminal.source, terminal.source / "repo", status=2).stderr
    assert not terminal.repo.exists()
    assert not (terminal.home / "back").exists()
    assert "REPO" in terminal.run("save", terminal.source, status=2).stderr


@pytest.mark.parametrize(("language", "words"), [("C.UTF-8", "the directory to save"), ("pt_BR.UTF-8", "o diretório")])
def test_help_in_both_languages(terminal: Terminal, language: str, words: str) -> None:
    """It needs no passphrase and no repository."""
    terminal.environment["LANG"] = language
    assert words in terminal.run("save", "--help").stdout
    for verb in ("restore", "ls", "diff", "check", "prune", "forget", "tag", "key"):
        assert "REPO" in terminal.run(verb, "--help").stdout


# --- interrupted


def test_an_interrupted_save_goes_on(terminal: Terminal) -> None:
    """What was stored is not sent again, and nothing of the program stays behind."""
    for number in range(24):
        (terminal.source / f"{number}.bin").write_bytes(os.urandom(8 * 2**20))
    process = terminal.start("save", terminal.source, terminal.repo, start_new_session=True)
    until(terminal.packs, process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=RUN_S_MAX)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "goes on" in err
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    kept = sum(path.stat().st_size for path in terminal.packs())
    assert kept
    told = terminal.save()
    assert told["commit"] == "0.1"
    assert told["stored_bytes"] <= told["plain_bytes"] - kept + 2 * 2**20
    terminal.run("restore", terminal.repo, terminal.home / "back")
    assert contents(terminal.home / "back") == contents(terminal.source)


def test_a_killed_save_leaves_no_processes(terminal: Terminal) -> None:
    """Hands end when whoever forked them is gone."""
    for number in range(24):
        (terminal.source / f"{number}.bin").write_bytes(os.urandom(8 * 2**20))
    process = terminal.start("save", terminal.source, terminal.repo, start_new_session=True)
    until(terminal.packs, process)
    process.kill()
    process.communicate(timeout=RUN_S_MAX)  # their standard output is the same pipe: it ends with the last of them
    terminal.save()


# --- keeping house


def test_tags_forget_and_prune(terminal: Terminal) -> None:
    """What is forgotten is gone only with a prune, and what is kept stays whole."""
    terminal.save("--tag", "keep")
    (terminal.source / "deep" / "weights.bin").write_bytes(os.urandom(300_000))
    terminal.save()
    terminal.save()
    terminal.run("tag", terminal.repo, "2", "--add", "later", "--name", "middle")
    shown = {one["commit"]: one for one in terminal.json("ls", terminal.repo)}
    assert (shown["0.2"]["name"], shown["0.2"]["tags"]) == ("middle", ["later"])
    assert len(terminal.json("forget", terminal.repo, "--keep-last", "1", "--dry-run")["forgotten"]) == 1, "named: kept"
    terminal.run("tag", terminal.repo, "middle", "--name", "")
    dry = terminal.json("forget", terminal.repo, "--keep-last", "1", "--dry-run")
    assert [one["commit"] for one in dry["forgotten"]] == ["0.1", "0.2"]
    assert len(terminal.json("ls", terminal.repo)) == 3
    told = terminal.json("forget", terminal.repo, "--keep-last", "1", "--prune", "--grace", "0s")
    assert [one["commit"] for one in told["kept"]] == ["0.3"]
    assert told["pruned"]["deleted_bytes"] > 300_000
    assert [one["commit"] for one in terminal.json("ls", terminal.repo)] == ["0.3"]
    assert terminal.json("check", terminal.repo, "--read-data")["ok"]
    terminal.run("restore", terminal.repo, terminal.home / "back")
    assert contents(terminal.home / "back") == contents(terminal.source)


def test_forget_without_a_policy_forgets_nothing(terminal: Terminal) -> None:
    """A forgotten option must not forget everything."""
    terminal.save()
    assert "--keep-last" in terminal.run("forget", terminal.repo, status=2).stderr
    assert len(terminal.json("ls", terminal.repo)) == 1
