"""Inotify on real directories: a reader who follows its hints, and nothing else, must know the whole tree."""

import asyncio
import errno
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dumont.agent.inotify import RETRY_S, SCAN_S, Inotify
from dumont.replication.ports import Happening, Hint
from dumont.snapshot.tree import TOP, join

SUBTREE, OVERFLOW = Happening.SUBTREE, Happening.OVERFLOW
Attributes = tuple[int, int, int, int]


class Follower:
    """Knows the tree only by what hints made it look at. `without` leaves hints of one kind out."""

    def __init__(self, top: Path, inotify: Inotify, without: Happening | None = None) -> None:
        self.top = os.fsencode(top)
        self.inotify = inotify
        self.without = without
        self.known: dict[bytes, Attributes] = {}
        self._walk(TOP)

    def follow(self) -> list[Hint]:
        hints = self.inotify.drain()
        for hint in hints:
            if hint.happening is self.without:
                continue
            if hint.happening is Happening.TOUCHED:
                self._look(hint.path)
            else:
                self._walk(hint.path)
        return hints

    def _look(self, path: bytes) -> None:
        seen = attributes(self.top, path)
        known = self.known.pop(path, None)
        if known and stat.S_ISDIR(known[0]) and not (seen and stat.S_ISDIR(seen[0])):
            self._forget(path)
        if seen is not None:
            self.known[path] = seen

    def _walk(self, below: bytes) -> None:
        self._forget(below)
        self.known.update(tree(self.top, below))

    def _forget(self, below: bytes) -> None:
        """As an engine does: what is no directory has nothing below."""
        prefix = below + b"/" if below else b""
        for path in [path for path in self.known if path == below or path.startswith(prefix)]:
            del self.known[path]


def attributes(top: bytes, path: bytes) -> Attributes | None:
    try:
        seen = os.lstat(top + b"/" + path)
    except OSError:
        return None
    size = seen.st_size if stat.S_ISREG(seen.st_mode) else 0
    return (seen.st_mode, seen.st_ino, seen.st_mtime_ns, size)


def tree(top: bytes, below: bytes = TOP) -> dict[bytes, Attributes]:
    found = {}
    waiting = [below]
    while waiting:
        path = waiting.pop()
        seen = attributes(top, path)
        if seen is None:
            continue
        found[path] = seen
        if stat.S_ISDIR(seen[0]):
            with suppress(OSError):
                waiting += [join(path, name) for name in os.listdir(top + b"/" + path)]
    return found


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    top.mkdir()
    return top


@pytest.fixture
def inotify(top: Path) -> Iterator[Inotify]:
    inotify = Inotify(top)
    yield inotify
    inotify.close()


def hinted(inotify: Inotify) -> set[tuple[bytes, str]]:
    return {(hint.path, str(hint.happening)) for hint in inotify.drain()}


def test_a_write_names_the_file_and_a_new_name_its_directory_too(top: Path, inotify: Inotify) -> None:
    """A directory's time changes with its names; a commit that forgets it differs from the tree."""
    (top / "file").write_text("1")
    assert hinted(inotify) == {(b"file", "touched"), (b"", "touched")}
    (top / "file").write_text("2")
    assert hinted(inotify) == {(b"file", "touched")}
    (top / "file").chmod(0o600)
    assert hinted(inotify) == {(b"file", "touched")}
    (top / "file").unlink()
    assert hinted(inotify) == {(b"file", "touched"), (b"", "touched")}
    assert hinted(inotify) == set()


def test_names_are_bytes(top: Path, inotify: Inotify) -> None:
    """A name need not be text in any encoding."""
    directory = os.fsencode(top) + b"/\xff\xfe"
    os.mkdir(directory)
    inotify.drain()
    with open(directory + b"/\n\x80", "w"):
        pass
    assert (b"\xff\xfe/\n\x80", "touched") in hinted(inotify)


def test_what_appears_in_a_new_directory_before_its_watch_is_walked(top: Path, inotify: Inotify) -> None:
    """`mkdir -p a/b/c && echo > a/b/c/file` is over before the first event is read."""
    (top / "a/b/c").mkdir(parents=True)
    (top / "a/b/c/early").write_text("")
    assert (b"a", "subtree") in hinted(inotify)
    (top / "a/b/c/late").write_text("")
    assert (b"a/b/c/late", "touched") in hinted(inotify)


def test_a_moved_directory_takes_its_watches_along(top: Path, inotify: Inotify) -> None:
    """Whoever moves a checkpoint directory into place must not lose the writes that follow."""
    (top / "a/b/c").mkdir(parents=True)
    (top / "z").mkdir()
    inotify.drain()
    (top / "a").rename(top / "z/moved")
    assert {(b"a", "subtree"), (b"z/moved", "subtree"), (b"z", "touched"), (b"", "touched")} <= hinted(inotify)
    (top / "z/moved/b/c/file").write_text("")
    assert {(b"z/moved/b/c/file", "touched"), (b"z/moved/b/c", "touched")} <= hinted(inotify)
    assert inotify.watches() == 5


