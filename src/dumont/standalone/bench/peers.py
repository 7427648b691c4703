"""The peers, one driver each: how restic, borg, tar, rclone, cp and we ourselves save and restore a tree.

Each runs as a whole process with a repository, cache and configuration of its own below one place. restic, borg and we
encrypt with a passphrase; tar, rclone and cp do not encrypt, and the table says so.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dumont.standalone.bench.timing import Command, PeerFailed, run

PASSPHRASE = "a passphrase of the bench"
OURS, RESTIC, BORG, TAR, RCLONE, CP = "dumont", "restic", "borg", "tar_lz4", "rclone", "cp"


@dataclass(frozen=True)
class Bucket:
    """A place in an S3 server: URL of the server, the bucket, and the key that may write it."""

    endpoint: str
    name: str
    access_key: str
    secret_key: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What S3 clients read. Ours (obstore) wants to be told that plain HTTP is meant.

        Clients that can be told so sign no hash of the body, as they would not over HTTPS, which real stores have.
        """
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
            "AWS_UNSIGNED_PAYLOAD": "true",
        }


@dataclass(frozen=True)
class Place:
    """Where one bout happens: a directory of its own, and a bucket when the repository lies in S3."""

    root: Path
    bucket: Bucket | None = None

    @property
    def repository(self) -> Path:
        """The repository, when it is a directory."""
        return self.root / "repository"

    @property
    def cache(self) -> Path:
        """What the tool may keep beside it; as fresh as the repository."""
        return self.root / "cache"

    @property
    def target(self) -> Path:
        """An empty directory to restore into."""
        return self.root / "restored"

    def command(
        self, words: list[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> Command:
        """`words`, with the bucket's keys in the environment."""
        keys = self.bucket.environment if self.bucket else {}
        return Command(words, {**keys, **(environment or {})}, folder)


class Peer(Protocol):
    """A tool that saves a tree and restores it.

    `version` raises PeerFailed when the tool is missing. `prepare` is not timed. `save` may be run again on the same
    repository when `incremental`. `restore` leaves the tree at `place.target`.
    """

    name: str
    encrypts: bool
    incremental: bool

    def version(self) -> str: ...

    def prepare(self, place: Place) -> None: ...

    def save(self, tree: Path, place: Place) -> Command: ...

    def restore(self, place: Place) -> Command: ...


class Dumont:
    """We: `dumont snapshot`. The repository is made by the first save, whose time holds that too."""

    name, encrypts, incremental = OURS, True, True

    def version(self) -> str:
        return f"{run(Command([*_ourselves(), 'version'])).output.strip()} (python {sys.version.split()[0]})"

    def prepare(self, place: Place) -> None:
        """Nothing: the first save makes the repository."""

    def save(self, tree: Path, place: Place) -> Command:
        return self._command(place, ["save", str(tree), self._where(place), "--name", "bench", "--json"])

    def restore(self, place: Place) -> Command:
        return self._command(place, ["restore", self._where(place), str(place.target), "--json"])

    def _where(self, place: Place) -> str:
        return f"s3://{place.bucket.name}/dumont" if place.bucket else str(place.repository)

    def _command(self, place: Place, words: list[str]) -> Command:
        own = {"DUMONT_PASSPHRASE": PASSPHRASE, "DUMONT_CACHE": str(place.cache)}
        return place.command([*_ourselves(), "snapshot", *words], own)


class Restic:
    """restic with its defaults: compression `auto` (zstd), AES-256-CTR with Poly1305."""

    name, encrypts, incremental = RESTIC, True, True

    def version(self) -> str:
        return run(Command([_found("restic"), "version"])).output.strip()

    def prepare(self, place: Place) -> None:
        run(self._command(place, ["init"]))

    def save(self, tree: Path, place: Place) -> Command:
        return self._command(place, ["backup", "."], tree)

    def restore(self, place: Place) -> Command:
        return self._command(place, ["restore", "latest", "--target", str(place.target)])

    def _command(self, place: Place, words: list[str], folder: Path | None = None) -> Command:
        bucket = place.bucket
        where = f"s3:{bucket.endpoint}/{bucket.name}/restic" if bucket else str(place.repository)
        own = ["restic", "--quiet", "--repo", where, "--cache-dir", str(place.cache)]
        return place.command([*own, *words], {"RESTIC_PASSWORD": PASSPHRASE}, folder)


class Borg:
    """borg with lz4 and repokey-blake2 (AES-256-CTR with keyed BLAKE2b)."""

    name, encrypts, incremental = BORG, True, True

    def version(self) -> str:
        return run(Command([_found("borg"), "--version"])).output.strip()

    def prepare(self, place: Place) -> None:
        run(self._command(place, ["init", "--encryption", "repokey-blake2", str(place.repository)]))

    def save(self, tree: Path, place: Place) -> Command:
        archive = f"{place.repository}::{{now:%Y%m%dT%H%M%S.%f}}"
        return self._command(place, ["create", "--compression", "lz4", archive, "."], tree)

    def restore(self, place: Place) -> Command:
        listed = run(self._command(place, ["list", "--short", str(place.repository)])).output.split()
        place.target.mkdir()
        return self._command(place, ["extract", f"{place.repository}::{listed[-1]}"], place.target)

    def _command(self, place: Place, words: list[str], folder: Path | None = None) -> Command:
        own = {"BORG_PASSPHRASE": PASSPHRASE, "BORG_BASE_DIR": str(place.cache), "BORG_EXIT_CODES": "legacy"}
        return place.command(["borg", *words], own, folder)


class TarLz4:
    """`tar | lz4` to a file; with a bucket, s5cmd carries the file there and back."""

    name, encrypts, incremental = TAR, False, False

    def version(self) -> str:
        _found("tar")
        return run(Command([_found("lz4"), "--version"])).output.strip()

    def prepare(self, place: Place) -> None:
        place.repository.mkdir(parents=True)
        if place.bucket:
            _found("s5cmd")

    def save(self, tree: Path, place: Place) -> Command:
        script = 'tar -C "$1" -cf - . | lz4 -q -1 -c > "$2"'
        if place.bucket:
            script += ' && "$3" --log error cp "$2" "$4"'
        return self._script(place, script, str(tree))

    def restore(self, place: Place) -> Command:
        place.target.mkdir()
        script = 'lz4 -q -d -c "$2" | tar -C "$1" -xf -'
        if place.bucket:
            (place.repository / "tree.tar.lz4").unlink()
            script = f'"$3" --log error cp "$4" "$2" && {script}'
        return self._script(place, script, str(place.target))

    def _script(self, place: Place, script: str, folder: str) -> Command:
        words = ["bash", "-o", "pipefail", "-c", script, "bash", folder, str(place.repository / "tree.tar.lz4")]
        if not place.bucket:
            return place.command(words)
        words += [tool("s5cmd") or "s5cmd", f"s3://{place.bucket.name}/tree.tar.lz4"]
        return place.command(words, {"S3_ENDPOINT_URL": place.bucket.endpoint})


class Rclone:
    """`rclone sync`: a copy, file by file, four at a time."""

    name, encrypts, incremental = RCLONE, False, True

    def version(self) -> str:
        return run(Command([_found("rclone"), "version"])).output.splitlines()[0]

    def prepare(self, place: Place) -> None:
        place.repository.mkdir(parents=True)

    def save(self, tree: Path, place: Place) -> Command:
        return self._command(place, str(tree), self._where(place))

    def restore(self, place: Place) -> Command:
        return self._command(place, self._where(place), str(place.target))

    def _where(self, place: Place) -> str:
        return f"store:{place.bucket.name}/rclone" if place.bucket else str(place.repository)

    def _command(self, place: Place, source: str, target: str) -> Command:
        own = {"RCLONE_CONFIG": str(place.root / "rclone.conf"), "RCLONE_CACHE_DIR": str(place.cache)}
        if place.bucket:
            own |= {
                "RCLONE_CONFIG_STORE_TYPE": "s3",
                "RCLONE_CONFIG_STORE_PROVIDER": "Other",
                "RCLONE_CONFIG_STORE_ENDPOINT": place.bucket.endpoint,
                "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": place.bucket.access_key,
                "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": place.bucket.secret_key,
                "RCLONE_CONFIG_STORE_USE_UNSIGNED_PAYLOAD": "true",
            }
        return place.command([tool("rclone") or "rclone", "sync", "--quiet", source, target], own)


class Copy:
    """`cp -r`: the floor. It neither compresses, encrypts, deduplicates nor verifies."""

    name, encrypts, incremental = CP, False, False

    def version(self) -> str:
        return run(Command([_found("cp"), "--version"])).output.splitlines()[0]

    def prepare(self, place: Place) -> None:
        """Nothing is needed."""

    def save(self, tree: Path, place: Place) -> Command:
        return place.command(["cp", "-r", str(tree), str(place.repository)])

    def restore(self, place: Place) -> Command:
        return place.command(["cp", "-r", str(place.repository), str(place.target)])


_ALL: tuple[Peer, ...] = (Dumont(), Restic(), Borg(), TarLz4(), Rclone(), Copy())
PEERS: dict[str, Peer] = {peer.name: peer for peer in _ALL}


def tool(name: str) -> str | None:
    """Where a program is: beside this Python (as PyPI's packages put it) or on the PATH; None when it is nowhere."""
    beside = Path(sys.executable).parent / name
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(name)


def versions(peers: Mapping[str, Peer]) -> tuple[dict[str, str], dict[str, str]]:
    """What is here, by version, and what is missing, with the reason in words."""
    here: dict[str, str] = {}
    missing: dict[str, str] = {}
    for name, peer in peers.items():
        try:
            here[name] = peer.version()
        except PeerFailed as error:
            missing[name] = str(error)
    return here, missing


def repository_bytes(place: Place) -> int:
    """Bytes of all files of a repository that is a directory."""
    return sum(
        os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(place.repository) for name in names
    )


def _ourselves() -> list[str]:
    beside = Path(sys.executable).parent / "dumont"
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "dumont.main"]


def _found(name: str) -> str:
    where = tool(name)
    if where is None:
        raise PeerFailed(f"{name} is not installed; Debian and PyPI have it")
    return where
