"""An exchange rate: how many units of a currency a US dollar costs, with its source and date. It is an assumption."""

import csv
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources

from dumont.errors import BadInput
from dumont.i18n import _

CURRENCIES = ("USD", "BRL", "EUR", "GBP")
GIVEN = "given"
RATE_MAX = 1e6


@dataclass(frozen=True)
class Rate:
    """`per_usd` units of `currency` for one US dollar. `source` is GIVEN, without a date, when the person gave it."""

    currency: str
    per_usd: float
    source: str = GIVEN
    as_of: date | None = None

    def micros(self, amount: float) -> int:
        """An amount of this currency in micro-US-dollars."""
        return round(amount / self.per_usd * 1e6)

    def of(self, micros: int) -> float:
        """Micro-US-dollars as an amount of this currency."""
        return micros / 1e6 * self.per_usd


@cache
def rates() -> dict[str, Rate]:
    """The dated rates that ship with Dumont, by currency. There is none for a currency that nobody looked up."""
    text = resources.files("dumont.advisor").joinpath("data", "exchange.csv").read_text(encoding="utf-8")
    return {
        row["currency"]: Rate(row["currency"], float(row["per_usd"]), row["source"], date.fromisoformat(row["as_of"]))
        for row in csv.DictReader(text.splitlines())
    }


def rate_of(currency: str, given: float | None = None) -> Rate:
    """The rate to use: the given one, else the dated one.

    Raises:
        BadInput: the given one makes no sense, or there is no dated one.
    """
    if given is not None:
        if not 0 < given <= RATE_MAX:
            raise BadInput(_("an exchange rate is a number above 0, such as 5.40"))
        return Rate(currency, given)
    known = rates().get(currency)
    if known is None:
        raise BadInput(
            _("no dated exchange rate is known for {currency}: give one with --exchange, in {currency} per US$").format(
                currency=currency
            )
        )
    return known