def test_a_directory_that_leaves_the_tree_is_forgotten(top: Path, tmp_path: Path, inotify: Inotify) -> None:
    """Its watches would tell of a place that is no longer ours, and are counted against a limit."""
    (top / "a/b").mkdir(parents=True)
    inotify.drain()
    (top / "a").rename(tmp_path / "away")
    assert (b"a", "subtree") in hinted(inotify)
    inotify.drain()
    (tmp_path / "away/b/file").write_text("")
    assert hinted(inotify) == set()
    assert inotify.watches() == 1
    (tmp_path / "away").rename(top / "back")
    assert (b"back", "subtree") in hinted(inotify)
    (top / "back/b/file").write_text("1")
    assert (b"back/b/file", "touched") in hinted(inotify)


def test_a_removed_directory_is_forgotten(top: Path, inotify: Inotify) -> None:
    """Builds make and remove directories all day."""
    for _ in range(3):
        (top / "a/b").mkdir(parents=True)
        inotify.drain()
        shutil.rmtree(top / "a")
        inotify.drain()
        inotify.drain()
    assert inotify.watches() == 1


def test_a_link_to_a_directory_is_not_followed(top: Path, tmp_path: Path, inotify: Inotify) -> None:
    """A link to / would have the whole machine watched."""
    (tmp_path / "elsewhere").mkdir()
    (top / "link").symlink_to(tmp_path / "elsewhere")
    (top / "loop").symlink_to(top)
    inotify.drain()
    (tmp_path / "elsewhere/file").write_text("")
    assert hinted(inotify) == set()
    assert inotify.watches() == 1


def test_twenty_thousand_creates_overflow_and_say_so(top: Path, inotify: Inotify) -> None:
    """The kernel queues 16,384 events. What comes after the overflow is told again, in new directories too."""
    follower = Follower(top, inotify)
    for number in range(20_000):
        os.close(os.open(top / f"file{number}", os.O_CREAT | os.O_WRONLY))
    (top / "late/later").mkdir(parents=True)
    hints = follower.follow()
    assert Hint(TOP, OVERFLOW) in hints
    assert follower.known == tree(os.fsencode(top))
    (top / "late/later/file").write_text("")
    assert (b"late/later/file", "touched") in hinted(inotify)


def test_without_its_overflow_hint_a_follower_goes_astray(top: Path, inotify: Inotify) -> None:
    """Negative control: the test above would notice an overflow that is passed over."""
    follower = Follower(top, inotify, without=OVERFLOW)
    for number in range(20_000):
        os.close(os.open(top / f"file{number}", os.O_CREAT | os.O_WRONLY))
    follower.follow()
    assert follower.known != tree(os.fsencode(top))


class Gardener:
    """Changes a tree at random: directories made, moved, swapped, removed; files written, moved, changed."""

    def __init__(self, top: Path, seed: int) -> None:
        self.top = top
        self.random = random.Random(seed)

    def directory(self) -> Path:
        """Some directory, the top included; at most four deep."""
        at = self.top
        while self.random.random() < 0.6:
            below = [entry.path for entry in os.scandir(at) if entry.is_dir(follow_symlinks=False)]
            if not below:
                break
            at = Path(self.random.choice(sorted(below)))
        return at

    def name(self) -> str:
        return self.random.choice("abcd")

    def work(self) -> None:
        """One change, which may be refused."""
        one, other = self.directory() / self.name(), self.directory() / self.name()
        jobs = [self.make, self.make, self.move, self.move, self.remove, self.write, self.write, self.change]
        try:
            self.random.choice(jobs)(one, other)
        except OSError:
            return

    def make(self, one: Path, other: Path) -> None:
        (one / self.name() / self.name()).mkdir(parents=True, exist_ok=True)

    def move(self, one: Path, other: Path) -> None:
        one.rename(other)

    def remove(self, one: Path, other: Path) -> None:
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()

    def write(self, one: Path, other: Path) -> None:
        (one / self.name()).write_text("x" * self.random.randrange(100))

    def change(self, one: Path, other: Path) -> None:
        one.chmod(self.random.choice([0o700, 0o750, 0o755]))


@pytest.mark.parametrize("seed", range(10))
def test_following_hints_alone_one_knows_the_tree(top: Path, inotify: Inotify, seed: int) -> None:
    """Whatever happens, in bursts: events tell of the past while one can only look at the present."""
    follower = Follower(top, inotify)
    gardener = Gardener(top, seed)
    for _ in range(30):
        for _ in range(gardener.random.randrange(30)):
            gardener.work()
        follower.follow()
        assert follower.known == tree(os.fsencode(top))


