"""How numbers, sizes and pictures are written in workload rows: "8B", "1,024", "720x480 49f", "1024px 50 steps"."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NUMBER = re.compile(r"[-+]?\d[\d,_ ]*(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "bi": 1e9, "t": 1e12}
_PARAMS_IN_NAME = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)\s*(b|bi|m)(?![a-z0-9])", re.IGNORECASE)
_ACTIVE_IN_NAME = re.compile(r"(?<![a-z0-9])a(\d+(?:\.\d+)?)b(?![a-z0-9])", re.IGNORECASE)
_WIDTH_HEIGHT = re.compile(r"(\d{2,5})\s*[x×*]\s*(\d{2,5})(?:\s*[x×*]\s*(\d{1,4}))?")
_PIXELS = re.compile(r"(\d{2,5})\s*px")
_LINES = {"480p": (832, 480), "540p": (960, 544), "720p": (1280, 720), "1080p": (1920, 1080)}
_FRAMES = re.compile(r"(\d+)\s*(?:f|frames?)\b")
_STEPS = re.compile(r"(\d+)(?:\s*-\s*\d+)?\s*steps?")
_GIGABYTES = re.compile(r"(\d+(?:\.\d+)?)\s*gi?b(?![a-z])", re.IGNORECASE)
NUMBER_MAX = 1e15


@dataclass(frozen=True, slots=True)
class Frame:
    """What a picture or a clip measures: pixels, frames and denoising steps (0 = not stated)."""

    width: int
    height: int
    frames: int = 1
    steps: int = 0


def number(value: object) -> float | None:
    """A number from a cell: `8`, `"8.03"`, `"1,024"`, `"8k"`, `"7B"` (→ 7e9); None for blanks, `?`, words and
    infinities.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _finite(value)
    if not isinstance(value, str):
        return None
    text = value.strip().lower()
    found = _NUMBER.match(text)
    if found is None:
        return None
    rest = text[found.end() :].strip()
    if rest not in _SCALE:
        return None
    try:
        return _finite(float(re.sub(r"[,_ ]", "", found.group())) * _SCALE[rest])
    except (ValueError, OverflowError):
        return None


def _finite(value: float) -> float | None:
    return float(value) if -NUMBER_MAX < value < NUMBER_MAX else None


def leading_number(text: str) -> float | None:
    """The first number of a text such as "320 prompts" or "8192 tokens"; None when it starts with a word."""
    found = re.match(r"\s*(\d[\d,_]*(?:\.\d+)?)\s*(k\b)?", text.lower())
    if found is None:
        return None
    return _finite(float(re.sub(r"[,_]", "", found.group(1))) * (1e3 if found.group(2) else 1.0))


def first_number(text: str) -> float | None:
    """The first number anywhere in a text: "up to 64 parallel" → 64."""
    found = re.search(r"\d[\d,_]*(?:\.\d+)?", text)
    return _finite(float(re.sub(r"[,_]", "", found.group()))) if found else None


def params_in_name(name: str) -> float | None:
    """Parameters in billions that a model name tells: "Qwen3-30B-A3B" → 30, "8x7B" → 46.7 (experts share attention)."""
    for times, size, unit in _PARAMS_IN_NAME.findall(name):
        billions = float(size) * (1e-3 if unit.lower() == "m" else 1.0)
        if times:
            return billions * int(times) * 0.834  # Mixtral: 8 × 7B → 46.7, 8 × 22B → 140.6: attention is shared
        if billions > 0:
            return billions
    return None


def active_in_name(name: str) -> float | None:
    """Active parameters in billions of a mixture of experts: "30B-A3B" → 3."""
    found = _ACTIVE_IN_NAME.search(name)
    return float(found.group(1)) if found else None


def gigabytes_in(text: str) -> float | None:
    """The first size in GB that a text tells: "H100 96GB HBM2e" → 96."""
    found = _GIGABYTES.search(text)
    return float(found.group(1)) if found else None


def frame_in(text: str) -> Frame | None:
    """The picture or clip a text tells; None when it tells none.

    "1024px 28-50 steps" → 1024 × 1024, 28 steps; "720x1280x129f" → 129 frames of 720 × 1280.
    """
    low = text.lower()
    steps = int(found.group(1)) if (found := _STEPS.search(low)) else 0
    frames = int(found.group(1)) if (found := _FRAMES.search(low)) else 0
    if found := _WIDTH_HEIGHT.search(low):
        third = int(found.group(3)) if found.group(3) else 1
        return Frame(int(found.group(1)), int(found.group(2)), max(1, frames or third), steps)
    if found := _PIXELS.search(low):
        side = int(found.group(1))
        return Frame(side, side, max(1, frames), steps)
    for name, (width, height) in _LINES.items():
        if name in low:
            return Frame(width, height, max(1, frames), steps)
    return None


def text_of(row: Mapping[str, object], name: str) -> str:
    """A cell as text; "" for a missing or blank one and for "?"."""
    value = row.get(name)
    if value is None or isinstance(value, dict | list):
        return ""
    text = str(value).strip()
    return "" if text in {"?", "-", "None", "null", "nan", "n/a"} else text
