"""The filter language for offers: `gpu=RTX 4090 vram>=24 region=BR,US price<0.5 gpus=2 spot=yes sort=cost`. Pure.

A query is a row of conditions, all of which must hold: a key, an operator and a value, which may hold spaces. A comma
between values means any of them. Units are those people use: GB, dollars an hour for the whole machine, Mbit/s.
"""

import difflib
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from dumont.errors import BadInput
from dumont.i18n import _
from dumont.market.cost import Priced
from dumont.market.names import gpu_name, gpus
from dumont.market.regions import lies_in
from dumont.model.instance import Machine
from dumont.model.offer import Need, Offer

Test = Callable[[Offer], bool]
Compare = Callable[[Decimal, Decimal], bool]

_CONDITION = re.compile(r"(?:^|(?<=\s))([A-Za-z_][\w.]*)\s*(>=|<=|!=|==|=|>|<)")
_COMPARE: dict[str, Compare] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
    "!=": operator.ne,
}
_MB_PER_GB = 1000
_NOMINAL = Decimal("0.95")
"""A card sold as 24 GB shows a program a little less; it still counts as one."""
NUMBERS: dict[str, Callable[[Offer], float | int | None]] = {
    "vram": lambda offer: offer.vram_mb,
    "ram": lambda offer: offer.ram_mb,
    "disk": lambda offer: offer.disk_gb,
    "gpus": lambda offer: offer.gpus,
    "vcpus": lambda offer: offer.vcpus,
    "price": lambda offer: offer.price_micros_per_hour,
    "reliability": lambda offer: offer.reliability,
    "down": lambda offer: offer.down_mbps,
    "up": lambda offer: offer.up_mbps,
}
SCALES = {"vram": _MB_PER_GB, "ram": _MB_PER_GB, "price": 1_000_000}
TEXTS: dict[str, Callable[[Offer], tuple[str, ...]]] = {
    "provider": lambda offer: (offer.provider,),
    "zone": lambda offer: (offer.zone,),
    "host": lambda offer: (offer.host,),
    "interruption": lambda offer: (offer.interruption.value,),
}
SORTS: dict[str, Callable[[Priced], float | int | str | None]] = {
    "cost": lambda one: one.micros_per_hour,
    "price": lambda one: one.offer.price_micros_per_hour,
    "price_per_gpu": lambda one: one.offer.price_micros_per_hour / max(1, one.offer.gpus),
    "hazard": lambda one: one.hazard.per_hour,
    "vram": lambda one: one.offer.vram_mb,
    "reliability": lambda one: one.offer.reliability,
    "down": lambda one: one.offer.down_mbps,
    "gpu": lambda one: one.offer.gpu,
    "region": lambda one: one.offer.region,
}
KEYS = ("gpu", "region", "spot", "verified", "machine", *NUMBERS, *TEXTS, "sort")
_YES, _NO = ("yes", "true", "1", "sim"), ("no", "false", "0", "não", "nao")


@dataclass(frozen=True)
class Condition:
    """One condition as it was written."""

    key: str
    sign: str
    value: str

    def __str__(self) -> str:
        return f"{self.key}{self.sign}{self.value}"


@dataclass(frozen=True)
class Query:
    """What was asked for: a need that providers can search by, and a test that every offer has to pass."""

    need: Need
    tests: tuple[Test, ...] = ()
    sort: str = "cost"
    descending: bool = False
    conditions: tuple[Condition, ...] = field(default=())

    def matches(self, offer: Offer) -> bool:
        """Whether an offer is what was asked for. What its provider does not tell fulfils no condition."""
        return all(test(offer) for test in self.tests)

    def sorted(self, found: list[Priced]) -> list[Priced]:
        """In the order asked for; what is not known comes last, and equals come by expected cost."""
        by_cost = sorted(found, key=lambda one: (one.micros_per_hour, one.offer.id))
        key = SORTS[self.sort]
        known = [one for one in by_cost if key(one) not in (None, "")]
        unknown = [one for one in by_cost if key(one) in (None, "")]
        return sorted(known, key=key, reverse=self.descending) + unknown  # type: ignore[arg-type]


