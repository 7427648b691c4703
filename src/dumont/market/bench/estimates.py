"""The estimators against recordings: lives of held machines, hazard predicted and seen, how bids fare."""

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from dumont.market.beliefs import Beliefs, hazard_of, observe
from dumont.market.bench.ours import SECONDS_PER_HOUR, zone_offer
from dumont.market.bench.traces import SPOT_MICROS, Trace
from dumont.market.bids import HEADROOMS, headroom_share
from dumont.market.survival import Life, kaplan_meier

Rows = list[dict[str, Any]]
EDGES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the classes of predicted hazard, per hour."""
FOLLOWED_H = 14 * 24.0
"""For how long a bid is followed at most."""


def held_lives(folder: Path) -> dict[str, list[Life]]:
    """Lives of machines kept alive in the recordings of 2020, by trace and GPU.

    What was deleted or still ran is censored. They were polled every 10 to 12 minutes; each life is known to within
    that.
    """
    events: dict[tuple[str, str], list[tuple[int, str, str]]] = defaultdict(list)
    with gzip.open(folder / "dispa2020_instance_events.csv.gz", "rt", newline="") as file:
        for row in csv.DictReader(file):
            label = f"{row['gpus_per_node']} {row['gpu']}" if row["gpu"] else "unknown GPU"
            events[row["trace_id"], row["slot"]].append((int(row["epoch_s"]), row["event"], label))
    lives: dict[str, list[Life]] = defaultdict(list)
    for (trace, _slot), seen in events.items():
        for life, label in _lives(sorted(seen)):
            lives[f"{trace.split('/')[1]} {trace.rpartition('_')[2]}, {label}"].append(life)
    return lives


def _lives(seen: list[tuple[int, str, str]]) -> Iterator[tuple[Life, str]]:
    since: int | None = None
    for at_s, event, label in seen:
        if event == "running" and since is None:
            since = at_s
        elif event in ("not_running", "deleted") and since is not None:
            yield Life((at_s - since) / SECONDS_PER_HOUR, event == "not_running"), label
            since = None
    if since is not None:
        yield Life((seen[-1][0] - since) / SECONDS_PER_HOUR, False), seen[-1][2]


def survival(folder: Path) -> Rows:
    """Kaplan-Meier of each kind of held machine that was interrupted at least once."""
    rows: Rows = []
    for name, lives in sorted(held_lives(folder).items()):
        interrupted = sum(life.interrupted for life in lives)
        if not interrupted:
            continue
        curve = kaplan_meier(lives)
        past_2h = [step for step in curve.steps if step.hours <= 2.0]
        rows.append(
            {
                "machines": name,
                "lives": len(lives),
                "interrupted": interrupted,
                "median_h": round(curve.median_h, 2) if curve.median_h is not None else None,
                "mean_h_within_24h": round(curve.mean_h(24.0), 2),
                "share_past_2h": round(curve.share(2.0), 3),
                "low": round(past_2h[-1].low, 3) if past_2h else 1.0,
                "high": round(past_2h[-1].high, 3) if past_2h else 1.0,
            }
        )
    return rows


def calibration(trace: Trace) -> Rows:
    """The hours that zones spent at each predicted hazard, how many losses were due by it, and how many were seen."""
    offers = [zone_offer(index, zone.name, SPOT_MICROS) for index, zone in enumerate(trace.zones)]
    hours = [0.0] * (len(EDGES) + 1)
    due, ends = [0.0] * len(hours), [0] * len(hours)
    beliefs, predicted, before = Beliefs(), dict[str, float](), frozenset[str]()
    for at_s, up in _ticks(trace):
        for name in before:
            kind = sum(predicted[name] >= edge for edge in EDGES)
            hours[kind] += trace.gap_s / SECONDS_PER_HOUR
            due[kind] += predicted[name] * trace.gap_s / SECONDS_PER_HOUR
            ends[kind] += name not in up
        now_h = at_s / SECONDS_PER_HOUR
        beliefs = observe(beliefs, offers, up, now_h)
        predicted = {o.domain: hazard_of(o, beliefs, now_h).per_hour for o in offers if o.domain in up}
        before = up
    names = ["below 0.02", *(f"{low} to {high}" for low, high in pairwise(EDGES)), "1.0 and above"]
    return [
        {"predicted": name, "hours": round(h, 1), "due": round(d, 1), "seen": n}
        for name, h, d, n in zip(names, hours, due, ends, strict=True)
    ]


def _ticks(trace: Trace) -> Iterator[tuple[int, frozenset[str]]]:
    following = [list(reversed(zone.changes)) for zone in trace.zones]
    capacity = [0] * len(trace.zones)
    for at_s in range(0, trace.span_s, trace.gap_s):
        for index, changes in enumerate(following):
            while changes and changes[-1][0] <= at_s:
                capacity[index] = changes.pop()[1]
        yield at_s, frozenset(z.name for z, machines in zip(trace.zones, capacity, strict=True) if machines)


def bids(folder: Path) -> Rows:
    """How long bids of each headroom above the price of the moment would have held, on AWS's prices of p2 and p3.

    A bid is placed at each day's first price of each of the 98 series and followed for 14 days.
    """
    series: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    with gzip.open(folder / "aws_spot_price_p2_p3_2019-2020.csv.gz", "rt", newline="") as file:
        for row in csv.DictReader(file):
            at_h = datetime.fromisoformat(row["timestamp_utc"]).timestamp() / SECONDS_PER_HOUR
            series[row["az"], row["instance"]].append((at_h, float(row["usd_per_hour"])))
    end_h = max(at_h for prices in series.values() for at_h, _ in prices)
    rows: Rows = []
    for headroom in HEADROOMS:
        followed = [_follow(sorted(prices), headroom, end_h) for prices in series.values()]
        events, hours = sum(e for e, _ in followed), sum(h for _, h in followed)
        rows.append({"headroom": headroom, "outbid": events, "hours": round(hours), "per_day": events / hours * 24})
    first = rows[0]["per_day"]
    for row in rows:
        row["share_of_none"] = round(row["per_day"] / first, 3)
        row["assumed"] = round(headroom_share(row["headroom"]), 3)
        row["per_day"] = round(row["per_day"], 4)
    return rows


def _follow(prices: list[tuple[float, float]], headroom: float, end_h: float) -> tuple[int, float]:
    events, hours, day = 0, 0.0, -1
    for index, (at_h, price) in enumerate(prices):
        if int(at_h // 24) == day:
            continue
        day = int(at_h // 24)
        until_h = min(at_h + FOLLOWED_H, end_h)
        bid = price * (1 + headroom)
        lost = next((then for then, other in prices[index:] if then > until_h or other > bid + 1e-9), None)
        outbid = lost is not None and lost <= until_h
        events += outbid
        hours += (lost if outbid and lost is not None else until_h) - at_h
    return events, hours
