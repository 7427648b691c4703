"""The message catalogues: `update` extracts, merges and compiles; `check` fails when one is incomplete."""

import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/dumont"
LOCALES = ("en", "pt_BR")
KEYWORDS = {"_": None, "plural": (1, 2)}


def catalogue_path(locale: str) -> Path:
    return SOURCE / "locale" / locale / "LC_MESSAGES" / "dumont.po"


def extracted() -> Catalog:
    """All messages that the source holds."""
    catalogue = Catalog(project="dumont", charset="utf-8")
    for name, line, message, comments, context in extract_from_dir(SOURCE, keywords=KEYWORDS):
        catalogue.add(message, locations=[(f"src/dumont/{name}", line)], auto_comments=comments, context=context)
    return catalogue


def stored(locale: str) -> Catalog:
    path = catalogue_path(locale)
    if not path.exists():
        return Catalog(locale=locale, project="dumont", charset="utf-8")
    with path.open("rb") as po:
        return read_po(po, locale=locale)


def update() -> int:
    template = extracted()
    for locale in LOCALES:
        catalogue = stored(locale)
        catalogue.update(template, no_fuzzy_matching=True, update_creation_date=False)
        catalogue.obsolete.clear()
        catalogue.header_comment = f"# What people read in Dumont, in {locale}. `make locale` keeps it up to date."
        catalogue.fuzzy = False
        catalogue.last_translator = catalogue.language_team = "Dumont"
        path = catalogue_path(locale)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as po:
            write_po(po, catalogue, width=120, include_lineno=False, sort_output=True, omit_header=False)
        with path.with_suffix(".mo").open("wb") as mo:
            write_mo(mo, catalogue)
    return check()


def check() -> int:
    """0 when every message of the source is translated in every catalogue, nothing fuzzy, and formats agree."""
    missing = 0
    wanted = [message for message in extracted() if message.id]
    for locale in LOCALES:
        catalogue = stored(locale)
        for message in wanted:
            found = catalogue.get(message.id, message.context)
            where = ", ".join(f"{name}:{line}" for name, line in message.locations[:1])
            if found is None or not translated(found.string, locale) or found.fuzzy:
                print(f"{where}: {locale} lacks {message.id!r}", file=sys.stderr)
                missing += 1
                continue
            for error in found.check(catalogue):
                print(f"{where}: {locale}: {error}", file=sys.stderr)
                missing += 1
    return 1 if missing else 0


def translated(string: str | tuple[str, ...] | list[str], locale: str) -> bool:
    """English text is its own translation, so only other languages must say something."""
    return locale == "en" or (all(string) if isinstance(string, (tuple, list)) else bool(string))


if __name__ == "__main__":
    if sys.argv[1:] not in (["update"], ["check"]):
        sys.exit("usage: locale_catalogues.py update|check")
    sys.exit(update() if sys.argv[1] == "update" else check())
