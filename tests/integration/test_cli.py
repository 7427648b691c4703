"""The command line as people and programs use it, against a real server with pretended agents."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.stage import Stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage(Path(tempfile.mkdtemp(prefix="dt-")))
    try:
        stage.start()
        stage.dumont("up")
        stage.dumont("launch", "train", "--run", "python train.py")
        stage.until("train")
        yield stage
    finally:
        stage.stop()
        shutil.rmtree(stage.path, ignore_errors=True)


def test_up_is_idempotent(stage: Stage) -> None:
    """People type it again when in doubt."""
    first, second = stage.json("up"), stage.json("up")
    assert first["ok"]
    assert first["pid"] == second["pid"]


def test_show_tells_what_a_crash_would_lose(stage: Stage) -> None:
    """The gauge is the promise, made visible."""
    shown = stage.json("show", "train")
    assert shown["at_risk"] == {"bytes": 10, "seconds": 0.02}
    assert (shown["copies"], shown["consistent"], shown["epoch"]) == (2, True, 1)
    assert {replica["role"] for replica in shown["replicas"]} == {"primary", "standby"}
    text = stage.dumont("show", "train")
    assert "10 B" in text
    assert "consistent" in text


def test_sync_prints_the_barriers_token(stage: Stage) -> None:
    """A script compares it with a later commit; it must be the same word everywhere."""
    answer = stage.json("sync", "train")
    assert answer["outcome"] == "ok"
    assert answer["token"].startswith("1.")
    assert len(answer["root"]) == 64


def test_ssh_config_is_what_openssh_takes(stage: Stage) -> None:
    """scp, sftp and rsync live on it: our key, our known_hosts, no question asked."""
    config = stage.dumont("ssh-config", "train")
    options = dict(line.split(None, 1) for line in config.splitlines())
    assert options["Host"] == "train.dumont"
    assert options["StrictHostKeyChecking"] == "yes"
    known = Path(options["UserKnownHostsFile"]).read_text()
    assert known.startswith("train.dumont ssh-ed25519 ")
    assert Path(options["IdentityFile"]).stat().st_mode & 0o077 == 0


def test_ssh_config_is_known_while_the_server_is_away(stage: Stage) -> None:
    """The gateway goes on without the server, so must the way to it."""
    config = stage.dumont("ssh-config", "train")
    stage.kill()
    try:
        assert stage.dumont("ssh-config", "train") == config
    finally:
        stage.start()
        stage.dumont("up")


def test_events_tell_the_story_in_order(stage: Stage) -> None:
    """A timeline one can't read back is no evidence."""
    kinds = [event["kind"] for event in stage.json("events", "train")]
    told = [kind for kind in kinds if kind in ("launched", "promoted", "first", "ack_set")]
    assert told == ["launched", "promoted", "first", "ack_set"]


def test_a_wrong_name_gets_a_suggestion_in_the_readers_language(stage: Stage) -> None:
    """Half of all errors are typing errors."""
    done = stage.ask("show", "trian")
    assert done.returncode == 1
    assert "Did you mean train?" in done.stderr
    done = stage.ask("show", "trian", language="pt_BR.UTF-8")
    assert "Você quis dizer train?" in done.stderr
    assert "Endereço" in stage.dumont("--lang", "pt_BR", "show", "train")


def test_json_errors_are_json(stage: Stage) -> None:
    """Programs read the standard output."""
    answer = stage.json("show", "trian", status=1)
    assert answer["error"]["type"] == "urn:dumont:problem:no-such-workspace"
    assert answer["error"]["advice"]


def test_a_missing_server_says_how_to_start_it(short_dir: Path) -> None:
    """It is the first thing that goes wrong for everybody."""
    done = Stage(short_dir).ask("ls")
    assert done.returncode == 1
    assert "start it with `dumont up`" in done.stderr


def test_doctor_names_what_is_missing(stage: Stage) -> None:
    """And ends with 0 only where Dumont can work."""
    checks = {check["name"]: check for check in stage.json("doctor")}
    assert checks["server"]["ok"]
    assert checks["gateway"]["ok"]
    assert "jail" in checks


def test_what_the_store_keeps_is_said_at_launch_and_shown(stage: Stage) -> None:
    """What is let go is gone: nobody should have to guess what stays."""
    usual = {"last": 60, "hourly": 48, "daily": 14, "weekly": 8}
    assert stage.json("show", "train")["retention"] == usual
    assert "60 newest, 48 hourly, 14 daily, 8 weekly" in stage.dumont("show", "train")
    shown = stage.json("launch", "kept", "--keep", "last=3, daily=7", "--wait", "0")
    assert shown["retention"] == {"last": 3, "hourly": 0, "daily": 7, "weekly": 0}
    assert "3 newest, 7 daily" in stage.dumont("show", "kept")
    stage.json("rm", "kept", "--yes")
    assert "is no rule of what to keep" in stage.ask("launch", "wrong", "--keep", "monthly=3").stderr
    assert "keeps 0 to 10000 commits" in stage.ask("launch", "wrong", "--keep", "last=10001").stderr