def parse(text: str) -> Query:
    """The query that `text` writes. Raises BadInput, saying what to write instead."""
    conditions = _conditions(text)
    tests: list[Test] = []
    need: dict[str, object] = {"machine": Machine.GPU, "on_demand": True}
    sort, descending = "cost", False
    for condition in conditions:
        if condition.key == "sort":
            sort, descending = _sort(condition)
            continue
        if condition.key in NUMBERS:
            tests.append(_number(condition, need))
        else:
            tests.append(_WORDS.get(condition.key, _text)(condition, need))
    made = Need(**need)  # type: ignore[arg-type]
    tests.append(lambda offer: offer.machine is made.machine)
    return Query(made, tuple(tests), sort, descending, conditions)


def _conditions(text: str) -> tuple[Condition, ...]:
    marks = list(_CONDITION.finditer(text))
    before = text[: marks[0].start()] if marks else text
    if before.strip():
        raise BadInput(_("{word!r} is no condition; write one like gpu=RTX 4090").format(word=before.strip()))
    ends = [mark.start() for mark in marks[1:]] + [len(text)] * bool(marks)
    return tuple(_condition(mark, text[mark.end() : end].strip()) for mark, end in zip(marks, ends, strict=True))


def _condition(mark: re.Match[str], value: str) -> Condition:
    key, sign = mark[1].lower(), "=" if mark[2] == "==" else mark[2]
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, 1)
        if near:
            raise BadInput(_("there is no condition {key!r}; did you mean {near!r}?").format(key=key, near=near[0]))
        known = ", ".join(KEYS)
        raise BadInput(_("there is no condition {key!r}; there are {known}").format(key=key, known=known))
    if not value:
        raise BadInput(_("{key} has no value; write it like {key}=…").format(key=key))
    if sign in ("<", ">", "<=", ">=") and key not in NUMBERS:
        raise BadInput(_("{key} is no number; write {key}={value}").format(key=key, value=value))
    return Condition(key, sign, value)


def _sort(condition: Condition) -> tuple[str, bool]:
    name = condition.value.removeprefix("-").lower()
    if name not in SORTS or condition.sign != "=":
        known = ", ".join(SORTS)
        raise BadInput(_("offers can be sorted by {known}; -{name} turns it round").format(known=known, name="vram"))
    return name, condition.value.startswith("-")


def _number(condition: Condition, need: dict[str, object]) -> Test:
    key, bound = condition.key, _decimal(condition)
    scaled = bound * SCALES.get(key, 1)
    if key == "vram" and condition.sign in (">=", ">", "="):
        return _vram(condition, scaled, need)
    _bound_need(condition, scaled, need)
    read, compare = NUMBERS[key], _COMPARE[condition.sign]

    def test(offer: Offer) -> bool:
        value = read(offer)
        return value is not None and compare(Decimal(str(value)), scaled)

    return test


def _vram(condition: Condition, nominal_mb: Decimal, need: dict[str, object]) -> Test:
    """Memory is asked for as it is sold; `vram=24` means cards of 24 GB."""
    least = nominal_mb * _NOMINAL
    most = nominal_mb * Decimal("1.1") if condition.sign == "=" else None
    if condition.sign == ">":
        least = nominal_mb * Decimal("1.1")
    need["vram_mb_min"] = int(least)

    def test(offer: Offer) -> bool:
        return offer.vram_mb is not None and offer.vram_mb >= least and (most is None or offer.vram_mb <= most)

    return test


