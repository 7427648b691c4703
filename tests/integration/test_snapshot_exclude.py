"""What a save leaves out: patterns, caches and other file systems, whichever way a tree is walked."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.errors import BadInput
from dumont.repository.record import NOTHING_EXCLUDED, Exclusion
from dumont.repository.saving.save import Draft, Saved
from dumont.repository.saving.sieve import CACHE_TAG
from dumont.repository.saving.walk import Walk
from dumont.snapshot.tree import Tree
from tests.integration.archivist import scanned
from tests.integration.depot import Depot, settle
from tests.integration.test_snapshot_cli import Terminal

TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# this is a cache\n"
FILES = (
    "a.py",
    "a.pyc",
    "deep/b.py",
    "deep/b.pyc",
    "node_modules/x/y.js",
    "deep/node_modules/z.js",
    "cache/big",
    "log",
)


@pytest.fixture(name="source")
def _source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for name in FILES:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name * 100)
    (source / "cache" / "CACHEDIR.TAG").write_bytes(TAG)
    (source / "deep" / "link").symlink_to("b.py")  # a folder out of the ordinary is looked at in another way
    settle()
    return source


async def _saved(depot: Depot, source: Path, excluded: Exclusion = NOTHING_EXCLUDED) -> Saved:
    return await depot.save(source, draft=Draft(time.time_ns(), path=bytes(source), excluded=excluded))


async def _files(depot: Depot, saved: Saved, target: Path) -> set[str]:
    await depot.restore(saved.record, target)
    found = {str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir()}
    shutil.rmtree(target)
    return found


@pytest.mark.parametrize(
    ("patterns", "gone"),
    [
        ((b"*.pyc",), {"a.pyc", "deep/b.pyc"}),
        ((b"node_modules",), {"node_modules/x/y.js"}),
        ((b"**/node_modules",), {"node_modules/x/y.js", "deep/node_modules/z.js"}),
        ((b"/deep/", b"log"), {"deep/b.py", "deep/b.pyc", "deep/node_modules/z.js", "deep/link", "log"}),
        ((b"deep/*.py[c]",), {"deep/b.pyc"}),
    ],
)
async def test_what_a_pattern_matches_is_not_in_the_commit(
    tmp_path: Path, source: Path, patterns: tuple[bytes, ...], gone: set[str]
) -> None:
    """A first save is walked by hands, a later one by a survey: both must leave out the same."""
    depot = await Depot.make(tmp_path / "depot")
    everything = {*FILES, "cache/CACHEDIR.TAG", "deep/link"}
    first = await _saved(depot, source, Exclusion(patterns))
    assert await _files(depot, first, tmp_path / "out") == everything - gone
    assert first.record.files == len(everything - gone) - (0 if "deep/link" in gone else 1)
    again = await _saved(depot, source, Exclusion(patterns))
    assert again.record.commit.root == first.record.commit.root
    assert again.stored_bytes == 0
    assert (await depot.open().commit(again.record.commit.id)).excluded == Exclusion(patterns)


async def test_other_excludes_than_before_take_out_and_bring_back(tmp_path: Path, source: Path) -> None:
    """What this machine remembers of the last save is of another choice: nothing of it may leak into this one."""
    depot = await Depot.make(tmp_path / "depot")
    choices = [Exclusion((b"*.pyc",)), Exclusion((b"**/node_modules", b"a.py")), Exclusion(), Exclusion((b"deep",))]
    for number, excluded in enumerate([*choices, *reversed(choices)]):
        saved = await _saved(depot, source, excluded)
        other = await Depot.make(tmp_path / f"fresh-{number}")
        alone = await _saved(other, source, excluded)
        got, wanted = tmp_path / "got", tmp_path / "wanted"
        assert await _files(depot, saved, got) == await _files(other, alone, wanted)
        assert saved.record.files == alone.record.files
    whole = await _saved(depot, source)
    assert whole.record.commit.root == scanned(source, depot.keys.chunk_key).root(), "nothing stays left out"


async def test_an_excluded_directory_is_not_even_opened(tmp_path: Path, source: Path) -> None:
    """It may be a million files, or a file system that hangs. Whoever opened it would have changed its access time."""
    for path in [source / "node_modules", *(source / "node_modules").rglob("*")]:
        os.utime(path, (1, 1))  # older than its change: even relatime notes who reads
    settle()
    _count_reads(source / "deep", 1, tmp_path)
    depot = await Depot.make(tmp_path / "depot")
    walk = Walk(source, Exclusion((b"node_modules",)))
    assert not [path for path in walk.glances() if path.startswith(b"node_modules")]
    await _saved(depot, source, Exclusion((b"node_modules",)))
    await _saved(depot, source, Exclusion((b"node_modules",)))
    assert (source / "node_modules").stat().st_atime == 1
    assert (source / "node_modules" / "x" / "y.js").stat().st_atime == 1


def _count_reads(directory: Path, was: int, place: Path) -> None:
    """The control: on this file system a reading does show."""
    os.utime(directory, (was, was))
    list(os.scandir(directory))
    if directory.stat().st_atime == was:
        pytest.skip(f"the kernel notes no access times at {place}")


async def test_an_unreadable_name_that_is_excluded_is_not_complained_about(tmp_path: Path, source: Path) -> None:
    """Otherwise every save of such a tree ends with 1, and nobody looks any more."""
    os.mkfifo(source / "pipe")
    os.mknod(source / "socket", 0o140600)
    depot = await Depot.make(tmp_path / "depot")
    assert set((await _saved(depot, source)).uncovered) == {b"socket"}
    assert not (await _saved(depot, source, Exclusion((b"socket",)))).uncovered
    other = await Depot.make(tmp_path / "other")
    assert not (await _saved(other, source, Exclusion((b"sock*",)))).uncovered


async def test_one_of_two_names_of_an_inode_is_excluded(tmp_path: Path, source: Path) -> None:
    """The other has no second name in the commit, and must not claim one."""
    os.link(source / "log", source / "deep" / "same.log")
    settle()
    depot = await Depot.make(tmp_path / "depot")
    both = await _saved(depot, source)
    one = await _saved(depot, source, Exclusion((b"deep/same.log",)))
    await depot.restore(one.record, tmp_path / "out")
    assert (tmp_path / "out" / "log").stat().st_nlink == 1
    again = await _saved(depot, source)
    assert again.record.commit.root == both.record.commit.root


# --- caches


async def test_a_tagged_cache_keeps_only_its_tag(tmp_path: Path, source: Path) -> None:
    """So that what is restored is a cache still, and the next save leaves it out again."""
    depot = await Depot.make(tmp_path / "depot")
    for number in range(2):
        saved = await _saved(depot, source, Exclusion(caches=True))
        found = await _files(depot, saved, tmp_path / f"out{number}")
        assert {name for name in found if name.startswith("cache/")} == {"cache/CACHEDIR.TAG"}
        assert {"log", "deep/b.py"} < found


@pytest.mark.parametrize("odd", ["short", "other", "symlink", "directory", "unreadable"])
async def test_what_is_no_tag_excludes_nothing(tmp_path: Path, source: Path, odd: str) -> None:
    """The specification asks for an ordinary file that begins with the signature. A loose reading would lose data."""
    tag = source / "cache" / "CACHEDIR.TAG"
    tag.unlink()
    if odd == "short":
        tag.write_bytes(TAG[:42])
    elif odd == "other":
        tag.write_bytes(b"x" + TAG)
    elif odd == "symlink":
        (source / "tag").write_bytes(TAG)
        tag.symlink_to("../tag")
    elif odd == "directory":
        tag.mkdir()
    else:
        os.mkfifo(tag)  # it must not be waited for either
    settle()
    depot = await Depot.make(tmp_path / "depot")
    assert "cache/big" in await _files(depot, await _saved(depot, source, Exclusion(caches=True)), tmp_path / "out")


async def test_a_cache_that_is_named_as_the_top_is_saved(tmp_path: Path, source: Path) -> None:
    """Whoever names a cache wants it saved; an empty snapshot would be a bad surprise."""
    depot = await Depot.make(tmp_path / "depot")
    saved = await _saved(depot, source / "cache", Exclusion(caches=True))
    assert await _files(depot, saved, tmp_path / "out") == {"big", os.fsdecode(CACHE_TAG)}


async def test_a_tag_that_comes_or_goes_counts_at_the_next_save(tmp_path: Path, source: Path) -> None:
    """Nothing about tags is remembered."""
    depot = await Depot.make(tmp_path / "depot")
    first = await _saved(depot, source, Exclusion(caches=True))
    (source / "cache" / "CACHEDIR.TAG").unlink()
    settle()
    second = await _saved(depot, source, Exclusion(caches=True))
    assert "cache/big" in await _files(depot, second, tmp_path / "out")
    (source / "cache" / "CACHEDIR.TAG").write_bytes(TAG)
    settle()
    third = await _saved(depot, source, Exclusion(caches=True))
    assert third.record.files == first.record.files == second.record.files
    assert "cache/big" not in await _files(depot, third, tmp_path / "out")


# --- file systems


@pytest.fixture(name="mounted")
def _mounted(source: Path) -> Iterator[Path]:
    place = source / "deep" / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs may be mounted here: run as root")
    (place / "inside").write_text("elsewhere")
    settle()
    yield place
    subprocess.run(["umount", "-l", place], check=True)


async def test_another_file_system_is_left_out_and_its_place_kept(tmp_path: Path, source: Path, mounted: Path) -> None:
    """After a restore there must be something to mount it on again."""
    depot = await Depot.make(tmp_path / "depot")
    with_it = await _saved(depot, source)
    assert "deep/disk/inside" in await _files(depot, with_it, tmp_path / "out")
    other = await Depot.make(tmp_path / "other")
    for place in (depot, other):  # as a later save, and as a first one
        saved = await _saved(place, source, Exclusion(one_file_system=True))
        await place.restore(saved.record, tmp_path / "out")
        assert (tmp_path / "out" / "deep" / "disk").is_dir()
        assert not list((tmp_path / "out" / "deep" / "disk").iterdir())
        assert (tmp_path / "out" / "deep" / "b.py").exists()
        shutil.rmtree(tmp_path / "out")
    top = await _saved(await Depot.make(tmp_path / "third"), mounted, Exclusion(one_file_system=True))
    assert top.record.files == 1, "the file system of the top is the one that counts"


# --- the command


def test_the_options_and_what_ls_and_diff_say_of_them(tmp_path: Path, source: Path) -> None:
    """A person who misses a file must be told that it was left out, and by what."""
    terminal = Terminal(tmp_path)
    terminal.source = source
    patterns = tmp_path / "patterns"
    patterns.write_text("# what can be made again\n*.pyc\n\n  **/node_modules  \n")
    words = ["--exclude", "log", "--exclude-file", patterns, "--exclude-caches", "--one-file-system"]
    told = terminal.save(*words)
    excluded = {"patterns": ["log", "*.pyc", "**/node_modules"], "one_file_system": True, "caches": True}
    assert told["excluded"] == excluded
    assert told["files"] == 3
    assert terminal.json("ls", terminal.repo)[0]["excluded"] == excluded
    assert "--exclude 'log'" in terminal.run("ls", terminal.repo).stdout
    assert "--exclude '**/node_modules'" in terminal.run("ls", terminal.repo, "1").stderr
    time.sleep(0.1)
    terminal.save(*words)
    again = terminal.save(*words)
    assert (again["new_bytes"], again["stored_bytes"], again["root"]) == (0, 0, told["root"])
    assert again["requests"] <= 5
    terminal.save("--exclude", "deep")
    changes = terminal.json("diff", terminal.repo, "1", "4")
    assert changes["excluded"][1]["patterns"] == ["deep"]
    kinds = {change["path"]: change["kind"] for change in changes["changes"]}
    assert kinds["deep/b.py"] == "removed"
    assert kinds["a.pyc"] == "added"
    assert "--one-file-system" in terminal.run("diff", terminal.repo, "1", "4").stdout
    assert "not saved alike" not in terminal.run("diff", terminal.repo, "1", "2").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--exclude", ""], "excludes everything"),
        (["--exclude", "/"], "excludes everything"),
        (["--exclude", "[z-a]"], "makes no sense"),
        (["--exclude-file", "/does/not/exist"], "can't be read"),
    ],
)
def test_an_exclusion_that_can_not_be_meant_is_refused(
    tmp_path: Path, source: Path, words: list[str], said: str
) -> None:
    """Before anything is made or saved."""
    terminal = Terminal(tmp_path)
    assert said in terminal.run("save", source, terminal.repo, *words, status=2).stderr
    assert not terminal.repo.exists()


def test_a_pattern_from_the_root_of_the_machine_is_corrected(tmp_path: Path, source: Path) -> None:
    """Other programs take absolute paths. Taken for one inside, it would silently leave nothing out."""
    terminal = Terminal(tmp_path)
    told = terminal.run("save", source, terminal.repo, "--exclude", source / "deep" / "b.py", status=2).stderr
    assert "write deep/b.py" in told
    negated = tmp_path / "patterns"
    negated.write_text("*.py\n!a.py\n")
    assert "[!]" in terminal.run("save", source, terminal.repo, "--exclude-file", negated, status=2).stderr


async def test_a_bad_pattern_is_refused_by_the_engine_too(tmp_path: Path, source: Path) -> None:
    """Whoever uses it without the command line."""
    depot = await Depot.make(tmp_path / "depot")
    with pytest.raises(BadInput):
        await _saved(depot, source, Exclusion((b"[z-a]",)))


async def test_without_the_sieve_everything_is_saved(tmp_path: Path, source: Path) -> None:
    """The control: what the tests above miss is there unless it is excluded."""
    depot = await Depot.make(tmp_path / "depot")
    saved = await _saved(depot, source)
    tree: Tree = scanned(source, depot.keys.chunk_key)
    assert saved.record.commit.root == tree.root()
