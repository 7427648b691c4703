"""An emulated instance: what was rented of a box, its state in the service's four fields, and its bill so far."""

import asyncio
import enum
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from dumont.emulate.vast.faults import Habits
from dumont.emulate.vast.market import Box
from dumont.emulate.vast.query import Row

HOUR_S = 3600
MICROS = 1_000_000
PULLING = 0.8
"""The share of a boot that reads `loading`; after it comes `created`."""


class Halt(enum.StrEnum):
    """Why a rental does not hold its GPUs though nobody asked for that. NONE: it holds them, or waits for its turn."""

    NONE = ""
    HOST = "host"
    CREDIT = "credit"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(kw_only=True)
class Rental:
    """One contract. Times in Unix seconds, money in micro-dollars; `bid` is for the whole contract, None: on demand.

    `wanted`: its user wants it to run. `holding` since when it holds its GPUs; None while it doesn't.
    """

    id: int
    box: Box
    gpus: int
    bid: int | None
    listed_price: int
    disk_gb: float
    image: str
    runtype: str
    label: str | None
    environment: dict[str, str]
    onstart: str
    key: str
    since: float
    wanted: bool = True
    queued_since: float | None = None
    halt: Halt = Halt.NONE
    holding: float | None = None
    starts: int = 0
    races: bool = False
    gone_at: float | None = None
    up: bool = False
    failure: str = ""
    billed_to: float = 0.0
    gpu_micros: Fraction = Fraction(0)
    disk_micros: Fraction = Fraction(0)
    gpu_seconds: Fraction = Fraction(0)
    work: "asyncio.Task[None] | None" = None
    keys: list[tuple[int, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What its ground knows it by."""
        return f"C.{self.id}"

    @property
    def price(self) -> int:
        """Micro-dollars an hour for its GPUs: its own bid, not the market's."""
        return self.listed_price if self.bid is None else self.bid

    def ready_at(self, habits: Habits) -> float | None:
        """When its container runs; None while it holds no GPU or can't come up."""
        if self.holding is None or habits.stuck_loading or self.failure:
            return None
        return self.holding + habits.boot_s

    def rate(self, now: float, habits: Habits) -> Fraction:
        """What it costs at this instant, in micro-dollars per hour: nothing offline, the disk always, GPUs when up."""
        if not self.box.online:
            return Fraction(0)
        return self.box.storage_micros(self.disk_gb) + (self.price if self.is_up(now, habits) else 0)

    def is_up(self, now: float, habits: Habits) -> bool:
        ready_at = self.ready_at(habits)
        return ready_at is not None and now >= ready_at

    def bill(self, until: float, habits: Habits) -> Fraction:
        """Add what the time since the last bill cost; nothing changes within it. Returns the micro-dollars added."""
        seconds = Fraction(until) - Fraction(self.billed_to)
        at, self.billed_to = self.billed_to, until
        if seconds <= 0 or not self.box.online:
            return Fraction(0)
        disk = self.box.storage_micros(self.disk_gb) * seconds / HOUR_S
        gpu = Fraction(0)
        if self.is_up(at, habits):
            gpu = self.price * seconds / HOUR_S
            self.gpu_seconds += seconds
        self.disk_micros += disk
        self.gpu_micros += gpu
        return disk + gpu

    def fields(self, now: float, habits: Habits) -> Row:
        """The four fields of its state, and the text beside them."""
        if self.gone_at is not None:
            return _four("exited", "stopped", "unloaded", "unloaded") | {"status_msg": None}
        if self.races:
            return _four("loading", "stopped", "stopped", "stopped") | {"status_msg": None}
        actual, text = self._actual(now, habits)
        if self.holding is not None:
            state = _four(actual, "running", "running", "running")
        else:
            state = _four(actual, "stopped", "stopped", "running" if self.queued_since is not None else "stopped")
        if not self.box.online:
            state["actual_status"] = "offline"
            if self.holding is not None:
                state["next_state"] = "running"
        return state | {"status_msg": text}

    def _actual(self, now: float, habits: Habits) -> tuple[str | None, str | None]:
        up_text = f"success, running {self.image}/ssh\n"
        if self.holding is None:
            if self.halt is Halt.FAILED:
                return "created", self.failure
            if self.starts == 0:
                return None, None
            return ("running" if self.up else "exited"), up_text  # the old text stays
        if self.failure:
            return "loading", self.failure
        if habits.stuck_loading:
            return "loading", habits.loading_text
        part = (now - self.holding) / habits.boot_s if habits.boot_s else 1.0
        if part >= 1.0:
            return "running", up_text
        if self.starts > 1 and now - self.holding < habits.wake_s:
            return "exited", up_text
        if part == 0.0 and self.starts == 1:
            return None, None
        return ("loading", habits.loading_text) if part < PULLING else ("created", None)

    def row(self, now: float, habits: Habits, address: str, ports: dict[str, int]) -> Row:
        """The whole object of a list. `ports` are outer ports by `7022/tcp`, shown only while it runs."""
        state = self.fields(now, habits)
        disk = float(self.box.storage_micros(self.disk_gb)) / MICROS
        row = self.box.hardware(self.gpus) | state
        row |= {
            "id": self.id, "label": self.label, "image_uuid": self.image, "image_args": [],
            "image_runtype": self.runtype, "onstart": self.onstart, "extra_env": self._pairs(),
            "ssh_host": "ssh5.vast.ai", "ssh_port": 20000 + self.id % 20000, "ssh_idx": "5",
            "public_ipaddr": f"{address}\n", "local_ipaddrs": "172.17.0.2 \n", "jupyter_token": "",
            "start_date": self.since, "end_date": self.box.ends_at, "uptime_mins": self._uptime_mins(now),
            "duration": now - self.since, "is_bid": self.bid is not None, "min_bid": self._min_bid(),
            "dph_base": self.price / MICROS, "dph_total": self.price / MICROS + disk, "storage_total_cost": disk,
            "disk_space": self.disk_gb, "disk_usage": -1, "disk_util": -1, "gpu_util": None, "gpu_temp": None,
            "cpu_util": None, "mem_usage": None, "mem_limit": None, "vmem_usage": None, "credit_balance": None,
            "credit_discount": None, "volume_info": [], "country_code": self.box.place.rpartition(", ")[2],
            "template_id": None, "template_hash_id": None, "template_name": None, "time_remaining": "",
            "time_remaining_isbid": "", "client_run_time": 1.1, "host_run_time": 2_592_000.0,
            "direct_port_start": -1, "direct_port_end": -1, "external": False, "rentable": False,
        }  # fmt: skip
        if state["actual_status"] == "running":
            row["ports"] = {name: [{"HostIp": "0.0.0.0", "HostPort": str(port)}] for name, port in ports.items()}
        return row

    def opened(self) -> list[int]:
        """The TCP ports that it asked to have opened, and that of SSH."""
        found = [22] if "ssh" in self.runtype else []
        for key in self.environment:
            if key.startswith("-p ") and not key.endswith("/udp"):
                found.append(int(key.removeprefix("-p ").rpartition(":")[2].removesuffix("/tcp")))
        return found

    def charge(self, start: float, end: float) -> Row:
        """Its line of the account's charges."""
        items: list[dict[str, Any]] = [
            {
                "type": "gpu",
                "amount": float(self.gpu_micros) / MICROS,
                "description": f"{float(self.gpu_seconds) / HOUR_S:.3f} hours at ${self.price / MICROS:.3f}/hour",
            },
            {"type": "disk", "amount": float(self.disk_micros) / MICROS, "description": f"{self.disk_gb} GB"},
        ]
        return {
            "start": int(max(start, self.since)), "end": int(min(end, self.billed_to)), "type": "instance",
            "source": f"instance-{self.id}", "description": f"Instance {self.id}",
            "amount": float(self.gpu_micros + self.disk_micros) / MICROS,
            "metadata": {"label": self.label or ""}, "items": items,
        }  # fmt: skip

    def _pairs(self) -> list[list[str]]:
        return [[name, value] for name, value in self.environment.items()]

    def _min_bid(self) -> float:
        """Not live: what the bid was worth when it was made."""
        return self.price / MICROS

    def _uptime_mins(self, now: float) -> float | None:
        return None if self.holding is None else (now - self.holding) / 60


def _four(actual: str | None, intended: str, current: str, following: str) -> Row:
    return {
        "actual_status": actual,
        "intended_status": intended,
        "cur_state": current,
        "next_state": following,
    }
