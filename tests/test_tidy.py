"""The stop signs of our style: how long files and functions may be, and what may not be written at all.

A rule that makes code worse may be broken by `# tidy: why` on the line it is reported for.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for top in ("src", "tests", "scripts", "bench") for path in (ROOT / top).rglob("*.py"))
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 5
BANNED_NAMES = re.compile(r"^(utils?|helpers?|managers?|common|misc)$")
COMPOSITION_ROOT = "src/dumont/main.py"
WAIVER = re.compile(r"#\s*tidy:\s*\S.{9,}")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """One of our files, read and parsed once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(ROOT).as_posix()
        self.text = path.read_text()
        self.lines = self.text.splitlines()
        self.module = ast.parse(self.text, filename=str(path))
        self.nodes = list(ast.walk(self.module))

    def functions(self) -> Iterator[Function]:
        return (node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    def at(self, node: ast.stmt | ast.expr | ast.excepthandler, what: str) -> str:
        """`file:line: what`, or "" when the line says why the rule is broken here."""
        return "" if WAIVER.search(self.lines[node.lineno - 1]) else f"{self.name}:{node.lineno}: {what}"


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return [Source(path) for path in FILES]


def report(offenders: Iterator[str]) -> None:
    found = [offender for offender in offenders if offender]
    assert not found, "\n" + "\n".join(found)


def test_no_file_is_longer_than_a_reader_can_hold(sources: list[Source]) -> None:
    """Files of thousands of lines grew because nothing said stop."""
    report(f"{s.name}:1: {len(s.lines)} lines" for s in sources if len(s.lines) > FILE_LINES_MAX)


def test_no_function_is_longer_than_a_screen(sources: list[Source]) -> None:
    """A function that needs scrolling hides its story."""
    report(
        source.at(function, f"{function.name} has {length} lines")
        for source in sources
        for function in source.functions()
        if (length := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    )


def test_no_function_takes_too_many_parameters(sources: list[Source]) -> None:
    """What takes six arguments wants a record; keyword-only ones count too. A verb's options are no caller's burden."""
    report(
        source.at(function, f"{function.name} takes {count} parameters")
        for source in sources
        for function in source.functions()
        if (count := _parameters(function)) > PARAMETERS_MAX
    )


def test_no_file_is_named_after_nothing() -> None:
    """`utils.py` says what nobody could name; one noun per file."""
    report(f"{path.relative_to(ROOT)}:1: banned name" for path in FILES if BANNED_NAMES.match(path.stem))


def test_every_product_file_says_what_it_is(sources: list[Source]) -> None:
    """The first line is where a reader decides whether to go on."""
    report(
        f"{source.name}:1: no docstring on the first line"
        for source in sources
        if source.name.startswith("src/") and not (source.lines and source.lines[0].startswith('"""'))
    )


def test_imports_stand_at_the_top(sources: list[Source]) -> None:
    """An import inside a function hides a dependency from the import layers; only the composition root may."""
    report(
        source.at(node, "import inside a function")
        for source in sources
        if source.name != COMPOSITION_ROOT
        for function in source.functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    )


def test_no_except_is_bare_or_broad(sources: list[Source]) -> None:
    """A broad except turns a bug of ours into silence. A supervisor that restarts and reports says so on its line."""
    report(
        source.at(node, "bare or broad except")
        for source in sources
        for node in source.nodes
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type)
    )


def test_drivers_are_swapped_and_not_patched(sources: list[Source]) -> None:
    """A patched module proves that the patch works."""
    report(
        source.at(node, "mock patching")
        for source in sources
        for node in source.nodes
        if isinstance(node, ast.stmt | ast.expr) and _is_mock(node)
    )


def test_unit_tests_do_not_sleep(sources: list[Source]) -> None:
    """Time is an argument; a sleep makes a test slow on good days and false on bad ones."""
    report(
        source.at(node, "a sleep in a unit test")
        for source in sources
        if source.name.startswith("tests/unit/")
        for node in source.nodes
        if isinstance(node, ast.Call) and _is_sleep(node)
    )


def _parameters(function: Function) -> int:
    arguments = function.args
    given = arguments.posonlyargs + arguments.args
    own = given[1:] if given and given[0].arg in ("self", "cls") else given
    counted = [argument for argument in own + arguments.kwonlyargs if not _is_option(argument)]
    return len(counted) + bool(arguments.vararg) + bool(arguments.kwarg)


def _is_option(argument: ast.arg) -> bool:
    """An option or argument of the command line, which Typer reads from its annotation."""
    return argument.annotation is not None and "typer." in ast.unparse(argument.annotation)


def _is_broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(ast.unparse(kind).rpartition(".")[2] in ("Exception", "BaseException") for kind in kinds)


def _is_mock(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.startswith("unittest.mock") for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.module == "unittest.mock" or (
            node.module == "unittest" and any(alias.name == "mock" for alias in node.names)
        )
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr == "setattr" and ast.unparse(node.func.value) == "monkeypatch"
    return isinstance(node, ast.Name) and node.id == "mocker"


def _is_sleep(call: ast.Call) -> bool:
    """`asyncio.sleep(0)` only gives way to other tasks, and is fine."""
    if ast.unparse(call.func) not in ("asyncio.sleep", "time.sleep"):
        return False
    first = call.args[0] if call.args else None
    return not (isinstance(first, ast.Constant) and first.value == 0)
