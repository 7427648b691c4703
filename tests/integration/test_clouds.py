"""`providers.toml`: what a person set there stays, whatever command writes it next."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dumont.client.clouds import FILE, Clouds, ServerAddress, VastAccount, read_clouds, write_clouds
from dumont.errors import BadInput


def test_another_account_leaves_the_limits_that_were_set(tmp_path: Path) -> None:
    """Somebody who switched the dead man's switch off must not find it on again, with a machine gone."""
    server = ServerAddress("old.example.org", ("10.0.0.1",), join_within_min=90.0, orphan_after_h=0.0)
    write_clouds(tmp_path, Clouds(server=server, vast=VastAccount()))
    words = [
        "provider",
        "add",
        "gce",
        "--project",
        "acme",
        "--zone",
        "us-central1-a",
        "--server-host",
        "new.example.org",
    ]
    url = ["--server-host", "new.example.org", "--url", "http://127.0.0.1:1"]
    environment = {**os.environ, "DUMONT_HOME": str(tmp_path), "LANG": "C.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-m", "dumont.main", *words, *url], env=environment, capture_output=True, check=False
    )
    clouds = read_clouds(tmp_path)
    assert clouds.gce is not None, done.stderr
    assert clouds.server == ServerAddress("new.example.org", ("10.0.0.1",), join_within_min=90.0, orphan_after_h=0.0)


def test_a_limit_is_a_time_and_its_default_is_on(tmp_path: Path) -> None:
    """Whoever never heard of it is protected from a bill without an end."""
    (tmp_path / FILE).write_text('[server]\nhost = "h"\n')
    server = read_clouds(tmp_path).server
    assert server is not None and (server.join_within_min, server.orphan_after_h) == (30.0, 24.0)
    (tmp_path / FILE).write_text('[server]\nhost = "h"\norphan_after_h = -1\n')
    with pytest.raises(BadInput, match="orphan_after_h"):
        read_clouds(tmp_path)
