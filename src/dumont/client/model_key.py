"""A language model's key: whether a person set one up, and how much may be spent on it in a month."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dumont.client.home import Home
from dumont.errors import BadInput
from dumont.i18n import _

URL = "https://openrouter.ai/api/v1"
MODELS = ("google/gemini-2.5-flash", "openai/gpt-4.1-mini", "mistralai/mistral-small-3.2-24b-instruct")
USD_PER_MONTH = 5.0


@dataclass(frozen=True, kw_only=True)
class ModelKey:
    """The key, whom it is shown to, the models in the order they are tried, and the month's limit in micro-US-dollars.

    `spent` is the file in which spending is counted.
    """

    key: str
    url: str
    models: tuple[str, ...]
    limit_micros_per_month: int
    spent: Path


def find_model_key(home: Home, environment: Mapping[str, str]) -> ModelKey | None:
    """The key in `OPENROUTER_API_KEY`, else in the home's `keys/openrouter`; None when there is neither.

    `OPENROUTER_BASE_URL`, `DUMONT_LLM_MODELS` (with commas) and `DUMONT_LLM_USD_PER_MONTH` change the rest.

    Raises:
        BadInput: the limit is no number.
    """
    key = environment.get("OPENROUTER_API_KEY", "").strip() or _read(home.keys / "openrouter")
    if not key:
        return None
    named = tuple(filter(None, (name.strip() for name in environment.get("DUMONT_LLM_MODELS", "").split(","))))
    return ModelKey(
        key=key,
        url=environment.get("OPENROUTER_BASE_URL", "") or URL,
        models=named or MODELS,
        limit_micros_per_month=_limit(environment.get("DUMONT_LLM_USD_PER_MONTH", "")),
        spent=home.path / "llm-spending.json",
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _limit(text: str) -> int:
    try:
        limit = float(text) if text.strip() else USD_PER_MONTH
        return round(limit * 1_000_000) if limit >= 0 else 0
    except (ValueError, OverflowError) as error:
        raise BadInput(_("DUMONT_LLM_USD_PER_MONTH is {text!r}; give a number of US$").format(text=text)) from error
