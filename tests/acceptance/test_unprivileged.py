"""A cloud for somebody who is not root and has neither jails nor networks: plain processes, and the same promise."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.demo import faults
from tests.acceptance.cloud import NAME, Cloud, running, serves

pytestmark = pytest.mark.timeout(180)

HIDDEN = {"bwrap", "ip", "bridge"}
SOMEBODY = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
"""A user namespace: not root, without any capability, and yet allowed to read whatever Python this is run by."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Neither bubblewrap nor iproute2 is on its PATH."""
    wrapped: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if (
            not shutil.which("unshare")
            or subprocess.run([*SOMEBODY, "true"], check=False, capture_output=True).returncode
        ):
            pytest.skip("no user namespace can be made here, to become somebody who is not root")
        wrapped = SOMEBODY
    with running(Cloud(wrapped, {"PATH": str(programs(tmp_path_factory.mktemp("bin")))})) as cloud:
        yield cloud


def programs(folder: Path) -> Path:
    """A folder with all programs of this machine but the hidden ones."""
    for directory in os.get_exec_path():
        if os.path.isdir(directory):
            for name in os.listdir(directory):
                if name not in HIDDEN and not (folder / name).is_symlink():
                    (folder / name).symlink_to(Path(directory, name))
    return folder


def test_it_runs_as_somebody_without_privileges(plain: Cloud) -> None:
    """Otherwise the tests below would show what others show already."""
    records = [json.loads(path.read_text()) for path in (plain.home / "instances").glob("*/machine.json")]
    assert {record["mode"] for record in records} == {"plain"}
    status = Path(f"/proc/{plain.server_pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    checks = {check["name"]: check["ok"] for check in json.loads(plain.dumont("doctor", "--json"))}
    assert checks["server"]
    assert not checks["jail"]


def test_a_killed_machine_is_replaced_and_nothing_acknowledged_is_lost(plain: Cloud) -> None:
    """Most people try it like this first."""
    before = plain.settle()
    plain.kill(before.primary)
    after = plain.until("a promotion", lambda shown: serves(shown, before.epoch + 1), 45)
    assert after.primary != before.primary
    assert plain.lost() == []
    plain.settle()
    assert plain.lost() == []


def test_an_instance_holds_nothing_of_its_users_secrets(plain: Cloud) -> None:
    """Without a jail there is only the environment to keep clean (I7): no home of the server's is named in it."""
    told = plain.ssh("env").stdout.decode()
    assert "DUMONT_HOME" not in told
    assert f"DUMONT_WORKSPACE={NAME}" in told
    assert faults.tree_of(plain.home, plain.shown().primary).is_dir()
