"""A page: one text under reading. Rules take numbers from it, each number once, and say fields of the workload."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from dumont.advisor.reader.number import Number
from dumont.advisor.reader.text import CARD, MODEL, NUMBER, Lang


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """A rule's pattern, where `<n>`, `<m>`, `<g>` are a number, a model, a GPU (each a group: its index)."""
    for short, mark in (("<n>", NUMBER), ("<m>", MODEL), ("<g>", CARD)):
        pattern = pattern.replace(short, f"{mark}(\\d+){mark}")
    return re.compile(pattern)


@dataclass(frozen=True)
class Model:
    """A model that the text names: normal form, kind (`llm`, `diffusion`, `asr`…), size in billions when written."""

    name: str
    kind: str
    params_b: float | None = None


@dataclass(frozen=True)
class Card:
    """A GPU that the text names: normal form, how many when a number stands with it, gigabytes when written."""

    name: str
    count: int | None = None
    vram_gb: float | None = None


@dataclass
class Page:
    """The marked text, what the marks stand for, and what the rules said so far; `source` is the text before marks."""

    text: str
    lang: Lang
    numbers: list[Number] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    signals: frozenset[str] = frozenset()
    source: str = ""
    said: dict[str, Any] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)

    @property
    def task(self) -> str:
        """The task as read so far."""
        return str(self.said.get("task", "unknown"))

    def find(self, pattern: str) -> Iterator[re.Match[str]]:
        """Matches of a pattern whose numbers no rule has taken yet, in the order of the text."""
        for match in compiled(pattern).finditer(self.text):
            if not any(index in self.used for index in self._indices(match)):
                yield match

    def first(self, pattern: str) -> re.Match[str] | None:
        """The first match whose numbers are free."""
        return next(self.find(pattern), None)

    def number(self, match: re.Match[str], nth: int = 1) -> Number:
        """The nth number that a match holds in its groups, counted from 1."""
        return self.numbers[self._indices(match)[nth - 1]]

    def numbers_in(self, match: re.Match[str]) -> list[Number]:
        """All numbers that a match holds in its groups, in order."""
        return [self.numbers[index] for index in self._indices(match)]

    def say(self, name: str, value: Any, match: re.Match[str] | None = None) -> bool:
        """Set a field unless it was said before, and take the numbers of the match; whether the field is new."""
        if match is not None:
            self.used.update(self._indices(match))
        if name in self.said or value is None:
            return False
        self.said[name] = value
        return True

    def take(self, match: re.Match[str]) -> None:
        """Take the numbers of a match out of play without saying anything."""
        self.used.update(self._indices(match))

    def heard(self, *signals: str) -> bool:
        """Whether any of these signals is in the text."""
        return not self.signals.isdisjoint(signals)

    def plain(self, free_only: bool = False) -> str:
        """The text with its numbers as digits again, for names with digits in them (`bf16`); taken ones may stay."""
        parts = self.text.split(NUMBER)
        return "".join(self._digits(part, free_only) if i % 2 else part for i, part in enumerate(parts))

    def _digits(self, index: str, free_only: bool) -> str:
        if free_only and int(index) in self.used:
            return f"{NUMBER}{index}{NUMBER}"
        number = self.numbers[int(index)]
        return f"{number.value:g}{number.suffix}"

    def kinds(self) -> frozenset[str]:
        """The kinds of the models named."""
        return frozenset(model.kind for model in self.models)

    def _indices(self, match: re.Match[str]) -> list[int]:
        groups = range(1, (match.re.groups or 0) + 1)
        return [
            int(match.group(g))
            for g in groups
            if match.group(g) is not None
            and match.start(g) > 0
            and self.text[match.start(g) - 1] == NUMBER
            and match.group(g).isdigit()
        ]