def test_a_spare_is_held_for_whom_an_hour_is_worth_it(stage: Stage) -> None:
    """Only who works on the machine knows what a lost hour costs them."""
    stage.json("launch", "dear", "--spares", "1", "--hour-worth", "50000", "--wait", "0")
    stage.json("launch", "cheap", "--spares", "1", "--hour-worth", "0", "--wait", "0")
    stage.until("dear", gpus=2)
    stage.until("cheap", gpus=1)
    assert "0 to 4 spares may be held, not 5" in stage.ask("launch", "wrong", "--spares", "5").stderr
    assert "is worth 0 to 1000000 US$, not -1" in stage.ask("launch", "wrong", "--hour-worth", "-1").stderr
    for name in ("dear", "cheap"):
        stage.json("rm", name, "--yes")


def test_branches_are_none_at_first(stage: Stage) -> None:
    """A branch exists only where a fenced machine had files of its own."""
    assert stage.json("branches", "train") == []
    done = stage.ask("branches", "train", "--ls", "nothing")
    assert "has no branch nothing" in done.stderr


def test_rm_asks_first_and_then_lets_everything_go(stage: Stage) -> None:
    """Nothing is deleted by a slip of the finger."""
    stage.dumont("launch", "gone", "--no-return")
    assert stage.ask("rm", "gone").returncode == 1
    assert stage.json("rm", "gone", "--yes") == {"name": "gone", "gone": True}
    assert [shown["name"] for shown in stage.json("ls")] == ["train"]


def test_what_the_store_keeps_can_be_changed_of_a_workspace_that_runs(stage: Stage) -> None:
    """Nobody knows at launch how much history a year of work will want."""
    assert "60 newest, 48 hourly, 14 daily, 8 weekly" in stage.dumont("keep", "train")
    assert "Nothing can go yet: no primary has said yet what it stored" in stage.dumont("keep", "train")
    tried = stage.json("keep", "train", "last=7,daily=14", "--dry-run")
    assert (tried["rules"]["last"], tried["before"]["last"], tried["takes"]) == (7, 60, True)
    refused = stage.ask("keep", "train", "last=7,daily=14")
    assert refused.returncode == 1 and "say --yes" in refused.stderr
    assert stage.json("show", "train")["retention"]["last"] == 60
    assert "7 newest, 14 daily" in stage.dumont("keep", "train", "last=7,daily=14", "--yes")
    assert stage.json("show", "train")["retention"] == {"last": 7, "hourly": 0, "daily": 14, "weekly": 0}
    assert stage.json("keep", "train", "all")["rules"]["last"] == 0, "to keep more needs no word"
    assert "is no rule of what to keep" in stage.ask("keep", "train", "monthly=3").stderr
    assert "keeps 0 to 10000 commits" in stage.ask("keep", "train", "last=10001").stderr
    events = [event["facts"] for event in stage.json("events", "train") if event["kind"] == "retention_changed"]
    assert [facts["rules"] for facts in events] == ["last=7,daily=14", "all"]


def test_a_removed_workspaces_history_is_listed_kept_and_deleted_on_request(stage: Stage) -> None:
    """It is what `rm` leaves; nobody should have to look for it on the disk."""
    assert "say 0 to 36500 days" in stage.ask("rm", "train", "--yes", "--keep-history", "a while").stderr
    stage.dumont("launch", "brief")
    stage.json("rm", "brief", "--yes", "--keep-history", "for-ever")
    (one,) = [one for one in stage.json("history") if one["history"] == "brief"]
    assert one["keep_until"] is None and one["objects"] > 0 and one["bytes"] > 0
    assert "for ever" in stage.dumont("history", "brief")
    restore = f"dumont snapshot ls {stage.path / 'store/workspaces/brief'} --key-file"
    assert restore in stage.dumont("history", "brief")
    assert stage.json("history", "brief", "--keep", "3")["keep_until"] is not None
    refused = stage.ask("history", "brief", "--delete")
    assert refused.returncode == 1 and "say --again brief" in refused.stderr
    assert "nothing was deleted" in stage.ask("history", "brief", "--delete", "--again", "breif").stderr
    assert (stage.path / "store/workspaces/brief/config").exists()
    stage.dumont("launch", "brief")
    done = stage.json("history", "brief", "--delete", "--again", "brief")
    assert done == {"history": "brief", "gone": True, "bytes": one["bytes"]}
    assert not (stage.path / "store/workspaces/brief").exists()
    assert (stage.path / "store/workspaces/brief.2/config").exists(), "that of the new one"
    assert "left a history train" in stage.ask("history", "train", "--delete", "--again", "train").stderr
    stage.json("rm", "brief", "--yes")
