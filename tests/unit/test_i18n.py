"""Languages: which one is spoken, and that no catalogue has holes."""

import io
from pathlib import Path

import pytest
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po

from dumont import i18n


@pytest.mark.parametrize(
    ("wish", "language"),
    [
        ("pt", "pt_BR"),
        ("pt-BR", "pt_BR"),
        ("pt_PT.UTF-8", "pt_BR"),
        ("C.UTF-8", "en"),
        ("de, pt;q=0.5", "pt_BR"),
        ("", "en"),
    ],
)
def test_a_wish_is_met_as_well_as_can_be(wish: str, language: str) -> None:
    """Environment, option and Accept-Language write the same language in three ways."""
    assert i18n.best(wish) == language


def test_the_option_wins_over_the_environment() -> None:
    """Whoever types it means it."""
    assert i18n.wished({"LANG": "pt_BR.UTF-8"}, "en") == "en"
    assert i18n.wished({"LANG": "pt_BR.UTF-8"}) == "pt_BR"
    assert i18n.wished({"LANG": "pt_BR.UTF-8", "LC_ALL": "C"}) == "en"
    assert i18n.wished({}) == "en"


def test_a_text_without_a_catalogue_stays_readable() -> None:
    """A checkout that nobody compiled speaks English instead of failing."""
    i18n.use("pt_BR")
    assert i18n._("no catalogue holds this sentence") == "no catalogue holds this sentence"
    assert i18n.language() == "pt_BR"


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_every_catalogue_is_complete_and_compiles(language: str) -> None:
    """A half-translated page is worse than one in English."""
    source = Path(i18n.LOCALE) / language / "LC_MESSAGES" / "dumont.po"
    with source.open("rb") as file:
        catalogue = read_po(file, locale=language)
    holes = [message.id for message in catalogue if message.id and not message.string]
    assert holes == []
    assert [error for message in catalogue for error in message.check(catalogue)] == []
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    assert len(read_mo(compiled)) == len(catalogue)
