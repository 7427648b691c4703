"""Names of models in text: each replaced by a mark, with its normal form and the size written in it."""

import re

from dumont.advisor.reader.family import FAMILIES, NAMED, SILENT_VARIANTS, VARIANTS, Family
from dumont.advisor.reader.page import Model
from dumont.advisor.reader.text import MODEL

MODELS_MAX = 20

_SIZE = r"(?:\d+ ?x ?)?\d{1,4}(?:[.,]\d{1,2})?"
_UNIT = r"(?:b|bi|bilhoes|bilhao|billion|m)"
_VARIANT_WORDS = "|".join(re.escape(word) for word in sorted((*VARIANTS, *SILENT_VARIANTS), key=len, reverse=True))
_TAIL = re.compile(
    rf"(?:[ -]?v?(?P<version>\d{{1,2}}(?:\.\d{{1,2}})?)(?![\d.]*\d|[.,]?\d* ?x ?\d| ?(?:{_UNIT}|mil"
    r"|k|gb|x|gpus?|placas?|h|epo\w+)(?![a-z])| (?:gpus?|placas?|mil|usu\w+|users)\b))?"
    rf"(?P<variants>(?:[ :_-]{{1,2}}(?:{_VARIANT_WORDS})(?![a-z0-9]))*)"
    rf"(?:[ :_-]{{0,3}}\(?(?:de |of |com "
    rf"|with )?(?P<size>{_SIZE})(?: ?(?P<unit>{_UNIT})(?![a-z0-9]))\)?(?! (?:de )?tokens?))?"
    rf"(?P<active>-a\d{{1,3}}(?:\.\d)?b)?(?P<after>(?:[ "
    rf":_-](?:{_VARIANT_WORDS})(?![a-z0-9]))*)(?:[ -](?P<release>v0\.\d))?"
)
_BEFORE = re.compile(
    rf"(?<![\w.,])(?P<size>{_SIZE}) ?(?P<unit>{_UNIT}) (?:parameters? |params? )?(?:do |da |de |of "
    r"|version of |versao do )?$"
)
_FAMILY_END = r"(?=\d|v\d|\b)(?!\.cpp|cpp|[ -]?factory|[ -]?index|[ -]?bench)"
_NAMED_END = r"(?![a-z0-9])"
# Branches without groups, each beginning with a letter: the engine drops a branch at its first character. Which one it
# was is found out afterwards, in the same order, only where something matched.
_FAMILY = re.compile(rf"(?<![\w.])(?:{'|'.join(family.written for family in FAMILIES)}){_FAMILY_END}")
_EACH_FAMILY = [re.compile(rf"(?:{family.written}){_FAMILY_END}") for family in FAMILIES]
_NAMED = re.compile(
    rf"(?<![\w.])(?:{'|'.join(re.sub(r'[(](?![?])', '(?:', written) for written, _, _ in NAMED)}){_NAMED_END}"
)
_EACH_NAMED = [re.compile(rf"(?:{written}){_NAMED_END}") for written, _, _ in NAMED]
_FIELD = re.compile(r"\{(\d)([.^%]*)(?:\|([^}]*))?\}")
_WHOLE_DEEPSEEK = ("671B", "685B", "236B")  # the one size of R1 and V3, never written in their names
_TITLES = {"controlnet": " ControlNet"}


def mark_models(text: str) -> tuple[str, list[Model]]:
    """Folded text with each model's name replaced by MODEL + index + MODEL, and the models by index."""
    models: list[Model] = []
    parts: list[str] = []
    at = 0
    named, family = _NAMED.search(text), _FAMILY.search(text)
    while (named or family) and len(models) < MODELS_MAX:
        if named is not None and (family is None or named.start() <= family.start()):
            start, end, model = named.start(), named.end(), _named(named)
        elif family is not None:
            start, end, model = _of_family(text, at, family)
        parts += (text[at:start], f"{MODEL}{len(models)}{MODEL}")
        models.append(model)
        at = end
        if named is not None and named.start() < at:
            named = _NAMED.search(text, at)
        if family is not None and family.start() < at:
            family = _FAMILY.search(text, at)
    parts.append(text[at:])
    return "".join(parts), models


def _named(match: re.Match[str]) -> Model:
    exact, (_, form, kind) = next(
        (found, row)
        for pattern, row in zip(_EACH_NAMED, NAMED, strict=True)
        if (found := pattern.match(match.string, match.start()))
    )
    groups = exact.groups()

    def filled(slot: re.Match[str]) -> str:
        value = groups[int(slot.group(1))] if int(slot.group(1)) < len(groups) else None
        style, other = slot.group(2), slot.group(3)
        if value is None:
            return ""
        if other is not None:
            return _TITLES.get(other, other)
        value = value.title() if "^" in style and len(value) > 2 else value.upper() if "^" in style else value
        value = _yolo_size(value) if "%" in style else value
        return f"-{value}" if "." in style else value

    return Model(_FIELD.sub(filled, form), kind)


def _yolo_size(value: str) -> str:
    return {"nano": "n", "small": "s", "medium": "m", "large": "l", "xlarge": "x"}.get(value, value)


def _of_family(text: str, at: int, match: re.Match[str]) -> tuple[int, int, Model]:
    family = next(f for pattern, f in zip(_EACH_FAMILY, FAMILIES, strict=True) if pattern.match(text, match.start()))
    tail = _TAIL.match(text, match.end())
    assert tail is not None, "every part of the tail is optional"
    start, size, unit = match.start(), tail.group("size"), tail.group("unit")
    if size is None and (before := _BEFORE.search(text, max(at, match.start() - 60), match.start())):
        start, size, unit = before.start(), before.group("size"), before.group("unit")
    name = _name(family, tail, _written_size(size, unit, family))
    return start, tail.end(), Model(name, _kind(family, tail), _billions(size, unit))


def _name(family: Family, tail: re.Match[str], size: str) -> str:
    version = tail.group("version") or ""
    if family.name == "DeepSeek" and version:
        version = f"V{version}"
    parts = [family.name + (f"{family.joint}{version}" if version else "")]
    parts += _variants(tail.group("variants"))
    if size and not (family.name == "DeepSeek" and size in _WHOLE_DEEPSEEK):
        parts.append(size)
    parts += _variants(tail.group("after"))
    name = "-".join(parts)
    if active := tail.group("active"):
        name += active.upper()
    return name + (f"-{tail.group('release')}" if tail.group("release") else "")


def _variants(words: str | None) -> list[str]:
    return [VARIANTS[word] for word in re.split(r"[ :_-]+", words or "") if word in VARIANTS]


def _written_size(size: str | None, unit: str | None, family: Family) -> str:
    if size is None or unit is None:
        return ""
    size = size.replace(" ", "")
    letter = "m" if unit == "m" else "b"
    return f"{size.replace(',', '.')}{letter if family.lower_size else letter.upper()}"


def _billions(size: str | None, unit: str | None) -> float | None:
    """The size written in a name, in billions; `8x7B` names experts and says no total."""
    if size is None or unit is None or "x" in size:
        return None
    value = float(size.replace(",", "."))
    return value / 1000 if unit == "m" else value


def _kind(family: Family, tail: re.Match[str]) -> str:
    words = f"{tail.group('variants') or ''} {tail.group('after') or ''}"
    if re.search(r"\b(?:vl|vision|omni)\b", words):
        return "vlm"
    return "embedding" if re.search(r"\b(?:embedding|reranker)\b", words) else family.kind
