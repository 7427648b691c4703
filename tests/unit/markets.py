"""Offers and prices that the market's tests share."""

from typing import Any

from dumont.market.cost import Priced, Stake, expected_cost
from dumont.market.hazard import Hazard
from dumont.market.placement import Held
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Offer

STAKE = Stake(value_micros_per_hour=50_000_000, restore_s=120.0)


def offer(name: str = "a", price: int = 1_000_000, **more: Any) -> Offer:
    """A spot offer of one GPU in a domain of its own."""
    given: dict[str, Any] = {
        "id": name,
        "provider": "vast",
        "machine": Machine.GPU,
        "name": name,
        "price_micros_per_hour": price,
        "interruption": Interruption.PREEMPTED,
        "gpu": "RTX 4090",
        "gpus": 1,
        "vram_mb": 25_757,
        "domain": f"domain of {name}",
    }
    return Offer(**(given | more))


def on_demand(name: str = "steady", price: int = 3_000_000, **more: Any) -> Offer:
    return offer(name, price, **({"spot": False, "interruption": Interruption.NEVER, "domain": ""} | more))


def priced(given: Offer, per_hour: float, stake: Stake = STAKE) -> Priced:
    return expected_cost(given, Hazard(1.0, 1.0 / per_hour), stake)


def held(given: Offer, per_hour: float, ready: bool = True, stake: Stake = STAKE) -> Held:
    return Held(id=given.id, priced=priced(given, per_hour, stake), ready=ready)
