"""Names of GPUs in text: each replaced by a mark, with its normal form, how many of it and its written gigabytes."""

import re

from dumont.advisor.reader.page import Card
from dumont.advisor.reader.text import CARD

CARDS_MAX = 20

_GRADE = r"(?:[ -]?(?P<grade>ti super|ti|super))?"
_GEFORCE = re.compile(rf"(?:rtx[ -]?)?(?P<geforce>[2345]0[5-9]0){_GRADE}")
_NAMED = (
    (r"rtx[ -]?pro[ -]?6000(?: blackwell)?", "RTX PRO 6000 Blackwell"),
    (r"rtx[ -]?pro[ -]?5000(?: blackwell)?", "RTX PRO 5000 Blackwell"),
    (r"rtx[ -]?pro[ -]?4500(?: blackwell)?", "RTX PRO 4500 Blackwell"),
    (r"rtx[ -]?pro[ -]?4000(?: blackwell)?", "RTX PRO 4000 Blackwell"),
    (r"(?:rtx[ -]?)?6000[ -]?ada", "RTX 6000 Ada"),
    (r"(?:rtx[ -]?)?5000[ -]?ada", "RTX 5000 Ada"),
    (r"(?:rtx[ -]?)?4000[ -]?ada", "RTX 4000 Ada"),
    (r"(?:rtx[ -]?)?a6000", "RTX A6000"),
    (r"(?:rtx[ -]?)?a5000", "RTX A5000"),
    (r"(?:rtx[ -]?)?a4500", "RTX A4500"),
    (r"(?:rtx[ -]?)?a4000", "RTX A4000"),
    (r"rtx[ -]?8000", "Quadro RTX 8000"),
    (r"titan rtx", "TITAN RTX"),
    (r"(?:gtx[ -]?)?1080 ?ti", "GTX 1080 Ti"),
    (r"gtx[ -]?1080", "GTX 1080"),
    (r"gb200(?: nvl72)?", "GB200"),
    (r"gh200", "GH200"),
    (r"b300", "B300"),
    (r"b200", "B200"),
    (r"h200(?: (?:sxm|nvl))?", "H200"),
    (r"h100(?: ?-?nvl)", "H100 NVL"),
    (r"h100(?: ?-?pcie)", "H100 PCIe"),
    (r"h100(?:[ -]?(?:sxm5?))?", "H100"),
    (r"h800", "H800"),
    (r"h20", "H20"),
    (r"a100(?:[ -]?(?:sxm4?|pcie))?", "A100"),
    (r"a800", "A800"),
    (r"a10g", "A10G"),
    (r"a10", "A10"),
    (r"a16", "A16"),
    (r"a30", "A30"),
    (r"a40", "A40"),
    (r"l40s", "L40S"),
    (r"l40", "L40"),
    (r"l4", "L4"),
    (r"t4", "T4"),
    (r"v100(?:[ -]?sxm2)?", "V100"),
    (r"p100", "P100"),
    (r"p40", "P40"),
    (r"k80", "K80"),
    (r"mi355x?", "MI355X"),
    (r"mi325x?", "MI325X"),
    (r"mi300x?", "MI300X"),
    (r"mi250x?", "MI250X"),
    (r"mi210", "MI210"),
    (r"(?:rx[ -]?)?7900 ?xtx", "RX 7900 XTX"),
)
_SIZES = {
    "A100": (40, 80),
    "V100": (16, 32),
    "RTX 3060": (12,),
    "RTX 3080": (10, 12),
    "RTX 4060 Ti": (16,),
    "RTX 5060 Ti": (16,),
    "P100": (16,),
}
_BEFORE = re.compile(
    r"(?<![\w.,$])(?:(?P<count>\d{1,3}|uma?|one|single|dual|duas|dois|two|tres|three|quatro|four|oito|eight)"
    r" ?(?:x|vezes|units? of|cards?|gpus?|placas?(?: de video)?)?(?: de | da | do | of )? ?)?"
    r"(?:(?:nvidia|geforce|quadro|tesla|amd|radeon) )*$"
)
_BEFORE_CHARS = 60
_GB = (
    r"(?:[ -]?(?:de |com |with |of )?\(?(?P<gb>\d{1,4}) ?(?:gb|gib|g|giga"
    r"|gigas)(?![a-z])\)?(?! (?:de |of )?(?:ram|disco|disk|storage|ssd|texto|text|data|dados)\b))?"
)
_BARE_GB = r"(?: (?:de )?(?P<bare_gb>40|80|16|32)(?![\w.,]|\d)(?= (?:so\b|only|sxm|pcie)|$|[ ]?[?!.,;]))?"
_BEHIND = r"(?:[ -]?x ?(?P<times>\d{1,3})(?![\w.]))?"
_END = r"s?(?![\w]|,\d|\.\d)"
# Branches without groups, each beginning with a letter or digit: the engine drops a branch at its first character.
_ANY = re.compile(
    rf"(?:(?<![\w.,$])|(?<=\dx))(?:rtx[ -]?[2345]0[5-9]0|[2345]0[5-9]0|{'|'.join(written for written, _ in _NAMED)})"
)
_EACH_NAMED = tuple((re.compile(written + _END), form) for written, form in _NAMED)
_GEFORCE_END = re.compile(_GEFORCE.pattern + _END)
_AFTER = re.compile(f"{_GB}{_BARE_GB}{_BEHIND}")
_MONEY_BEHIND = re.compile(
    r"^ ?(?:reais|dolares|dollars|usd|brl|euros?|gb|tokens?|imagens|images|exemplos|examples|steps"
    r"|passos|samples|mil|k|usuarios|users|frames|linhas|mhz|epocas|epochs)\b"
)
_NOT_BEFORE = re.compile(
    r"(?:r\$|\$|€|reais|batch|seq(?:_len)?|context[o]?|steps?|passos|resolucao|lote|len|max(?:imo)?(?: de)?) ?$"
)
_GRADES = {"ti": " Ti", "super": " SUPER", "ti super": " Ti SUPER"}
_WORDS = {
    "uma": 1,
    "um": 1,
    "one": 1,
    "single": 1,
    "dual": 2,
    "duas": 2,
    "dois": 2,
    "two": 2,
    "tres": 3,
    "three": 3,
    "quatro": 4,
    "four": 4,
    "oito": 8,
    "eight": 8,
}


