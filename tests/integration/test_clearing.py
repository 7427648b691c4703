"""A removed workspace's history is deleted from a real directory, by servers that are killed at every step of it."""

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dumont.control.vault import Vault
from dumont.db.sql import open_database
from dumont.errors import NotStored
from dumont.model.past import Past
from dumont.model.policy import Policy
from dumont.model.workspace import State, Workspace
from dumont.repository.hands import ThreadHand
from dumont.repository.progress import Progress
from dumont.repository.repository import read_config
from dumont.repository.saving.save import Draft, save, start_saving
from dumont.repository.upkeep.verify import Terms, verify
from dumont.store.directory import DirectoryStore
from dumont.store.prefix import PrefixStore, workspace_prefix
from tests.integration.clearer import Clearers, clearers, end_and_clear, vault_over
from tests.integration.depot import settle, started

pytestmark = pytest.mark.timeout(180)
START = datetime(2026, 1, 1, tzinfo=UTC)
KILLED = -signal.SIGKILL
STEPS_MAX = 500


@pytest.fixture(scope="module", name="all_clearers")
def _all_clearers() -> Iterator[Clearers]:
    with clearers() as all_of_them:
        yield all_of_them


@pytest.fixture
def top() -> Iterator[Path]:
    """In memory where there is some: a killed process does not care, and hundreds of fsyncs take their time."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="dt-", dir=memory if memory.is_dir() else None))
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def store_commits(vault: Vault, source: Path, count: int, seed: int) -> None:
    """Save a changing directory into the repository of the workspace `train`."""
    repo = await vault.open("train")
    rng = random.Random(seed)
    source.mkdir(exist_ok=True)
    for number in range(count):
        (source / f"{seed}-{number}").write_bytes(rng.randbytes(70_000))
        settle()
        async with started(lambda: ThreadHand(start_saving, repo.store), 1) as hands:
            await save(repo, source, Draft(time.time_ns(), path=bytes(source)), hands, Progress())


async def a_home(top: Path) -> Path:
    """A removed workspace `train` with three commits, and the new one of that name with two."""
    home = top / "home"
    (home / "store").mkdir(parents=True)
    database = await open_database(str(home / "dumont.db"))
    for generation, commits in ((1, 3), (2, 2)):
        await database.add_workspace(Workspace(name="train", created_at=START, policy=Policy()))
        vault = vault_over(home, database)
        await store_commits(vault, top / "source", commits, generation)
        if generation == 1:
            until = START + timedelta(days=30)
            await database.leave_past(Past(workspace="train", generation=1, removed_at=START, keep_until=until))
            await database.describe(replace(await database.workspace("train"), state=State.DELETED))
    await database.close()
    return home


async def check_new_one(home: Path) -> None:
    """The new workspace's history: its own two commits, whole, and nothing of the old one's."""
    database = await open_database(str(home / "dumont.db"))
    repo = await vault_over(home, database).open("train")
    found = await verify(repo, Terms(read_data=True))
    assert found.is_good, found.damage
    assert len(await repo.commits(await repo.look())) == 2
    await database.close()


async def is_whole(home: Path) -> bool | None:
    """Whether the old history is all there; None when it can't be taken for a repository at all."""
    store = DirectoryStore(home / "store")
    try:
        await read_config(PrefixStore(store, workspace_prefix("train")))
    except NotStored:
        return None
    repo = await Vault(store, bytes(range(32)), os.urandom).open("train")  # by its name alone: the first one's place
    found = await verify(repo, Terms(read_data=True))
    return found.is_good and len(await repo.commits(await repo.look())) == 3


async def walk_through(home: Path, all_clearers: Clearers, store: str) -> list[bool | None]:
    """What is found of the old history after a death before each change of the disk; then the work is ended."""
    found = []
    for at in range(1, STEPS_MAX):
        work = home.with_name("work")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(home, work)
        status = all_clearers.run(work, at, store)
        if status == 0:
            break
        assert status == KILLED
        found.append(await is_whole(work))
        if store == "directory":
            await end_and_clear(work)
            await check_ended(work)
            if at % 4 == 1:
                await check_new_one(work)
    return found


async def check_ended(home: Path) -> None:
    """Nothing is left of the old history, no folder either, and nobody is told of it any more."""
    assert sorted(path.name for path in (home / "store" / "workspaces").iterdir()) == ["train.2"]
    database = await open_database(str(home / "dumont.db"))
    assert await database.pasts() == []
    told = [event for event in await database.events("train") if event.kind == "history_deleted"]
    assert told and all(event.facts["history"] == "train" for event in told)
    await database.close()


async def test_a_deletion_killed_at_any_step_is_never_half_a_repository_and_is_ended_by_the_next(
    top: Path, all_clearers: Clearers
) -> None:
    """Half of a history that opens would be restored by somebody; and what nobody ends is paid for for ever."""
    home = await a_home(top)
    found = await walk_through(home, all_clearers, "directory")
    assert found[0] is True, "nothing is touched before it is decided"
    assert len(found) > 10 and set(found[1:]) == {None}
    await end_and_clear(home)
    await check_ended(home)
    await check_new_one(home)


async def test_were_the_config_deleted_last_half_a_repository_would_open(top: Path, all_clearers: Clearers) -> None:
    """The negative control: the same deaths, with a driver that says that the config is deleted before it is."""
    found = await walk_through(await a_home(top), all_clearers, "tardy")
    assert False in found


async def test_by_its_name_alone_a_new_workspace_would_go_on_in_the_old_ones_history(top: Path) -> None:
    """The negative control of folders: without generations, what is deleted would be the new one's only copy, too."""
    home = await a_home(top)
    store = DirectoryStore(home / "store")
    repo = await Vault(store, bytes(range(32)), os.urandom).open("train")
    assert len(await repo.commits(await repo.look())) == 3
    await end_and_clear(home)
    assert not [key async for key in store.keys(workspace_prefix("train"))]
    await check_new_one(home)


async def test_what_is_deleted_is_gone_from_the_disk_and_told_with_its_size(top: Path) -> None:
    """Room on the disk is what it is for."""
    home = await a_home(top)
    old = [path for path in (home / "store/workspaces/train").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in old)
    await end_and_clear(home)
    database = await open_database(str(home / "dumont.db"))
    (event,) = [event for event in await database.events("train") if event.kind == "history_deleted"]
    assert (event.facts["objects"], event.facts["freed_bytes"]) == (len(old), size)
    await database.close()


async def test_a_folder_that_still_holds_something_stays(tmp_path: Path) -> None:
    """What is no object of ours, a person has put there."""
    store = DirectoryStore(tmp_path)
    await store.put("workspaces/train/packs/aa/one", b"1")
    await store.put("workspaces/other/one", b"1")
    (tmp_path / "workspaces/train/.note").write_text("mine")
    await store.delete("workspaces/train/packs/aa/one")
    await store.drop_folders("workspaces/train/")
    assert sorted(path.name for path in (tmp_path / "workspaces").rglob("*")) == [".note", "one", "other", "train"]
    await store.put("workspaces/train/packs/aa/two", b"2")
    assert await store.get("workspaces/train/packs/aa/two") == b"2", "its folders are made anew"
    await store.drop_folders("workspaces/nothing/")
