"""Documents must not name what is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURE = ROOT / "docs/architecture.md"
PRODUCT = ROOT / "src/dumont"
TOPS = ("src/", "tests/", "docs/", "scripts/", "bench/", ".ci/", "changes/")
FILE = re.compile(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|md|toml|po)|(?:[\w.-]+/)+)`")
OURS = re.compile(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|md|po))`")
TEST = re.compile(r"\btests/[\w/]*\w(?:\.py)?")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def test_the_architecture_names_only_files_that_exist() -> None:
    """A map with wrong names is worse than none."""
    named = FILE.findall(ARCHITECTURE.read_text())
    assert len(named) >= 20, "docs/architecture.md follows one workspace through the files: it names too few of them"
    missing = sorted({name for name in named if not _exists(name)})
    assert not missing, f"docs/architecture.md names what does not exist: {', '.join(missing)}"


def test_no_document_names_a_source_file_that_does_not_exist() -> None:
    """A reader who looks for a file that was renamed concludes that the rest of the page is as old.

    Pages name files for short, by the end of their paths.
    """
    ours = [f"/{path.relative_to(ROOT).as_posix()}" for top in TOPS for path in (ROOT / top).rglob("*")]
    missing = [
        f"{document.relative_to(ROOT)}: {name}"
        for document in _documents()
        for name in OURS.findall(document.read_text())
        if not any(path.endswith(f"/{name}") for path in ours)
    ]
    assert not missing, "\n".join(missing)


def test_no_document_asks_for_a_test_that_does_not_exist() -> None:
    """The commands that check our promises are what a reader tries first."""
    named = [(document, name) for document in _documents() for name in TEST.findall(document.read_text())]
    assert len(named) >= 20, "README.md and docs/durability.md name the tests that check each promise: too few found"
    missing = [f"{document.relative_to(ROOT)}: {name}" for document, name in named if not (ROOT / name).exists()]
    assert not missing, "\n".join(missing)


def test_no_table_of_a_document_is_cut_in_two() -> None:
    """After an empty line the rows that follow are shown as text with bars in it."""
    cut = re.compile(r"^\|.*\|\n\n+(\|(?![^\n]*\|\n\|[ :|-]+\|\n).*\|)$", re.MULTILINE)
    found = [
        f"{document.relative_to(ROOT)}: {row[:60]}"
        for document in _documents()
        for row in cut.findall(document.read_text())
    ]
    assert not found, "\n".join(found)


def test_every_link_between_documents_leads_somewhere() -> None:
    """A reader who meets one dead link stops following the others."""
    dead = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in _documents()
        for target in LINK.findall(document.read_text())
        if "://" not in target and not target.startswith("mailto:") and not (document.parent / target).exists()
    ]
    assert not dead, "\n".join(dead)


def _documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "bench").glob("*.md"))]


def _exists(name: str) -> bool:
    """Names are relative to the repository, or to `src/dumont` as the architecture writes them for short."""
    return (ROOT / name).exists() or (not name.startswith(TOPS) and (PRODUCT / name).exists())