def mark_cards(text: str) -> tuple[str, list[Card]]:
    """Folded text with each GPU (and the number with it) replaced by CARD + index + CARD, and the GPUs by index."""
    cards: list[Card] = []
    parts: list[str] = []
    at = 0
    found = _ANY.search(text)
    while found is not None and len(cards) < CARDS_MAX:
        start, end, card = _card(text, at, found.start())
        if card is None:
            found = _ANY.search(text, found.end())
            continue
        parts += (text[at:start], f"{CARD}{len(cards)}{CARD}")
        cards.append(card)
        at = end
        found = _ANY.search(text, at)
    parts.append(text[at:])
    return "".join(parts), cards


def _card(text: str, at: int, start: int) -> tuple[int, int, Card | None]:
    """The GPU whose name begins at `start`: where the whole mention begins (not before `at`) and ends."""
    geforce = _GEFORCE_END.match(text, start)
    named = next(((m, form) for pattern, form in _EACH_NAMED if (m := pattern.match(text, start))), None)
    if geforce is not None:
        end, name = geforce.end(), f"RTX {geforce.group('geforce')}{_GRADES.get(geforce.group('grade') or '', '')}"
        bare = geforce.group("grade") is None and text[start].isdigit()
    elif named is not None:
        end, name, bare = named[0].end(), named[1], False
    else:
        return start, start, None
    after = _AFTER.match(text, end)
    assert after is not None, "every part of it is optional"
    if bare and _is_plain_number(text, start, after.end()):
        return start, start, None
    before = _BEFORE.search(text, max(at, start - _BEFORE_CHARS), start)
    count = after.group("times") or (before.group("count") if before else None)
    written = after.group("gb") or after.group("bare_gb")
    gb = int(written) if written else None
    if gb in _SIZES.get(name, ()):
        name, gb = f"{name} {gb}GB", None
    card = Card(name, (_WORDS.get(count) or int(count)) if count else None, gb)
    return before.start() if before else start, after.end(), card


def _is_plain_number(text: str, start: int, end: int) -> bool:
    """Whether `3090` is a count of something rather than the card (`3090 imagens`, `R$ 3070`)."""
    return bool(_MONEY_BEHIND.match(text[end : end + 20]) or _NOT_BEFORE.search(text[max(0, start - 16) : start]))
