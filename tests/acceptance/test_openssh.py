"""The workspace's one address, with the programs of OpenSSH and Debian, before a failover and after it."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.cloud import NAME, Cloud, Clouds

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        not all(map(shutil.which, ("ssh", "scp", "sftp", "rsync"))), reason="apt-get install openssh-client rsync"
    ),
]

ALIAS = f"{NAME}.dumont"
PAYLOAD_BYTES = 6 * 2**20 + 17
TREE = {"a/b/c.txt": b"deep", "a/empty": b"", "name with spaces \xe9": b"x" * 70_000}


@dataclass
class Desk:
    """A user's desk: the cloud, a directory with something to copy, and what programs have to say nothing about."""

    cloud: Cloud
    path: Path

    @property
    def payload(self) -> Path:
        return self.path / "payload"

    @property
    def options(self) -> list[str]:
        """Strict, and loud: with the level that `ssh-config` sets, a warning would not be seen."""
        return ["-F", str(self.cloud.config), "-o", "LogLevel=INFO", "-o", "StrictHostKeyChecking=yes"]

    def do(self, *argv: str, stdin: bytes = b"") -> bytes:
        """Run a program; its output. It must end with 0, and complain of nothing."""
        done = self.cloud.run(list(argv), stdin, seconds=60)
        assert (done.returncode, done.stderr) == (0, b""), f"{argv} ended with {done.returncode}: {done.stderr!r}"
        return done.stdout

    def there(self, name: str) -> str:
        """The SHA-256 of a file in the workspace."""
        return self.do("ssh", *self.options, ALIAS, f"sha256sum {name}").split()[0].decode()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("desk")
    (path / "payload").write_bytes(os.urandom(PAYLOAD_BYTES))
    for name, content in TREE.items():
        file = path / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


@pytest.fixture(scope="module", params=["before", "after"])
def desk(clouds: Clouds, table: Path, request: pytest.FixtureRequest) -> Desk:
    """`after`: the machine that everything was copied to is dead, and another one answers."""
    cloud = clouds.whole()
    if request.param == "after":
        assert cloud.ssh("echo acknowledged > kept").returncode == 0
        assert "ok" in cloud.dumont("sync", NAME, "--json")
        cloud.fail_over()
        assert cloud.ssh("cat kept").stdout == b"acknowledged\n"
    return Desk(cloud, table)


def test_ssh_passes_output_input_and_status_on(desk: Desk) -> None:
    """Scripts live on the exit status; a program's output must not end where the connection happens to."""
    content = desk.payload.read_bytes()
    desk.do("ssh", *desk.options, ALIAS, "cat > through-ssh", stdin=content)
    assert desk.there("through-ssh") == digest(content)
    assert digest(desk.do("ssh", *desk.options, ALIAS, "cat through-ssh")) == digest(content)
    for status in (1, 7, 255):
        assert desk.cloud.ssh(f"exit {status}").returncode == status
    assert desk.cloud.ssh("kill -9 $$").returncode != 0
    done = desk.cloud.run(["ssh", *desk.options, ALIAS, "echo out; echo err >&2; exit 3"])
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out\n", b"err\n")


@pytest.mark.parametrize("protocol", [[], ["-O"]], ids=["sftp protocol", "scp protocol"])
def test_scp_copies_whole_files_both_ways(desk: Desk, protocol: list[str]) -> None:
    """The old protocol runs a program at the far end, the new one a subsystem: both are in use."""
    back = desk.path / "back"
    desk.do("scp", *protocol, *desk.options, str(desk.payload), f"{ALIAS}:through-scp")
    desk.do("scp", *protocol, *desk.options, f"{ALIAS}:through-scp", str(back))
    assert desk.there("through-scp") == digest(desk.payload.read_bytes()) == digest(back.read_bytes())


def test_sftp_takes_a_batch(desk: Desk) -> None:
    """Each line of a batch must succeed, or sftp ends with 1."""
    back = desk.path / "from-sftp"
    batch = f"mkdir box\nput {desk.payload} box/in\nrename box/in box/out\nchmod 600 box/out\nget box/out {back}\n"
    batch += "ls -l box\nrm box/out\nrmdir box\n"
    listed = desk.do("sftp", "-q", *desk.options, "-b", "-", ALIAS, stdin=batch.encode())
    assert b"-rw-------" in listed
    assert digest(back.read_bytes()) == digest(desk.payload.read_bytes())


def test_rsync_copies_a_tree_and_then_nothing(desk: Desk) -> None:
    """The second run finds sizes and times as it left them; otherwise it would copy all again."""
    shell = " ".join(["ssh", *desk.options])
    copy = ["rsync", "-a", "--delete", "--itemize-changes", "-e", shell]
    desk.do(*copy, f"{desk.path}/tree/", f"{ALIAS}:tree/")
    assert desk.do(*copy, f"{desk.path}/tree/", f"{ALIAS}:tree/") == b""
    desk.do(*copy, f"{ALIAS}:tree/", f"{desk.path}/tree-back/")
    assert {name: (desk.path / "tree-back" / name).read_bytes() for name in TREE} == TREE


def test_a_port_is_forwarded(desk: Desk) -> None:
    """TensorBoard and notebooks are reached like this."""
    near, far = free_port(), free_port()
    serve = f"{sys.executable} -m http.server {far} --bind 127.0.0.1 --directory tree"
    forward = ["-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{near}:127.0.0.1:{far}"]
    desk.do("scp", "-r", *desk.options, f"{desk.path}/tree", f"{ALIAS}:")
    with subprocess.Popen(
        ["ssh", "-tt", *desk.options, *forward, ALIAS, serve], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    ) as client:  # fmt: skip
        try:
            assert fetch(f"http://127.0.0.1:{near}/a/b/c.txt") == TREE["a/b/c.txt"]
        finally:
            client.terminate()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(url: str, seconds: float = 20.0) -> bytes:
    give_up = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                content: bytes = answer.read()
                return content
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < give_up, f"{url} does not answer"
            time.sleep(0.1)
