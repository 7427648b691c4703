"""Addresses of stores, the accounts behind them, and opening a directory."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dumont.errors import BadInput, StoreError
from dumont.store.account import read_account
from dumont.store.address import Address, Scheme, parse
from dumont.store.base import Store
from dumont.store.directory import DirectoryStore
from dumont.store.memory import MemoryStore
from dumont.store.opening import open_store

KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket", Address(Scheme.S3, bucket="bucket")),
        ("s3://bucket/", Address(Scheme.S3, bucket="bucket")),
        ("S3://bucket/a/b/", Address(Scheme.S3, bucket="bucket", prefix="a/b")),
        ("r2://my-bucket/a", Address(Scheme.R2, bucket="my-bucket", prefix="a")),
        ("b2://my.bucket", Address(Scheme.B2, bucket="my.bucket")),
        ("gs://bucket_1/x", Address(Scheme.GS, bucket="bucket_1", prefix="x")),
        ("az://container/x", Address(Scheme.AZ, bucket="container", prefix="x")),
        ("file:///srv/store", Address(Scheme.FILE, path=Path("/srv/store"))),
        ("file://localhost/srv/store", Address(Scheme.FILE, path=Path("/srv/store"))),
        ("/srv/store", Address(Scheme.FILE, path=Path("/srv/store"))),
        ("./a:b", Address(Scheme.FILE, path=Path("a:b"))),
        ("store/with space", Address(Scheme.FILE, path=Path("store/with space"))),
    ],
)
def test_an_address_says_where_a_store_lies(text: str, expected: Address) -> None:
    """One notation for every kind of store."""
    assert parse(text) == expected
    if expected.scheme is not Scheme.FILE:
        assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "address of a store is missing"),
        ("  ", "address of a store is missing"),
        ("ftp://host/x", "ftp: is no kind of store"),
        ("https://s3.amazonaws.com/bucket", "https: is no kind of store"),
        ("backup:daily", r"written \./backup:daily"),
        ("s3:bucket/x", "lacks the //"),
        ("s3://", "is not the name of a bucket"),
        ("s3:///x", "is not the name of a bucket"),
        ("s3://Bucket", "is not the name of a bucket"),
        ("s3://key:secret@bucket/x", "come from the environment"),
        ("s3://host:9000/bucket", "come from the environment"),
        ("s3://bucket/a//b", "can't begin the keys"),
        ("s3://bucket/../x", "can't begin the keys"),
        ("s3://bucket/é", "can't begin the keys"),
        ("file://host/srv", "another machine"),
        ("file://srv/x", "another machine"),
        ("a\0b", "address of a store is missing"),
    ],
)
def test_nonsense_is_refused_in_words(text: str, words: str) -> None:
    """A mistyped address must not become a directory of that name, or somebody else's bucket."""
    with pytest.raises(BadInput, match=words):
        parse(text)


