"""One workspace, one key: whoever names or verifies a chunk does it under the workspace's key, or it is refused."""

import os
from pathlib import Path

import pytest

from dumont.agent.boot import RunDir
from dumont.agent.source import LiveSource
from dumont.demo.walker import describe, differences
from dumont.errors import Corrupt
from dumont.snapshot.chunk import NO_KEY, chunk_id
from dumont.snapshot.disk import Limits, WorkspaceDisk
from dumont.snapshot.live import LiveTree
from dumont.wire.stream import Blob
from tests.integration.author import Author, follow, journal

KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture
def author(tmp_path: Path) -> Author:
    root = tmp_path / "primary"
    root.mkdir()
    (root / "large").write_bytes(os.urandom(2**20 + 5))
    (root / "small").write_bytes(b"content")
    return Author(root, KEY)


def disk_of(top: Path, key: bytes = KEY) -> WorkspaceDisk:
    return WorkspaceDisk(top / "standby", top / "data", Limits(segment_bytes=2**20), key=key)


async def nowhere(chunk: bytes, data: bytes) -> None:
    pass


async def test_primary_and_standby_agree_under_a_key(author: Author, tmp_path: Path) -> None:
    """Journaling, building, changing in place, renaming, and reading everything again after a restart."""
    disk = disk_of(tmp_path)
    await disk.load()
    await follow(disk, author)
    with (author.root / "large").open("r+b") as file:
        file.seek(300_000)
        file.write(b"changed")
    (author.root / "small").rename(author.root / "renamed")
    (author.root / "part").write_bytes((author.root / "large").read_bytes()[: 2**18])
    message = await follow(disk, author)
    assert differences(describe(author.root), describe(tmp_path / "standby")) == []
    await disk.close()
    os.utime(tmp_path / "standby" / "large", ns=(1, (author.root / "large").stat().st_mtime_ns))
    again = disk_of(tmp_path)
    assert (await again.load()).head == message.commit
    await again.close()


async def test_a_tree_that_was_torn_is_mended_under_the_key(author: Author, tmp_path: Path) -> None:
    """Mending takes blocks from the tree and from the journal, and verifies each."""
    disk = disk_of(tmp_path)
    await disk.load()
    await follow(disk, author)
    body = bytearray((author.root / "large").read_bytes())
    body[-5:] = b"after"
    (author.root / "large").write_bytes(body)
    blobs, message = author.commit()
    await journal(disk, blobs, message)
    await disk.close()
    (tmp_path / "standby" / "small").unlink()
    (tmp_path / "standby" / "small").symlink_to("nowhere")
    (tmp_path / "standby" / "stray").write_bytes(b"content")
    again = disk_of(tmp_path)
    assert (await again.load()).head == message.commit
    assert differences(describe(author.root), describe(tmp_path / "standby")) == []
    await again.close()


@pytest.mark.parametrize("wrong", [OTHER, NO_KEY])
async def test_a_blob_under_another_key_is_refused(author: Author, tmp_path: Path, wrong: bytes) -> None:
    """A chunk of another workspace, even one whose bytes are known, is nothing here."""
    disk = disk_of(tmp_path)
    await disk.load()
    with pytest.raises(Corrupt):
        await disk.blob(Blob(chunk_id(b"data", wrong), b"data"))
    await disk.blob(Blob(chunk_id(b"data", KEY), b"data"))
    await disk.close()


async def test_a_disk_under_another_key_does_not_claim_the_head(author: Author, tmp_path: Path) -> None:
    """It can't tell that what is there is what was committed. The negative control of the first test."""
    disk = disk_of(tmp_path)
    await disk.load()
    await follow(disk, author)
    await disk.close()
    for path in (tmp_path / "standby").iterdir():
        os.utime(path, ns=(1, (author.root / path.name).stat().st_mtime_ns))
    again = disk_of(tmp_path, OTHER)
    assert (await again.load()).head is None
    await again.close()


async def test_a_live_tree_names_chunks_under_its_key(author: Author, short_dir: Path) -> None:
    """Whether they were copied or grabbed; and the source of a primary hands its key on."""
    author.commit()
    wanted = author.tree.get(b"large")
    live = LiveTree(author.root, key=KEY)
    assert (await live.copy(b"large", nowhere)).entry == wanted
    assert (await live.digest(await live.grab([b"large"], 2**22), nowhere))[0].entry == wanted
    live.close()
    source = await LiveSource.open(RunDir(short_dir), author.root, key=KEY)
    assert (await source.copy(b"large", nowhere)).entry == wanted
    source.close()
