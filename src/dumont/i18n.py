"""The languages people read Dumont in: gettext catalogues, and which of them speaks here and now.

Catalogues lie in `locale/<language>/LC_MESSAGES/dumont.po`; `make` compiles them to `.mo`. English is the source
language, so a text without a catalogue stays readable.
"""

import gettext
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "pt_BR")
LOCALE = Path(__file__).parent / "locale"

_language: ContextVar[str] = ContextVar("language", default="en")


def use(language: str) -> str:
    """Speak `language` from now on (in this task, and those it starts). Answers the language really used."""
    chosen = best(language)
    _language.set(chosen)
    return chosen


def language() -> str:
    """The language spoken now: one of LANGUAGES."""
    return _language.get()


def best(wish: str) -> str:
    """The language that suits `wish` best: `pt`, `pt-BR`, `pt_BR.UTF-8`, an Accept-Language list. Else English."""
    for part in wish.replace(";", ",").split(","):
        base = part.strip().partition(".")[0].replace("-", "_").partition("_")[0].lower()
        for known in LANGUAGES:
            if base == known.partition("_")[0]:
                return known
    return "en"


def wished(environment: Mapping[str, str], option: str = "") -> str:
    """What the user wants to read: the option, else LC_ALL, LC_MESSAGES, LANG; English when none says."""
    for wish in (option, *(environment.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG"))):
        if wish:
            return best(wish)
    return "en"


def _(text: str) -> str:
    """`text` in the language spoken now. Braces are filled in afterwards, with `str.format`."""
    return _catalogue(_language.get()).gettext(text)


def plural(one: str, many: str, count: int) -> str:
    """The form of a text that goes with `count`, in the language spoken now."""
    return _catalogue(_language.get()).ngettext(one, many, count)


@cache
def _catalogue(name: str) -> gettext.NullTranslations:
    if name == "en":
        return gettext.NullTranslations()  # the source's own language: nothing to look for on the disk
    return gettext.translation("dumont", LOCALE, [name], fallback=True)
