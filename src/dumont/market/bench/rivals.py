"""The policies that ours is compared with: spot only, spot with on-demand fallback, and that with one spare.

Each keeps a machine until it is taken away, then takes the next zone, in the order given, that has one. A second
machine is never taken in the same zone.
"""

from dumont.market.bench.replay import ON_DEMAND, Now


class NextZone:
    """Keep `machines` spot machines; `fallback` adds an on-demand one while no spot machine is ready."""

    def __init__(self, machines: int = 1, fallback: bool = False) -> None:
        self.wanted, self.fallback = machines, fallback

    def start(self, zones: tuple[str, ...]) -> None:
        self.zones, self.last = len(zones), -1

    def decide(self, now: Now) -> None:
        for zone in now.taken:
            self.last = zone
        held = [m for m in now.machines if m.zone != ON_DEMAND]
        for _ in range(self.wanted - len(held)):
            self._rent(now)
        if self.fallback:
            self._fall_back(now, any(m.is_ready(now.at_s) for m in held))

    def _rent(self, now: Now) -> None:
        held = {machine.zone for machine in now.machines}
        for offset in range(1, self.zones + 1):
            zone = (self.last + offset) % self.zones
            if zone not in held and now.rent(zone):
                self.last = zone
                return

    def _fall_back(self, now: Now, served: bool) -> None:
        on_demand = [m for m in now.machines if m.zone == ON_DEMAND]
        if served:
            for machine in on_demand:
                now.end(machine)
        elif not on_demand:
            now.rent(ON_DEMAND)
