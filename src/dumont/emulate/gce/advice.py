"""Spot advice: what the emulated cloud tells of capacity, and of prices and preemptions of the past (contract §8)."""

from datetime import timedelta
from typing import Any

from dumont.emulate.gce.bill import OTHER_USD_PER_HOUR, SPOT_USD_PER_HOUR
from dumont.emulate.gce.refusal import invalid, not_found
from dumont.emulate.gce.world import KINDS, World

HISTORY_DAYS = 30
STEPS = (1.15, 1.08, 1.0)
"""Older prices ÷ today's; spot prices step several times a quarter."""
RATE = 0.12


def capacity_history(world: World, region: str, body: dict[str, Any]) -> dict[str, Any]:
    """Price steps and daily preemption rates of a type. Raises Refusal."""
    properties = body.get("instanceProperties", {})
    kind = str(properties.get("machineType", ""))
    if kind not in KINDS:
        raise invalid(f"Invalid value for field 'instanceProperties.machineType': '{kind}'.")
    if properties.get("scheduling", {}).get("provisioningModel") != "SPOT":
        raise invalid("Invalid value for field 'instanceProperties.scheduling.provisioningModel'.")
    types = body.get("types", [])
    location = body.get("locationPolicy", {}).get("location", f"regions/{region}")
    if location.startswith("zones/") and world.region_of(location.partition("/")[2]) != region:
        raise invalid(f"Invalid value for field 'locationPolicy.location': '{location}'.")
    answer: dict[str, Any] = {"machineType": kind, "location": location}
    usd = SPOT_USD_PER_HOUR.get(kind, OTHER_USD_PER_HOUR)
    each = HISTORY_DAYS // len(STEPS)
    if "PRICE" in types:
        answer["priceHistory"] = [
            {"interval": _interval(world, HISTORY_DAYS - index * each, each), "listPrice": _money(usd * step)}
            for index, step in enumerate(STEPS)
        ]
    if "PREEMPTION" in types:
        answer["preemptionHistory"] = [
            {"interval": _interval(world, day, 1), "preemptionRate": round(RATE * (1 + (day % 5) / 10), 4)}
            for day in range(7, 0, -1)
        ]
    return answer


def capacity(world: World, region: str, body: dict[str, Any]) -> dict[str, Any]:
    """Where `size` machines can be had now: nothing is recommended that is out of stock. Raises Refusal."""
    if region not in world.setting.regions:
        raise not_found(f"{world.setting.project}/regions/{region}")
    zones = [str(z["zone"]).rpartition("/")[2] for z in body.get("distributionPolicy", {}).get("zones", [])]
    selections = body.get("instanceFlexibilityPolicy", {}).get("instanceSelections", {})
    ranked = sorted(selections.values(), key=lambda selection: int(selection.get("rank", 0)))
    size = int(body.get("size", 0))
    if size < 1 or not ranked:
        raise invalid("Invalid value for field 'size' or 'instanceFlexibilityPolicy'.")
    for zone in zones or world.setting.regions[region]:
        for kind in (str(k) for selection in ranked for k in selection.get("machineTypes", [])):
            if kind in KINDS and not world.faults.is_out(zone, kind):
                shard = {
                    "zone": world.link(f"zones/{zone}"),
                    "machineType": kind,
                    "provisioningModel": "SPOT",
                    "instanceCount": size,
                }
                return {"recommendations": [{"scores": _scores(), "shards": [shard]}]}
    return {}


def _scores() -> dict[str, Any]:
    return {"obtainability": 0.8, "estimatedUptime": "14400s"}


def _interval(world: World, days_ago: int, lasts_days: int) -> dict[str, str]:
    start = world.timeline.date() - timedelta(days=days_ago)
    end = start + timedelta(days=lasts_days)
    return {
        "startTime": start.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "endTime": end.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def _money(usd: float) -> dict[str, Any]:
    nanos = round(usd * 10**9)
    return {"currencyCode": "USD", "units": str(nanos // 10**9), "nanos": nanos % 10**9}
