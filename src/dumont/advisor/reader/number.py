"""Numbers in text: digits as both languages write them, with suffixes, and number words; each replaced by a mark."""

import re
from dataclasses import dataclass

from dumont.advisor.reader.text import CARD, MODEL, NUMBER, Lang

VALUE_MAX = 1e15
NUMBERS_MAX = 100

_SCALES = {
    "k": 1e3,
    "mil": 1e3,
    "thousand": 1e3,
    "thousands": 1e3,
    "m": 1e6,
    "mm": 1e6,
    "mi": 1e6,
    "mio": 1e6,
    "mln": 1e6,
    "milhao": 1e6,
    "milhoes": 1e6,
    "million": 1e6,
    "millions": 1e6,
    "b": 1e9,
    "bi": 1e9,
    "bn": 1e9,
    "bilhao": 1e9,
    "bilhoes": 1e9,
    "billion": 1e9,
    "billions": 1e9,
    "t": 1e12,
    "tri": 1e12,
    "trilhao": 1e12,
    "trilhoes": 1e12,
    "trillion": 1e12,
}
_GLUED_ONLY = frozenset({"m", "t", "mm"})  # "10 m" is ten metres or minutes; "10m" may be ten million

_PT = """dois=2 duas=2 tres=3 quatro=4 cinco=5 seis=6 sete=7 oito=8 nove=9 dez=10 onze=11 doze=12 treze=13 quatorze=14
catorze=14 quinze=15 dezesseis=16 dezessete=17 dezoito=18 dezenove=19 vinte=20 trinta=30 quarenta=40 cinquenta=50
cincoenta=50 sessenta=60 setenta=70 oitenta=80 noventa=90 cem=100 cento=100 duzentos=200 duzentas=200 trezentos=300
trezentas=300 quatrocentos=400 quatrocentas=400 quinhentos=500 quinhentas=500 seiscentos=600 seiscentas=600
setecentos=700 setecentas=700 oitocentos=800 oitocentas=800 novecentos=900 novecentas=900"""
_EN = """two=2 three=3 four=4 five=5 six=6 seven=7 eight=8 nine=9 ten=10 eleven=11 twelve=12 thirteen=13 fourteen=14
fifteen=15 sixteen=16 seventeen=17 eighteen=18 nineteen=19 twenty=20 thirty=30 forty=40 fifty=50 sixty=60 seventy=70
eighty=80 ninety=90"""
_WORDS = {word: float(value) for word, value in (pair.split("=") for pair in f"{_PT} {_EN}".split())}
_MULTIPLIERS = {
    "mil": 1e3,
    "thousand": 1e3,
    "milhao": 1e6,
    "milhoes": 1e6,
    "million": 1e6,
    "bilhao": 1e9,
    "bilhoes": 1e9,
    "billion": 1e9,
    "hundred": 1e2,
    "dozen": 12.0,
    "duzia": 12.0,
    "duzias": 12.0,
    "trilhao": 1e12,
    "trilhoes": 1e12,
    "trillion": 1e12,
}
_ONES = {"um": 1.0, "uma": 1.0, "one": 1.0, "a": 1.0, "meio": 0.5, "meia": 0.5, "half a": 0.5}

_SUFFIXES = "|".join(sorted((s for s in _SCALES if s not in _GLUED_ONLY), key=len, reverse=True))
_DIGITS = (
    rf"(?<![\w.,{MODEL}{CARD}])"
    r"(?:(?P<grouped>\d{1,3}(?:[.]\d{3})+(?:,\d{1,2})?|\d{1,3}(?:,\d{3})+(?:\.\d{1,2})?)"
    r"|(?P<plain>\d{1,13}(?:[.,]\d{1,6})?))"
    rf"(?:(?: ?(?P<suffix>{_SUFFIXES})|(?P<glued>mm|m|t))(?![a-z0-9]))?(?![\d])"
)
_ANY_WORD = "|".join(sorted(_WORDS, key=len, reverse=True))
_ANY_MULTIPLIER = "|".join(sorted(_MULTIPLIERS, key=len, reverse=True))
_SPELLED = (
    rf"\b(?P<spelled>(?:(?:um|uma|one|a|meio|meia|half a) (?:{_ANY_MULTIPLIER})|{_ANY_WORD}|mil)"
    rf"(?:(?: e | and |[ -])(?:{_ANY_WORD}|{_ANY_MULTIPLIER})\b){{0,8}})\b"
)
_NUMBER = re.compile(f"{_DIGITS}|{_SPELLED}")


@dataclass(frozen=True)
class Number:
    """A number as written: `value` before its suffix ("8" of "8k"), the suffix ("" when none), and whether in words."""

    value: float
    suffix: str = ""
    worded: bool = False

    @property
    def scale(self) -> float:
        """What the suffix multiplies by."""
        return _SCALES.get(self.suffix, 1.0)

    @property
    def count(self) -> float:
        """The number with its suffix, rounded to what the digits can mean (0.1 + 0.2 noise is ours, not theirs)."""
        return round(self.value * self.scale, 6)


def mark_numbers(text: str, lang: Lang) -> tuple[str, list[Number]]:
    """Folded text with each number replaced by NUMBER + index + NUMBER, and the numbers by index."""
    numbers: list[Number] = []

    def marked(match: re.Match[str]) -> str:
        number = _number(match, lang)
        if number is None or number.count > VALUE_MAX or len(numbers) >= NUMBERS_MAX:
            return match.group()
        numbers.append(number)
        return f"{NUMBER}{len(numbers) - 1}{NUMBER}"

    return _NUMBER.sub(marked, text), numbers


def _number(match: re.Match[str], lang: Lang) -> Number | None:
    if spelled := match.group("spelled"):
        return Number(_spelled(spelled), worded=True)
    suffix = match.group("suffix") or match.group("glued") or ""
    grouped, plain = match.group("grouped"), match.group("plain")
    return Number(_grouped(grouped, lang) if grouped else float(plain.replace(",", ".")), suffix)


def _grouped(digits: str, lang: Lang) -> float:
    """`1.200,50`, `1,200.50`, `10.000`: a dot before exactly three digits groups thousands in Portuguese; in English
    only when nothing else is plausible (`10.000` has no reason to be ten, `1.125` may be a size)."""
    if re.fullmatch(r"\d{1,3}\.\d{3}", digits) and lang == "en" and not digits.endswith("000"):
        return float(digits)
    if digits.startswith("0"):
        return float(digits.replace(",", ".")) if digits.count(",") + digits.count(".") == 1 else 0.0
    dot_groups = digits.find(".") < digits.find(",") if "." in digits and "," in digits else "." in digits
    group, point = (".", ",") if dot_groups else (",", ".")
    return float(digits.replace(group, "").replace(point, "."))


def _spelled(words: str) -> float:
    total, current = 0.0, 0.0
    text = words.replace("half a", "meio").replace("-", " ")
    for word in text.split():
        if word in _ONES:
            current += _ONES[word]
        elif word in _WORDS:
            current += _WORDS[word]
        elif word in ("hundred", "dozen", "duzia", "duzias"):
            current = (current or 1.0) * _MULTIPLIERS[word]
        elif word in _MULTIPLIERS:
            total += (current or 1.0) * _MULTIPLIERS[word]
            current = 0.0
    return total + current