@pytest.mark.parametrize(
    ("address", "environment", "expected"),
    [
        ("s3://bucket", KEYS, {"region": "us-east-1", "access_key_id": "id", "secret_access_key": "secret"}),
        ("s3://bucket", {**KEYS, "AWS_DEFAULT_REGION": "sa-east-1"}, {"region": "sa-east-1"}),
        ("s3://bucket", {**KEYS, "AWS_SESSION_TOKEN": "t"}, {"session_token": "t"}),
        ("s3://bucket", {**KEYS, "AWS_ENDPOINT_URL": "https://x/"}, {"endpoint": "https://x"}),
        ("s3://bucket", {**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, {"endpoint": "http://127.0.0.1:9"}),
        ("r2://bucket", {**KEYS, "R2_ACCOUNT_ID": "acc"}, {"endpoint": "https://acc.r2.cloudflarestorage.com"}),
        (
            "r2://bucket",
            {**KEYS, "R2_ACCOUNT_ID": "acc", "R2_ACCESS_KEY_ID": "own", "R2_SECRET_ACCESS_KEY": "s"},
            {"access_key_id": "own", "region": "auto"},
        ),
        (
            "r2://bucket",
            {**KEYS, "R2_ACCOUNT_ID": "acc", "AWS_ENDPOINT_URL_S3": "https://minio"},
            {"aws_endpoint_url_s3": "https://acc.r2.cloudflarestorage.com"},
        ),
        ("b2://bucket", {**KEYS, "B2_REGION": "us-west-004"}, {"endpoint": "https://s3.us-west-004.backblazeb2.com"}),
        (
            "b2://bucket",
            {**KEYS, "B2_ENDPOINT_URL": "s3.eu-central-003.backblazeb2.com"},
            {"region": "eu-central-003", "endpoint": "https://s3.eu-central-003.backblazeb2.com"},
        ),
        ("gs://bucket", {}, {}),
        ("az://container", {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "k"}, {"account_key": "k"}),
    ],
)
def test_an_account_comes_from_the_usual_variables(
    address: str, environment: dict[str, str], expected: dict[str, str]
) -> None:
    """Whoever uses another tool with that service has them set already."""
    assert read_account(parse(address), environment).config.items() >= expected.items()


@pytest.mark.parametrize(
    ("address", "environment", "words"),
    [
        ("s3://bucket", {"AWS_ACCESS_KEY_ID": "id"}, "AWS_SECRET_ACCESS_KEY in the environment, both"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "https://minio"}, "needs AWS_ACCESS_KEY_ID"),
        ("s3://bucket", {**KEYS, "AWS_ENDPOINT_URL": "http://10.0.0.1"}, "is not encrypted"),
        ("s3://bucket", {**KEYS, "AWS_ENDPOINT_URL": "ftp://x"}, "is no endpoint"),
        ("s3://bucket", {**KEYS, "AWS_ENDPOINT_URL": "https://[x"}, "is no endpoint"),
        ("r2://bucket", KEYS, "needs R2_ACCOUNT_ID"),
        ("r2://bucket", {"R2_ACCOUNT_ID": "acc"}, "needs R2_ACCESS_KEY_ID"),
        ("b2://bucket", KEYS, "needs B2_REGION"),
        ("gs://bucket", {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"}, "which is no file"),
        ("az://container", {}, "needs AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)
def test_what_an_account_lacks_is_named(address: str, environment: dict[str, str], words: str) -> None:
    """A service would say only 403, after minutes of trying."""
    with pytest.raises(BadInput, match=words):
        read_account(parse(address), environment)


def test_plain_http_elsewhere_is_allowed_to_who_asks_for_it() -> None:
    """A store in one's own rack."""
    environment = {**KEYS, "AWS_ENDPOINT_URL": "http://10.0.0.1:9000", "AWS_ALLOW_HTTP": "true"}
    assert read_account(parse("s3://bucket"), environment).allow_http


def test_an_account_does_not_show_its_secret() -> None:
    """Records end up in logs."""
    assert "secret" not in repr(read_account(parse("s3://bucket"), {**KEYS, "AWS_SECRET_ACCESS_KEY": "the-secret"}))


def _no_cloud(address: Address) -> Store:
    raise AssertionError(f"{address} is no bucket")


async def test_a_directory_is_made_only_when_asked_for(tmp_path: Path) -> None:
    """A mistyped path would look like an empty store."""
    address = parse(str(tmp_path / "new" / "store"))
    with pytest.raises(BadInput, match="does not exist"):
        open_store(address, False, _no_cloud)
    store = open_store(address, True, _no_cloud)
    await store.put("a", b"one")
    assert stat.S_IMODE((tmp_path / "new" / "store").stat().st_mode) == 0o700
    assert await open_store(address, False, _no_cloud).get("a") == b"one"


def test_a_file_is_no_store(tmp_path: Path) -> None:
    """Whether it is to be made or not."""
    (tmp_path / "file").write_bytes(b"")
    for create in (False, True):
        with pytest.raises(BadInput, match="is no directory"):
            open_store(parse(str(tmp_path / "file")), create, _no_cloud)
    with pytest.raises((BadInput, StoreError)):
        open_store(parse(str(tmp_path / "file" / "below")), True, _no_cloud)


def test_a_bucket_is_opened_by_the_driver_that_was_given() -> None:
    """Its import is slow, so that only the composition root names it."""
    store = MemoryStore()
    assert open_store(parse("s3://bucket"), False, lambda _: store) is store


def test_a_directory_store_opens_without_the_drivers_of_buckets(tmp_path: Path) -> None:
    """A command that reads one snapshot from a disk should not wait for a library it does not use."""
    program = (
        "import sys; from dumont.store.address import parse; from dumont.store.opening import open_directory\n"
        f"open_directory(parse({str(tmp_path)!r}), False)\n"
        "print('obstore' in sys.modules)"
    )
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
    assert isinstance(open_store(parse(str(tmp_path)), False, _no_cloud), DirectoryStore)


@pytest.mark.parametrize(
    ("endpoint", "said", "unsigned"),
    [
        ("", "", "true"),
        ("https://s3.example.net", "", "true"),
        ("http://127.0.0.1:8333", "", "true"),
        ("http://192.0.2.7:8333", "", "false"),
        ("http://192.0.2.7:8333", "true", "true"),
        ("https://s3.example.net", "false", "false"),
        ("https://s3.example.net", "FALSE", "false"),
    ],
)
def test_a_signature_covers_the_body_only_where_nothing_else_guards_it_on_its_way(
    endpoint: str, said: str, unsigned: str
) -> None:
    """TLS guards it already, at a fraction of the cost; over plain HTTP a changed body would be stored and believed."""
    environment = {**KEYS, "AWS_ALLOW_HTTP": "true", "AWS_ENDPOINT_URL": endpoint, "AWS_UNSIGNED_PAYLOAD": said}
    account = read_account(parse("s3://bucket"), {name: value for name, value in environment.items() if value})
    assert account.config["unsigned_payload"] == unsigned
