"""What a process of its own prepares while the program imports: a passphrase stretched, for a repository to be made."""

import argparse
import os
from pathlib import Path

import pytest

from dumont.errors import WrongKey
from dumont.repository.keys import SECRET_BYTES, is_whole, unwrap, wrap_with_passphrase
from dumont.standalone.early import Stretching, begin


def options(verb: str, repo: Path) -> argparse.Namespace:
    return argparse.Namespace(
        verb=verb, repo=str(repo), passphrase_file="", insecure_no_passphrase=False, key_file="", path="."
    )


def test_a_slot_made_ahead_is_as_strong_and_opens_like_any_other():
    """Only the moment differs: its costs, salt and proof must not."""
    secret = os.urandom(SECRET_BYTES)
    ahead = Stretching(b"a passphrase").wrap(secret)
    plain = wrap_with_passphrase(secret, b"a passphrase", os.urandom(16))
    assert ahead is not None and is_whole(ahead, secret)
    assert unwrap(ahead, b"a passphrase") == secret
    assert (ahead.kind, ahead.memory_kib, ahead.passes, ahead.lanes) == (
        plain.kind,
        plain.memory_kib,
        plain.passes,
        plain.lanes,
    )
    with pytest.raises(WrongKey):
        unwrap(ahead, b"another passphrase")


def test_no_two_slots_share_a_salt():
    """The wrapping nonce is always zero, so that one stretched key must never wrap two secrets."""
    slots = [Stretching(b"a passphrase").wrap(os.urandom(SECRET_BYTES)) for _ in range(2)]
    assert slots[0] and slots[1] and slots[0].salt != slots[1].salt


def test_only_a_save_into_a_place_without_a_repository_prepares_one(tmp_path: Path):
    """Elsewhere it would be 60 ms of a processor for nothing."""
    environment = {"DUMONT_PASSPHRASE": "a passphrase", "DUMONT_CACHE": str(tmp_path / "cache")}
    assert isinstance(begin(options("save", tmp_path / "new"), environment), Stretching)
    assert begin(options("restore", tmp_path / "new"), environment) is None
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config").write_bytes(b"whatever")
    assert begin(options("save", tmp_path / "old"), environment) is None


def test_a_bucket_that_was_never_opened_is_taken_for_a_new_one(tmp_path: Path):
    """Whether there is a repository takes a request to find out, and stretching takes longer than that."""
    environment = {"DUMONT_PASSPHRASE": "a passphrase", "DUMONT_CACHE": str(tmp_path / "cache")}
    bucket = options("save", tmp_path)
    bucket.repo = "s3://bucket/prefix"
    assert isinstance(begin(bucket, environment), Stretching)
    bucket.verb = "restore"
    assert begin(bucket, environment) is None
