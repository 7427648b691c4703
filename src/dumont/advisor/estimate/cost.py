"""Time and cost: hours of a job from its speed and its amount of work, and money from hours and a price."""

import math
from dataclasses import dataclass

from dumont.advisor.catalogue import Catalogue, Gpu
from dumont.advisor.estimate.drawing import render_score
from dumont.advisor.estimate.part import Speed
from dumont.errors import BadInput

_TIMES = {"s per batch": 1.0, "s per image": 1.0, "ms/image": 1e-3, "s per iteration": 1.0}


@dataclass(frozen=True, slots=True)
class Hours:
    """A duration in hours, with an interval."""

    point: float
    low: float
    high: float


def hours_for(amount: float, speed: Speed, gpus: int = 1) -> Hours:
    """Hours for an amount of work in the speed's own unit: tokens, images, sequences, batches, or seconds of audio.

    Raises:
        BadInput: the unit is a score, which tells no duration.
    """
    if speed.unit in _TIMES:
        per = _TIMES[speed.unit]
        return Hours(*(amount * value * per / 3600 for value in (speed.value, speed.low, speed.high)))
    if "/s" not in speed.unit and speed.unit != "x real time":
        raise BadInput(f"{speed.unit} is a score; give the time of one sample instead")
    many = gpus if speed.per_gpu else 1
    return Hours(*(amount / (value * many) / 3600 for value in (speed.value, speed.high, speed.low)))


def tokens_of(examples: float, tokens_per_example: float, epochs: float = 1.0) -> float:
    """Tokens of a fine-tuning: examples × tokens each × epochs."""
    return examples * tokens_per_example * epochs


def render_hours(frames: int, sample_s: float, measured_on: Gpu, gpu: Gpu, known: Catalogue) -> Hours:
    """Hours to render frames on a GPU, from one frame's time on another: times go inversely with Blender's scores."""
    own, published = render_score(gpu, known)
    other, other_published = render_score(measured_on, known)
    hours = frames * sample_s * other / own / 3600
    spread = 1.12 if published and other_published else 1.3
    return Hours(hours, hours / spread, hours * spread)


def cost_micros(hours: float, price_micros_per_hour: int, machines: int = 1) -> int:
    """Cost in micro-units of the price's currency, rounded up to the next one: what is not yet known is never
    understated.
    """
    return math.ceil(hours * price_micros_per_hour * machines)