def _bound_need(condition: Condition, scaled: Decimal, need: dict[str, object]) -> None:
    """What providers can search by as well; the test decides all the same."""
    key, sign = condition.key, condition.sign
    if key == "price" and sign in ("<", "<=", "="):
        need["price_micros_per_hour_max"] = int(scaled)
    if sign not in (">=", ">", "="):
        return
    if key == "gpus":
        need["gpus"] = max(1, int(scaled))
    elif key == "ram":
        need["ram_mb_min"] = int(scaled)
    elif key == "disk":
        need["disk_gb"] = int(scaled)
    elif key == "reliability":
        need["reliability_min"] = float(scaled)


def _decimal(condition: Condition) -> Decimal:
    """The number in a value such as "24", "24 GB", "$0.5" or "97 %"."""
    text = re.sub(r"^\$|\s*(gb|mbps|mbit/s|usd|\$)$", "", condition.value.strip().lower()).strip()
    share = text.endswith("%")
    try:
        number = Decimal(text.removesuffix("%").strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0 or number > 10**9:
        raise BadInput(
            _("{key} needs a number, and {value!r} is none; write it like {key}{sign}24").format(
                key=condition.key, value=condition.value, sign=condition.sign
            )
        )
    return number / 100 if share else number


def _words(condition: Condition) -> list[str]:
    return [word.strip() for word in condition.value.split(",") if word.strip()]


def _signed(condition: Condition, test: Test) -> Test:
    return test if condition.sign == "=" else lambda offer: not test(offer)


def gpu_family(text: str) -> frozenset[str]:
    """The models that `text` names: one ("RTX 4090"), or all of a family ("A100"). Raises BadInput if there is none."""
    exact = [name for name in gpus() if name.lower() == text.lower()]
    family = [name for name in gpus() if name.lower().startswith(text.lower() + " ")]
    known = gpu_name(text)
    found = exact or family or ([known] if known else [])
    if not found:
        near = difflib.get_close_matches(text.upper(), gpus(), 3, 0.4) or ["RTX 4090", "A100", "L4"]
        raise BadInput(
            _("no GPU is called {text!r}; did you mean {near}?").format(text=text, near=_(" or ").join(near))
        )
    return frozenset(found)


def _gpu(condition: Condition, need: dict[str, object]) -> Test:
    names = frozenset().union(*(gpu_family(word) for word in _words(condition)))
    if condition.sign == "=":
        need["gpu_names"] = names
    return _signed(condition, lambda offer: offer.gpu in names)


def _region(condition: Condition, need: dict[str, object]) -> Test:
    names = frozenset(_words(condition))
    if condition.sign == "=":
        need["regions"] = names
    return _signed(condition, lambda offer: lies_in(offer, names))


def _yes(condition: Condition) -> bool:
    word = condition.value.lower()
    if word not in (*_YES, *_NO):
        raise BadInput(_("{key} is yes or no, and {value!r} is neither").format(key=condition.key, value=word))
    return (word in _YES) == (condition.sign == "=")


def _spot(condition: Condition, need: dict[str, object]) -> Test:
    if condition.value.lower() in ("any", "both"):
        return lambda offer: True
    spot = _yes(condition)
    need |= {"spot": spot, "on_demand": not spot}
    return lambda offer: offer.spot is spot


def _verified(condition: Condition, need: dict[str, object]) -> Test:
    wanted = _yes(condition)
    return lambda offer: offer.verified is wanted


def _machine(condition: Condition, need: dict[str, object]) -> Test:
    kinds = {kind.value: kind for kind in Machine}
    kind = kinds.get(condition.value.lower())
    if kind is None or condition.sign != "=":
        raise BadInput(_("a machine is gpu or cpu; write machine=cpu"))
    need["machine"] = kind
    return lambda offer: offer.machine is kind


def _text(condition: Condition, need: dict[str, object]) -> Test:
    read, names = TEXTS[condition.key], {word.lower() for word in _words(condition)}
    return _signed(condition, lambda offer: any(value.lower() in names for value in read(offer)))


_WORDS: dict[str, Callable[[Condition, dict[str, object]], Test]] = {
    "gpu": _gpu,
    "region": _region,
    "spot": _spot,
    "verified": _verified,
    "machine": _machine,
}
