"""kill -9 at every step: whatever a save, a prune or a restore was doing, nothing is lost, and the next one goes on."""

import itertools
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dumont.model.commit import CommitId
from dumont.repository.upkeep.forget import forget
from dumont.repository.upkeep.verify import Terms as Checks
from dumont.repository.upkeep.verify import Verdict, verify
from dumont.store.directory import DirectoryStore
from tests.integration.archivist import scanned
from tests.integration.depot import KEY, Depot, settle
from tests.integration.victim import SMALL_PACK_BYTES, Order, Victims, open_depot, victims

pytestmark = pytest.mark.timeout(180)
KILLED = -signal.SIGKILL
SLACK_BYTES = 2**15
KINDS = ("commits", "pending", "index", "doomed", "")
LATER_S = 90 * 24 * 3600


@pytest.fixture(scope="module", name="all_victims")
def _all_victims() -> Iterator[Victims]:
    with victims() as all_of_them:
        yield all_of_them


@pytest.fixture
def top() -> Iterator[Path]:
    """In memory where there is some: a killed process does not care, and hundreds of fsyncs take their time."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="dt-", dir=memory if memory.is_dir() else None))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def fill(source: Path, seed: int) -> None:
    """Two larger files, of which `seed` makes one, and small ones, of which it makes half."""
    rng = random.Random(seed)
    (source / "deep/er").mkdir(parents=True, exist_ok=True)
    (source / f"large-{seed}").write_bytes(rng.randbytes(1_400_000))
    for number in range(6):
        (source / "deep" / f"{seed}-{number}").write_bytes(rng.randbytes(20_000 * number))
    (source / "deep/er/changes").write_bytes(rng.randbytes(100_000))
    settle()


def copied(depot: Path, to: Path) -> Path:
    """The depot again, elsewhere."""
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(depot, to))


def packs(depot: Path) -> dict[str, int]:
    """Sizes of packs by name."""
    return {path.name: path.stat().st_size for path in depot.glob("store/packs/*/*")}


def root(tree: Path) -> bytes:
    return scanned(tree, KEY).root()


def state(depot: Path, kind: str) -> list[str]:
    """Names of objects of that kind."""
    return sorted(path.name for path in (depot / "store/state").glob(f"{kind}/*"))


def changed(one: Path, before: list[int]) -> bool:
    """Whether the kill at this step left another state than that at the step before, of which `before` holds counts."""
    folders = ["store/.aside", "store/packs", *(f"store/state/{kind}" for kind in KINDS), "cache-one"]
    counts = [sum(len(files) for _, _, files in os.walk(one / folder)) for folder in folders]
    same = counts == before
    before[:] = counts
    return not same


def grow_old(depot: Path) -> None:
    """Let what lies aside be of the day before yesterday."""
    for path in (depot / "store/.aside").iterdir():
        os.utime(path, (time.time() - 48 * 3600,) * 2)


async def verified(depot: Path) -> Verdict:
    """What `check --read-data` says."""
    repo = await open_depot(depot, DirectoryStore(depot / "store"), "checker")
    return await verify(repo, Checks(read_data=True))


async def check_valid(depot: Path) -> None:
    """Everything that every commit needs is there, and is what it was."""
    verdict = await verified(depot)
    assert verdict.is_good, verdict.damage


async def check_restores(depot: Path, roots: dict[int, bytes]) -> None:
    """Those commits come back as they were."""
    keys = (await open_depot(depot, DirectoryStore(depot / "store"), "checker")).keys
    for seq, want in roots.items():
        one = Depot(depot, keys)
        record = await one.open("checker").commit(CommitId(0, seq))
        target = depot / f"out-{seq}"
        await one.restore(record, target)
        assert root(target) == want, f"commit {seq} is not what it was"
        shutil.rmtree(target)
    shutil.rmtree(depot / "cache-fresh", ignore_errors=True)


async def saved_once(top: Path, all_victims: Victims) -> tuple[Path, Path, bytes]:
    """A depot with one commit of a source that has changed since; the root of that commit."""
    await Depot.make(top / "depot")
    source = top / "source"
    fill(source, 1)
    assert not all_victims.run(Order("save", str(top / "depot"), str(source), start="small"))
    before = root(source)
    fill(source, 2)
    (source / "deep" / "1-3").unlink()
    return top / "depot", source, before


def report(top: Path) -> tuple[int, int]:
    return msgspec.json.decode((top / "report").read_bytes(), type=tuple[int, int])


async def test_a_save_killed_at_any_step_leaves_a_valid_repository_and_is_gone_on_with(
    top: Path, all_victims: Victims
) -> None:
    """Machines are rented and taken away: the repository is the only copy, and an uplink is slow."""
    depot, source, before = await saved_once(top, all_victims)
    want = root(source)
    clean = copied(depot, top / "clean")
    assert not all_victims.run(Order("save", str(clean), str(source), start="small"))
    sent = sum(packs(clean).values()) - sum(packs(depot).values())
    assert len(packs(clean)) - len(packs(depot)) >= 4 and sent > 4 * SMALL_PACK_BYTES
    kept_most, last = 0, list[int]()
    for at in itertools.count(1):
        one = copied(depot, top / "one")
        order = Order("save", str(one), str(source), at=at, start="small", report=str(top / "report"))
        status = all_victims.run(order)
        assert status in (0, KILLED)
        if not status:
            break
        if not changed(one, last):
            continue
        await check_valid(one)
        await check_restores(one, {1: before})
        kept = sum(packs(one).values()) - sum(packs(depot).values())
        kept_most = max(kept_most, kept)
        assert len(list((one / "store/.aside").iterdir())) <= 1
        grow_old(one)
        assert not all_victims.run(msgspec.structs.replace(order, at=0))
        again = sum(packs(one).values()) - sum(packs(depot).values()) - kept
        assert again <= sent - kept + SLACK_BYTES, f"killed at {at}: {again} bytes sent again of {sent}, {kept} there"
        assert list((one / "store/.aside").iterdir()) == []
        await check_restores(one, {report(top)[0]: want})
    assert at > 30
    assert kept_most >= sent


async def test_control_packs_that_are_stored_late_are_found_missing(top: Path, all_victims: Victims) -> None:
    """Negative control of the one above: the same kills, a driver that says too early that a pack is stored."""
    depot, source, _ = await saved_once(top, all_victims)
    damaged, last = False, list[int]()
    for at in itertools.count(1):
        one = copied(depot, top / "one")
        status = all_victims.run(Order("save", str(one), str(source), at=at, start="small", store="late"))
        damaged = changed(one, last) and not (await verified(one)).is_good
        if damaged or not status:
            break
    assert damaged


async def full_depot(top: Path, all_victims: Victims) -> tuple[Path, dict[int, bytes]]:
    """A depot with four commits of a tree that changes; their roots."""
    depot = (await Depot.make(top / "depot")).top
    source = top / "source"
    roots = {}
    for seed in (1, 2, 3, 4):
        fill(source, seed)
        for path in (source / "deep").glob(f"{seed - 1}-[1-4]"):
            path.unlink()
        (source / f"large-{seed - 1}").unlink(missing_ok=True)
        settle()
        assert not all_victims.run(Order("save", str(depot), str(source), start="small"))
        roots[seed] = root(source)
    shutil.rmtree(depot / "cache-one")
    return depot, roots


async def sparse_depot(top: Path, all_victims: Victims) -> tuple[Path, dict[int, bytes]]:
    """A depot in which some packs are needed, some no more, and some in part; the roots of its commits."""
    depot, roots = await full_depot(top, all_victims)
    repo = await open_depot(depot, DirectoryStore(depot / "store"), "one")
    await forget(repo, [CommitId(0, 1), CommitId(0, 3)])
    shutil.rmtree(depot / "cache-one", ignore_errors=True)
    return depot, {seq: roots[seq] for seq in (2, 4)}


async def test_a_prune_killed_at_any_step_loses_nothing_and_is_carried_on(top: Path, all_victims: Victims) -> None:
    """A prune is the only thing that deletes, so it must be right at every instruction."""
    depot, roots = await sparse_depot(top, all_victims)
    order = Order("prune", str(copied(depot, top / "clean")), now_s=int(time.time()) + LATER_S)
    assert not all_victims.run(order)
    clean = packs(top / "clean")
    assert len(set(packs(depot)) - set(clean)) >= 3, "some are deleted"
    assert set(clean) - set(packs(depot)), "some are repacked"
    last = list[int]()
    for at in itertools.count(1):
        one = copied(depot, top / "one")
        order = msgspec.structs.replace(order, top=str(one), at=at)
        if not all_victims.run(order):
            break
        if not changed(one, last):
            continue
        await check_valid(one)
        await check_restores(one, roots)
        grow_old(one)
        assert not all_victims.run(msgspec.structs.replace(order, at=0))
        assert sum(packs(one).values()) <= sum(clean.values()) + SLACK_BYTES, f"killed at {at}: not all was freed"
        assert (state(one, "doomed"), state(one, "pending")) == ([], [])
        assert not (one / "store/state/prune-lock").exists()
        assert list((one / "store/.aside").iterdir()) == []
        await check_valid(one)
    assert at > 20


async def test_a_servers_round_killed_at_any_step_loses_nothing_and_is_carried_on(
    top: Path, all_victims: Victims
) -> None:
    """It thins and prunes by itself, unwatched, beside a host that goes on storing."""
    depot, roots = await full_depot(top, all_victims)
    order = Order("tidy", str(copied(depot, top / "clean")), seq=4, now_s=int(time.time()) + LATER_S)
    assert not all_victims.run(order)
    clean = packs(top / "clean")
    assert state(top / "clean", "commits") == ["00000000-000000000004"]
    assert set(clean) - set(packs(depot)), "some are repacked"
    last = list[int]()
    for at in itertools.count(1, 2):  # before each change: tests/unit/test_upkeep.py
        one = copied(depot, top / "one")
        order = msgspec.structs.replace(order, top=str(one), at=at)
        if not all_victims.run(order):
            break
        if not changed(one, last):
            continue
        await check_valid(one)
        await check_restores(one, {4: roots[4]})
        grow_old(one)
        assert not all_victims.run(msgspec.structs.replace(order, at=0))
        assert state(one, "commits") == ["00000000-000000000004"]
        assert sum(packs(one).values()) <= sum(clean.values()) + SLACK_BYTES, f"killed at {at}: not all was freed"
        assert (state(one, "doomed"), state(one, "pending")) == ([], [])
        assert not (one / "store/state/prune-lock").exists()
        assert len(state(one, "arrivals")) == 1
        await check_valid(one)
    assert at > 40


async def test_control_a_prune_that_stores_its_copies_late_loses_data(top: Path, all_victims: Victims) -> None:
    """Negative control of the one above."""
    depot, _ = await sparse_depot(top, all_victims)
    damaged, last = False, list[int]()
    for at in itertools.count(1):
        one = copied(depot, top / "one")
        now_s = int(time.time()) + LATER_S
        status = all_victims.run(Order("prune", str(one), at=at, now_s=now_s, store="late"))
        damaged = changed(one, last) and not (await verified(one)).is_good
        if damaged or not status:
            break
    assert damaged


def half_written(target: Path, source: Path) -> list[str]:
    """Names in the target that hold something else than in the source."""
    return [
        str(path.relative_to(target))
        for path in target.rglob("*")
        if path.is_file() and path.read_bytes() != (source / path.relative_to(target)).read_bytes()
    ]


async def test_a_restore_killed_at_any_step_leaves_whole_files_and_is_gone_on_with(
    top: Path, all_victims: Victims
) -> None:
    """A file that is there is right; and what is right is not fetched once more."""
    depot, source, _ = await saved_once(top, all_victims)
    assert not all_victims.run(Order("save", str(depot), str(source), start="small", report=str(top / "report")))
    seq, want = report(top)[0], root(source)
    order = Order("restore", str(depot), str(top / "target"), seq, reads=True, report=str(top / "report"))
    assert not all_victims.run(order)
    fetched_whole = report(top)[1]
    landed_some = False
    for at in itertools.count(1):
        shutil.rmtree(top / "target")
        if not all_victims.run(msgspec.structs.replace(order, at=at)):
            break
        if not (top / "target").exists():
            (top / "target").mkdir()
        assert half_written(top / "target", source) == []
        there = sum(path.stat().st_size for path in (top / "target").glob("large-*"))  # they share no frames
        landed_some |= there > 0
        assert not all_victims.run(order)
        assert root(top / "target") == want
        assert report(top)[1] <= fetched_whole - there + SLACK_BYTES, f"killed at {at}: fetched again what was right"
        assert sorted(path.name for path in top.iterdir()) == ["depot", "report", "source", "target"]
    assert at > 50 and landed_some
    assert root(top / "target") == want
    assert not all_victims.run(order)
    assert report(top)[1] < SLACK_BYTES, "onto what is right nothing is fetched"


def test_control_a_file_written_under_its_final_name_is_found_half_written(top: Path) -> None:
    """Negative control of the one above: what `half_written` is there to find."""
    for name in ("source", "target"):
        (top / name).mkdir()
        (top / name / "file").write_bytes(b"whole" if name == "source" else b"who")
    assert half_written(top / "target", top / "source") == ["file"]
