"""The rules reader: text in, reading out. Pure, without I/O, and it never raises on anybody's text."""

from dataclasses import dataclass
from typing import Literal

from dumont.advisor.note import Note
from dumont.advisor.reader.card import mark_cards
from dumont.advisor.reader.data import read_data, read_media
from dumont.advisor.reader.load import read_load
from dumont.advisor.reader.machine import read_machine
from dumont.advisor.reader.model import mark_models
from dumont.advisor.reader.money import read_budget
from dumont.advisor.reader.number import mark_numbers
from dumont.advisor.reader.page import Page
from dumont.advisor.reader.period import read_period
from dumont.advisor.reader.place import read_terms
from dumont.advisor.reader.scene import read_scene, read_sides
from dumont.advisor.reader.size import read_size
from dumont.advisor.reader.task import settle_use, task_of
from dumont.advisor.reader.text import TEXT_CHARS_MAX, Lang, fold, language_of, spelled_out, without_orders
from dumont.advisor.reader.training import read_format, read_method, read_training
from dumont.advisor.reader.vocabulary import signals_of, spelling_forgiven
from dumont.advisor.workload import Workload, valid_part

Reader = Literal["rules", "llm"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was read: the workload, the question's language, who read it, and what the person should know about that."""

    workload: Workload
    lang: Lang
    reader: Reader = "rules"
    notes: tuple[Note, ...] = ()


def read(text: str, lang: Lang = "pt-BR") -> Reading:
    """A description in Portuguese or English as a reading; `lang` counts when the text does not tell its language."""
    said_in = language_of(text) or lang
    page = _marked(text, said_in)
    read_size(page)
    page.say("task", task_of(page))
    raw = page.plain()
    _read_model(page)
    read_format(page, raw)
    read_method(page)
    read_budget(page)
    read_sides(page)
    read_training(page)
    read_scene(page)
    read_load(page)
    read_media(page)
    read_machine(page)
    read_period(page)
    read_data(page)
    settle_use(page)
    read_method(page)
    read_terms(page, raw)
    return Reading(workload=valid_part(page.said), lang=said_in, notes=_notes(page, text))


def _marked(text: str, lang: Lang) -> Page:
    plain = spelling_forgiven(spelled_out(without_orders(fold(text)), lang))
    with_cards, cards = mark_cards(plain)
    with_models, models = mark_models(with_cards)
    marked, numbers = mark_numbers(with_models, lang)
    heard, _ = signals_of(plain, lang)
    return Page(marked, lang, numbers, models, cards, heard, plain)


def _notes(page: Page, text: str) -> tuple[Note, ...]:
    refused = {"invalid-mining": (Note.MINING,), "invalid-gaming": (Note.GAMING,)}.get(page.task, ())
    return (*refused, Note.CUT) if len(text) > TEXT_CHARS_MAX else refused


def _read_model(page: Page) -> None:
    fitting = [model for model in page.models if model.kind != "upscale"]
    page.say(
        "model", fitting[0].name if fitting and page.first(r"\b(?:any|qualquer|algum|whichever) <m>") is None else None
    )
