"""What a local instance sees: its own disk and boot file, Python, and in a jail nothing else of the machine."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import dumont
from dumont.provider.command import run
from dumont.provider.jail import Mode
from dumont.provider.local import LocalProvider
from tests.integration.landlord import JAILED, MODES, SOURCE, landlord, rent, require, until

# An instance that writes down what it sees, then goes on.
WITNESS = """
import json, os, pathlib, sys, time
def can_write(folder):
    try:
        path = pathlib.Path(folder) / f"written-{os.getpid()}"
        path.touch()
        path.unlink()
        return True
    except OSError:
        return False
boot = json.loads((pathlib.Path(sys.argv[1]) / "boot.json").read_text())
seen = {
    "pid": os.getpid(),
    "boot": boot,
    "environment": dict(os.environ),
    "cwd": os.getcwd(),
    "writable": {folder: can_write(folder) for folder in (boot["workspace_dir"], boot["data_dir"], "/usr", "/etc")},
    "processes": [name for name in os.listdir("/proc") if name.isdecimal()],
}
one = pathlib.Path(boot["data_dir"]) / "one"
one.touch()
one.rename(pathlib.Path(boot["workspace_dir"]) / "one")
out = pathlib.Path(sys.argv[1]) / "seen.new"
out.write_text(json.dumps(seen))
out.rename(pathlib.Path(sys.argv[1]) / "seen.json")
time.sleep(1000)
"""


async def seen_by(provider: LocalProvider, label: str) -> dict[str, object]:
    file = provider.home / "instances" / label / "root/run/dumont/seen.json"
    await until(file.exists, f"{label} wrote down what it sees")
    return dict(json.loads(file.read_text()))


@MODES
async def test_an_instance_finds_its_boot_file_and_directories(short_dir: Path, mode: Mode) -> None:
    """The paths in `boot.json` are those that the instance itself sees; both directories are one file system."""
    async with landlord(short_dir, mode, (sys.executable, "-c", WITNESS)) as provider:
        machine = await rent(provider, "gpu-1")
        seen = await seen_by(provider, "gpu-1")
        told = seen["boot"]
        assert isinstance(told, dict)
        assert (told["instance_id"], told["machine"], told["host"]) == ("gpu-1", "gpu", machine.host)
        assert (told["server_host"], told["server_port"]) == (provider.server_host, 4000)
        assert (told["ca_pem"], told["join_token"]) == ("certificate", "token")
        assert seen["cwd"] == told["workspace_dir"]
        assert seen["writable"][told["workspace_dir"]]  # type: ignore[index]
        assert seen["writable"][told["data_dir"]]  # type: ignore[index]
        assert (short_dir / "instances/gpu-1/root/workspace/one").exists()
        assert stat.S_IMODE((short_dir / "instances/gpu-1/root/run/dumont/boot.json").stat().st_mode) == 0o600


@MODES
async def test_an_instance_gets_nothing_of_the_servers_environment(
    short_dir: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts are strangers (I7): the operator's keys are in the server's environment."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with landlord(short_dir, mode, (sys.executable, "-c", WITNESS)) as provider:
        await rent(provider, "gpu-1")
        seen = await seen_by(provider, "gpu-1")
        assert "AWS_SECRET_ACCESS_KEY" not in seen["environment"]  # type: ignore[operator]


@JAILED
async def test_a_jail_shows_only_the_instance_itself(short_dir: Path, mode: Mode) -> None:
    """Neither the host's files to write to, nor its processes, nor anything of the home: keys, database, neighbours."""
    prying = WITNESS.replace('"/usr", "/etc"', f'"/usr", "/etc", {str(short_dir)!r}')
    async with landlord(short_dir, mode, (sys.executable, "-c", prying)) as provider:
        await rent(provider, "gpu-1")
        seen = await seen_by(provider, "gpu-1")
        assert seen["pid"] == 2
        assert seen["processes"] == ["1", "2"]
        writable = seen["writable"]
        assert isinstance(writable, dict)
        assert [writable[folder] for folder in ("/usr", "/etc", str(short_dir))] == [False, False, False]


@JAILED
async def test_the_home_is_masked_where_the_rest_of_the_host_is_shown(mode: Mode) -> None:
    """A home under /root or /home lies in the middle of what is shown read-only; Python may even lie inside of it."""
    home = Path("/var/lib") / f"dumont-test-{os.getpid()}"
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a home outside of /tmp")
    looking = f"""
import json, os, sys, time
open(sys.argv[1] + "/seen.json", "w").write(json.dumps(os.listdir({str(home)!r})))
time.sleep(1000)
"""
    home.mkdir()
    async with landlord(home, mode, (sys.executable, "-c", looking)) as provider:
        (home / "keys").mkdir()
        await rent(provider, "gpu-1")
        file = home / "instances/gpu-1/root/run/dumont/seen.json"
        await until(lambda: file.exists() and file.stat().st_size > 0, "it looked")
        assert json.loads(file.read_text()) == []


LOOKS_AFTER_ITSELF = """
import asyncio, sys
from pathlib import Path
from dumont.provider.base import Boot
from dumont.provider.jail import Mode
from dumont.provider.local import OFFERS, LocalProvider

async def main():
    agent = (sys.executable, "-c", "import dumont, time; print(dumont.__version__, flush=True); time.sleep(1000)")
    provider = await LocalProvider.open(Path(sys.argv[1]), Mode.JAIL, agent)
    boot = Boot(instance_id="gpu-1", server_host="", server_port=0, ca_pem="", join_token="")
    machine = await provider.rent(OFFERS[0], "gpu-1", boot)
    for _ in range(500):
        if said := Path(machine.facts["log"]).read_text():
            break
        await asyncio.sleep(0.01)
    await provider.dismantle()
    print(said)

asyncio.run(main())
"""


async def test_python_stays_readable_also_when_it_lies_under_the_home(short_dir: Path) -> None:
    """`~/.dumont/venv` is a likely place for it, and masking the home must not mask the agent itself."""
    await require(Mode.JAIL, short_dir)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", short_dir / "venv"], check=True)
    answer = await run(
        ("env", f"PYTHONPATH={SOURCE}", str(short_dir / "venv/bin/python"), "-c", LOOKS_AFTER_ITSELF, str(short_dir))
    )
    assert answer.strip() == dumont.__version__