def test_following_a_tree_that_changes_all_the_while(top: Path, inotify: Inotify) -> None:
    """The same, with somebody else at work between each event that is read and the look that follows."""
    script = "import sys, pathlib, time\nfrom tests.integration.test_inotify import Gardener\n"
    script += f"gardener = Gardener(pathlib.Path({str(top)!r}), 7)\nprint('ready', flush=True)\n"
    script += "until = time.monotonic() + 2\nwhile time.monotonic() < until: gardener.work()\n"
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root}/src"}
    follower = Follower(top, inotify)
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE) as working:
        assert working.stdout is not None
        working.stdout.readline()
        drains = 0
        while working.poll() is None:
            follower.inotify.drain() if drains % 50 == 49 else follower.follow()
            if drains % 50 == 49:
                follower._walk(TOP)
            drains += 1
    follower.follow()
    follower.follow()
    watched = inotify.watches()
    now = tree(os.fsencode(top))
    assert follower.known == now
    assert watched == sum(stat.S_ISDIR(seen[0]) for seen in now.values())


def test_an_unreadable_directory_is_watched_once_it_can_be_read() -> None:
    """Root reads everything, so this is tried as nobody."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    top = Path(tempfile.mkdtemp(prefix="dt-nobody-"))
    top.chmod(0o777)
    nobody = os.fork()
    if nobody == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            become_readable(top)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(nobody, 0)[1])
    shutil.rmtree(top)
    assert status == 0


def become_readable(top: Path) -> None:
    (top / "shut/inner").mkdir(parents=True)
    (top / "shut").chmod(0o300)
    inotify = Inotify(top)
    assert inotify.watches() == 1
    assert not inotify.incomplete
    (top / "shut").chmod(0o700)
    assert (b"shut", "subtree") in hinted(inotify)
    (top / "shut/inner/file").write_text("")
    assert (b"shut/inner/file", "touched") in hinted(inotify)


def test_without_an_instance_everything_is_walked(top: Path) -> None:
    """128 instances a user: whoever runs many workspaces on one machine meets that limit."""
    inotify = Refused(top)
    assert "no inotify instance is left" in inotify.incomplete
    assert inotify.drain() == [Hint(TOP, OVERFLOW)]
    assert inotify.drain() == [Hint(TOP, OVERFLOW)]
    inotify.close()


class Refused(Inotify):
    """An Inotify on a machine whose instances are used up."""

    def _open(self) -> int:
        return -errno.EMFILE


def test_without_enough_watches_everything_is_walked_until_there_are(top: Path) -> None:
    """The kernel's limit can be raised while we run; until then the commit is right, and slow, and it says so."""
    (top / "x").mkdir()
    (top / "elsewhere").mkdir()
    now = [0.0]
    inotify = Scarce(top, now)
    inotify.left = 1
    (top / "a/b").mkdir(parents=True)
    assert Hint(TOP, OVERFLOW) in inotify.drain()
    assert "max_user_watches" in inotify.incomplete
    assert Hint(TOP, OVERFLOW) in inotify.drain()
    inotify.left = 100
    assert Hint(TOP, OVERFLOW) in inotify.drain()
    now[0] += RETRY_S
    assert Hint(TOP, OVERFLOW) in inotify.drain(), "what was missed before the watches stood is walked"
    assert inotify.incomplete == ""
    assert inotify.drain() == []
    (top / "a/b/file").write_text("")
    assert (b"a/b/file", "touched") in hinted(inotify)
    inotify.close()


class Scarce(Inotify):
    """An Inotify that may add only `left` watches: raising the real limit of a machine is not a test's business."""

    def __init__(self, directory: Path, now: list[float]) -> None:
        self.left = 100
        super().__init__(directory, now=lambda: now[0])

    def _add(self, path: bytes) -> int:
        self.left -= 1
        return super()._add(path) if self.left >= 0 else -errno.ENOSPC


def test_a_workspace_that_goes_away_is_walked(top: Path, inotify: Inotify) -> None:
    """Walking it shows that every file is gone, which is what happened."""
    shutil.rmtree(top)
    assert Hint(TOP, OVERFLOW) in inotify.drain()


def test_a_workspace_that_is_not_there(tmp_path: Path) -> None:
    """A wrong path is told at once."""
    with pytest.raises(FileNotFoundError):
        Inotify(tmp_path / "nowhere")


async def test_waiting_ends_with_the_first_event(top: Path, inotify: Inotify) -> None:
    """The engine sleeps while nothing happens."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await inotify.wait()
    waiting = asyncio.create_task(inotify.wait())
    await asyncio.sleep(0)
    (top / "file").write_text("")
    async with asyncio.timeout(1):
        await waiting
    assert (b"file", "touched") in hinted(inotify)


async def test_waiting_ends_by_itself_when_the_watch_is_incomplete(top: Path) -> None:
    """Nobody would wake us."""
    inotify = Scarce(top, [0.0])
    inotify.left = 0
    (top / "a").mkdir()
    inotify.drain()
    async with asyncio.timeout(SCAN_S + 1):
        await inotify.wait()
        await inotify.wait()
    inotify.close()
