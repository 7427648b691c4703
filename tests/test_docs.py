"""Documents must not name what is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURE = ROOT / "docs/architecture.md"
PRODUCT = ROOT / "src/dumont"
TOPS = ("src/", "tests/", "docs/", "scripts/", "bench/", ".ci/", "changes/")
FILE = re.compile(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|md|toml|po)|(?:[\w.-]+/)+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def test_the_architecture_names_only_files_that_exist() -> None:
    """A map with wrong names is worse than none."""
    named = FILE.findall(ARCHITECTURE.read_text())
    assert len(named) >= 20, "docs/architecture.md follows one workspace through the files: it names too few of them"
    missing = sorted({name for name in named if not _exists(name)})
    assert not missing, f"docs/architecture.md names what does not exist: {', '.join(missing)}"


def test_every_link_between_documents_leads_somewhere() -> None:
    """A reader who meets one dead link stops following the others."""
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    dead = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in LINK.findall(document.read_text())
        if "://" not in target and not target.startswith("mailto:") and not (document.parent / target).exists()
    ]
    assert not dead, "\n".join(dead)


def _exists(name: str) -> bool:
    """Names are relative to the repository, or to `src/dumont` as the architecture writes them for short."""
    return (ROOT / name).exists() or (not name.startswith(TOPS) and (PRODUCT / name).exists())
