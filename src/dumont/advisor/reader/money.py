"""The budget in a text: how much, in which currency, per what."""

import re

from dumont.advisor.reader.page import Page

_SIGNS = r"(?P<sign>r\$|us\$|u\$|usd|brl|eur|gbp|\$|€|£)"
_NAMES = (
    r"(?P<name>centavos?|cents?|reais|real|brl|dolares|dolar|dollars?|usd|us\$|u\$|euros?|eur|€|\$"
    r"|libras|pounds?|gbp|£)"
)
_RANGE = r"(?:<n>(?: ?(?:-|a|ate|to|e|and|or|ou) ?)(?:r\$|us\$|\$|€|£)? ?)?"
_PATTERNS = (
    rf"(?:{_SIGNS}) ?{_RANGE}<n>",
    rf"{_RANGE}<n> ?(?:{_NAMES})(?![a-z])",
)
_UNNAMED = (
    r"\b(?:orcamento|budget|verba|gastar|spend|pagar|pay|teto|cap)\b[^.;\ue000]{0,24}?<n>(?! ?(?:gb"
    r"|h\b|hora|hour|dia|day|imag|tok|%|x\b|b\b|gpus?|placas?|users|usu|frames|epo))"
)
_CURRENCY = {
    "r$": "BRL",
    "reais": "BRL",
    "real": "BRL",
    "brl": "BRL",
    "€": "EUR",
    "euro": "EUR",
    "euros": "EUR",
    "eur": "EUR",
    "£": "GBP",
    "gbp": "GBP",
    "libras": "GBP",
    "pound": "GBP",
    "pounds": "GBP",
}
_PER = (
    ("hour", r"(?:(?:por|/|a|per|an|each|pela|cada|na) ?|p/)(?:h|hr|hora|hour|horas)\b|\bhourly\b|\bhora de gpu\b"),
    (
        "month",
        r"(?:(?:por|/|ao|per|a|each|no|cada|todo) ?|p/)(?:mes|month|mo)\b|\b(?:mensa(?:l|is)|monthly|mensalmente)\b",
    ),
    ("day", r"(?:(?:por|/|ao|per|a|each|cada) ?|p/)(?:dia|day)\b|\b(?:diaria|daily)\b"),
    ("week", r"(?:(?:por|/|a|per|na|cada) ?|p/)(?:semana|week)\b|\b(?:semanal|weekly)\b"),
    ("year", r"(?:(?:por|/|ao|per|a) ?|p/)(?:ano|year)\b|\b(?:anual|yearly|annually)\b"),
    (
        "item",
        (
            r"(?:(?:por|/|per|cada|a|each) ?|p/)(?:imagem|image|video|frame|quadro|minuto|minute|documento"
            r"|document|foto|token|1m|milhao|million)\b"
        ),
    ),
)
_SOMEBODY_ELSES = re.compile(
    r"\b(?:aws|azure|gcp|google cloud|lambda|runpod|colab pro|hoje (?:eu )?pag\w+|atualmente"
    r"|currently|right now|pagando|paying|me cobra\w*|custa|costs|esta custando)\b[^.;]{0,24}$"
)
_AROUND = 26


def read_budget(page: Page) -> None:
    """Say the budget. A range means its upper end; a price that somebody else asks is none."""
    for pattern in _PATTERNS:
        for match in page.find(pattern):
            if _SOMEBODY_ELSES.search(page.text[max(0, match.start() - 60) : match.start()]):
                page.take(match)
                continue
            groups = match.groupdict()
            currency = _CURRENCY.get(groups.get("sign") or groups.get("name") or "", "USD")
            _say(page, match, currency)
    if "budget" not in page.said and (bare := page.first(_UNNAMED)):
        _say(page, bare, "BRL" if page.lang == "pt-BR" else "USD")


def _say(page: Page, match: "re.Match[str]", currency: str) -> None:
    found = page.numbers_in(match)
    amount = found[-1].count if found[-1].scale > 1 else max(number.count for number in found)
    if re.search(r"\b(?:cents?|centavos?)$", match.group()):
        amount /= 100
        currency = "BRL" if match.group().endswith(("centavo", "centavos")) else "USD"
    if amount > 0:
        per = _per(
            page.text[match.end() : match.end() + _AROUND], page.text[max(0, match.start() - _AROUND) : match.start()]
        )
        page.say("budget", {"value": amount, "currency": currency, "per": per}, match)


def _per(after: str, before: str) -> str:
    after = re.split(r"[;.!?\ue000]|, (?!por|per|mensa)", after)[0]
    for per, pattern in _PER:
        if re.match(
            (
                r"(?: ?(?:reais|dolares|dollars|usd|max|no maximo|tops|at most|ou menos|or less|total"
                rf"|de orcamento|budget))* ?(?:{pattern})"
            ),
            after,
        ):
            return per
    for per, pattern in _PER:
        if re.search(
            (
                r"(?:mensal|monthly|hourly|por hora|por mes|per hour|per month|weekly|semanal|diario|anual"
                r"|yearly|daily)[^.;\ue000]{0,18}$"
            ),
            before,
        ) and re.search(rf"(?:{pattern})", before):
            return per
    return "total"
