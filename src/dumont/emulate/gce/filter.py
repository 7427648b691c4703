"""Filters and pages: what a list call asks for, in the two expression languages that Google takes (never mixed)."""

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

from dumont.emulate.gce.refusal import invalid

PAGE_MAX = 500
_TERM = re.compile(r'\s*([A-Za-z0-9_.-]+)\s*(!=|>=|<=|=|:|<|>)\s*("[^"]*"|[^\s()"]+)\s*')
_REGEX_TERM = re.compile(r"\s*([A-Za-z0-9_.-]+)\s+(eq|ne)\s+(\"[^\"]*\"|'[^']*'|[^\s()]+)\s*")

Test = Callable[[Any], bool]


def matcher(text: str) -> Test:
    """A test for resources. Terms are AND-ed, also in parentheses. Raises Refusal for what is not understood."""
    terms = [term for term in re.split(r"\)\s*(?:AND\s*)?\(|\s+AND\s+|[()]", text) if term.strip()]
    tests = [_test(term) for term in terms]
    if len({kind for kind, _ in tests}) > 1:
        raise invalid(f"Invalid value for field 'filter': '{text}'. Expressions can't be mixed.")
    return lambda resource: all(test(resource) for _, test in tests)


def _test(term: str) -> tuple[str, Test]:
    if found := _REGEX_TERM.fullmatch(term):
        field, operator, pattern = found.groups()
        regex = re.compile(pattern.strip("\"'"))
        wanted = operator == "eq"
        return "regex", lambda resource: bool(regex.fullmatch(str(_value(resource, field) or ""))) is wanted
    if found := _TERM.fullmatch(term):
        field, operator, value = found.groups()
        return "aip", _comparison(field, operator, value.strip('"'))
    raise invalid(f"Invalid value for field 'filter': '{term.strip()}'.")


def _comparison(field: str, operator: str, wanted: str) -> Test:
    def test(resource: Any) -> bool:
        found = _value(resource, field)
        if operator == ":":
            return found is not None and (wanted == "*" or wanted.lower() in str(found).lower())
        if found is None:
            return operator == "!="
        text = str(found).lower() if isinstance(found, bool) else str(found)
        if operator in ("=", "!="):
            return (text == wanted) is (operator == "=")
        try:
            left, right = float(text), float(wanted)
        except ValueError:
            return text < wanted if operator.startswith("<") else text > wanted
        return {"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right}[operator]

    return test


def _value(resource: Any, field: str) -> Any:
    for part in field.split("."):
        if not isinstance(resource, Mapping):
            return None
        resource = resource.get(part)
    return resource


def page(
    resources: list[dict[str, Any]], query: Mapping[str, str], key: str = "name"
) -> tuple[list[dict[str, Any]], str]:
    """The resources of one page and the token of the next, "" at the end. Raises Refusal."""
    test = matcher(query.get("filter", ""))
    fits = sorted((entry for entry in resources if test(entry)), key=lambda entry: str(entry[key]))
    order = query.get("orderBy", "name")
    if order == "creationTimestamp desc":
        fits.sort(key=lambda entry: str(entry.get("creationTimestamp", entry.get("insertTime", ""))), reverse=True)
    elif order != "name":
        raise invalid(f"Invalid value for field 'orderBy': '{order}'.")
    try:
        size = int(query.get("maxResults", PAGE_MAX))
        after = int(base64.b64decode(query["pageToken"]).decode()) if query.get("pageToken") else 0
    except ValueError as error:
        raise invalid("Invalid value for field 'pageToken' or 'maxResults'.") from error
    if not 0 <= size <= PAGE_MAX:
        raise invalid(f"Invalid value for field 'maxResults': '{size}'.")
    chosen = fits[after : after + (size or PAGE_MAX)]
    end = after + len(chosen)
    return chosen, base64.b64encode(str(end).encode()).decode() if end < len(fits) else ""
