"""Advice: what the advisor is asked and answers, as the SDK and the API know it; field names are stable.

Memory in GB (1e9 bytes), times in hours, `cost` in US$ and `…_micros` in millionths of one. None is unknown, never 0.
"""

from dataclasses import dataclass, field
from typing import Any

from dumont.client.results import Fact, Wish


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked. `fields` of the workload count above what is read in the text, `config` is a Hugging Face
    config.json, `exchange` units of the answer's currency for one US$. `llm` lets a language model read, if one is set.
    """

    text: str
    exchange: float | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    explain: bool = False
    llm: bool = True


@dataclass(frozen=True, kw_only=True)
class Interval:
    """What the card shows at the peak: expected, at the least, at worst."""

    point: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast the whole machine works."""

    value: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """A value that nobody stated: the workload's field, if it has one, what was taken, and the sentence."""

    field: str
    value: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """The same machine on demand at another cloud, or its nearest equal (`exact` False), or why there is none."""

    provider: str
    gpu: str
    exact: bool
    micros_per_hour: int | None
    cost: float | None
    instance: str
    region: str
    as_of: str
    source: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of arithmetic."""

    section: str
    what: str
    amount: float | None
    unit: str
    formula: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One machine to rent. `name` is cheapest, best_value or fastest; `fits` is None where no text can tell.

    `hours` holds setting up and expected interruptions. `launch` is the command, `wish` and `advised` what a program
    launches it with: the prediction is kept with the workspace and graded after its run.
    """

    name: str
    gpu: str
    gpus: int
    fits: bool | None
    memory_gb: Interval | None
    card_gb: float
    margin_gb: float | None
    hours: float | None
    hours_range: list[float] | None
    cost: float | None
    cost_micros: int | None
    cost_local: float | None
    price_micros_per_hour: int
    cost_micros_per_hour: int
    parts: dict[str, int]
    in_time: bool
    in_budget: bool
    provider: str
    offer: str
    region: str
    interruption: str
    interruptions_per_hour: float
    pace: Pace | None
    reasons: list[str]
    elsewhere: list[Elsewhere]
    launch: str
    launch_name: str
    wish: Wish
    advised: dict[str, Fact]
    explain: list[Line] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class CheaperCard:
    """What would have to change for a smaller and cheaper card to hold the work."""

    changes: list[str]
    gpu: str
    gpus: int
    fits: bool
    memory_gb: Interval | None
    card_gb: float
    hours: float | None
    cost: float | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Units of `currency` for one US$; `source` is `given` when the person gave it."""

    currency: str
    per_usd: float
    source: str
    as_of: str | None


@dataclass(frozen=True, kw_only=True)
class MarketSeen:
    """What was ranked: live offers, or published prices read between two days."""

    live: bool
    at: str
    offers: int
    assessed: int
    fitting: int
    prices_from: str | None
    prices_to: str | None


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The answer. `reading` is what the text states and no more; `ask` names the fields that would change the choice.

    `lack` is why there are no choices, or what is wrong with them, and `message` says it in words. `calibration` is
    what estimates of memory were multiplied by, by kind of job, as recorded runs taught.
    """

    reading: dict[str, Any]
    lang: str
    reader: str
    notes: list[str]
    message: str
    ask: list[str]
    questions: list[str]
    assumptions: list[Assumed]
    choices: list[Choice]
    cheaper_cards: list[CheaperCard]
    deadline_h: float | None
    due: str | None
    budget_micros: int | None
    monthly: bool
    exchange: Exchange
    market: MarketSeen
    lack: str | None
    calibration: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One recorded run: what was predicted and what was measured. What no meter told is None, and stays so.

    `memory_gb_measured` is the most on one card (GB, 1e9 bytes), `memory_card` which one, over all machines of the run.
    `memory_scope`: `processes` of the workspace, or all on the `device`; read every `memory_every_s`. It counts in no
    error when there may have been more (`memory_at_least`), or when an engine took what the card had (`memory_taken`).
    `memory_unknown` is a word for why it is unknown: `no_driver`, `no_gpu`, `unreadable`, `unused`, `not_told`.
    """

    workspace: str
    task: str
    gpu: str
    over: bool
    memory_gb: float | None
    memory_gb_measured: float | None
    hours: float | None
    hours_measured: float | None
    cost_micros: int | None
    cost_micros_measured: int | None
    memory_card: str = ""
    memory_scope: str = ""
    memory_every_s: float | None = None
    memory_at_least: bool = False
    memory_taken: bool = False
    memory_unknown: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskGrade:
    """How far off predictions for one task were: medians of |predicted / measured - 1|, over so many runs of `runs`.

    Factors are measured / predicted. One is None before `runs_min` runs had that measurement.
    """

    task: str
    runs: int
    memory_error: float | None
    hours_error: float | None
    cost_error: float | None
    memory_factor: float | None
    hours_factor: float | None
    memory_runs: int = 0
    hours_runs: int = 0
    cost_runs: int = 0


@dataclass(frozen=True, kw_only=True)
class MemoryFactor:
    """What the estimate of memory for one kind of job is multiplied by: the median share that `runs` recorded runs
    `measured`, `applied` never below 1. The worst case is no less than the `worst` of them.
    """

    job: str
    applied: float
    measured: float
    worst: float
    runs: int


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What recorded runs say of predictions, by task; the factors that are applied; and the runs themselves."""

    runs_min: int
    tasks: list[TaskGrade]
    runs: list[Run]
    factors: list[MemoryFactor] = field(default_factory=list)
