"""Filters, orders and pages as the service understands them, for offers and for instances."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Row = dict[str, Any]

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda have, want: have == want,
    "neq": lambda have, want: have != want,
    "gt": lambda have, want: have > want,
    "gte": lambda have, want: have >= want,
    "lt": lambda have, want: have < want,
    "lte": lambda have, want: have <= want,
    "in": lambda have, want: have in want,
    "notin": lambda have, want: have not in want,
}


class Invalid(Exception):
    """A query that the service answers with 400."""


def as_kind(value: Any, example: Any) -> Any:
    """A filter's value in the type of the field: the official CLI sends most numbers and truths as text."""
    if isinstance(value, list):
        return [as_kind(item, example) for item in value]
    if not isinstance(value, str) or isinstance(example, str) or example is None:
        return value
    if isinstance(example, bool):
        return value.strip().lower() in ("true", "1")
    try:
        return float(value)
    except ValueError as error:
        raise Invalid(f"{value!r} is not a number") from error


def passes(row: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    """Whether a row passes `{field: {operator: value}}`. A field that a row lacks passes, as with the service.

    Raises Invalid for an unknown operator.
    """
    for name, conditions in filters.items():
        if not isinstance(conditions, dict):
            raise Invalid(f"{name} needs an object of an operator and a value")
        for operator, wanted in conditions.items():
            if operator not in OPERATORS:
                raise Invalid(f"{operator} is not a valid search op")
            if name in row and not _holds(row[name], operator, as_kind(wanted, row[name])):
                return False
    return True


def _holds(have: Any, operator: str, want: Any) -> bool:
    if have is None and operator in ("gt", "gte", "lt", "lte"):
        return False
    try:
        return OPERATORS[operator](have, want)
    except TypeError as error:
        raise Invalid(f"{want!r} can't be compared by {operator}") from error


def ordered(rows: Iterable[Row], order: Iterable[tuple[str, str]]) -> list[Row]:
    """Rows by several fields, the first one first; what is null comes last in either direction."""
    result = list(rows)
    for name, direction in reversed(list(order)):
        known = [row for row in result if row.get(name) is not None]
        known.sort(key=lambda row: row[name], reverse=direction == "desc")
        result = known + [row for row in result if row.get(name) is None]
    return result


def structured(text: str | None, default: Any) -> Any:
    """A query parameter that holds JSON; `default` when there is none. Raises Invalid."""
    if text is None:
        return default
    try:
        return json.loads(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is not JSON") from error
