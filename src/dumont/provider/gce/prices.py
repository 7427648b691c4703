"""Prices of Google's machines: a dated table, what its API told since, and the sizes of machine types."""

import csv
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from importlib.resources import files

from dumont.errors import BadInput
from dumont.model.instance import Machine
from dumont.model.offer import HOURS_PER_MONTH, Interruption, Need, Offer
from dumont.provider.gce.account import Account, region_of

PROVIDER = "gce"
DISK_GB_MIN = 10
"""The size of Debian's image."""
MIB = 2**20
MB = 10**6
GIB_TO_GB = 2**30 / 10**9
MICROS = 10**6
DISK_REGION = "us-central1"
"""The region whose disk price stands in for those that are not in the table."""

BOOT_S_MAX = 300.0
"""A machine boots within a minute; installing what the agent needs may take some more."""
COUNTRIES = {
    "us": "US", "australia": "AU", "africa-south1": "ZA", "asia-east1": "TW", "asia-east2": "HK",
    "asia-northeast1": "JP", "asia-northeast2": "JP", "asia-northeast3": "KR", "asia-south1": "IN",
    "asia-south2": "IN", "asia-southeast1": "SG", "asia-southeast2": "ID", "asia-southeast3": "TH",
    "europe-central2": "PL", "europe-north1": "FI", "europe-north2": "SE", "europe-southwest1": "ES",
    "europe-west1": "BE", "europe-west2": "GB", "europe-west3": "DE", "europe-west4": "NL", "europe-west6": "CH",
    "europe-west8": "IT", "europe-west9": "FR", "europe-west10": "DE", "europe-west12": "IT", "me-central1": "QA",
    "me-central2": "SA", "me-west1": "IL", "northamerica-northeast1": "CA", "northamerica-northeast2": "CA",
    "northamerica-south1": "MX", "southamerica-east1": "BR", "southamerica-west1": "CL",
}  # fmt: skip
"""Where regions are, by Google's documentation."""


@dataclass(frozen=True)
class Size:
    """A machine type: `vcpus` is what counts against quotas, `share` the part of them that may be used all the time."""

    vcpus: int
    memory_mib: int
    share: float = 1.0


SIZES = {
    "e2-micro": Size(2, 1024, 0.125),
    "e2-small": Size(2, 2048, 0.25),
    "e2-medium": Size(2, 4096, 0.5),
    "e2-standard-2": Size(2, 8192),
    "e2-standard-4": Size(4, 16384),
    "n2-standard-2": Size(2, 8192),
    "n2d-standard-2": Size(2, 8192),
    "t2d-standard-1": Size(1, 4096),
    "c3-standard-4": Size(4, 16384),
}
"""Machine types we rent, by Google's documentation. A type without a price is not offered until Google tells one."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What one thing costs, in millionths of a dollar per hour; None when the table does not know."""

    as_of: date
    source: str
    spot_micros: int | None = None
    on_demand_micros: int | None = None


class Prices:
    """The table by (region, type), which learns newer spot prices by zone."""

    def __init__(self, rows: dict[tuple[str, str], Price]) -> None:
        self._rows = dict(rows)

    @classmethod
    def shipped(cls) -> "Prices":
        """The table that is installed with the driver."""
        text = files("dumont.provider.gce").joinpath("prices.csv").read_text()
        return cls({(row["region"], row["type"]): _price(row) for row in csv.DictReader(text.splitlines())})

    @property
    def as_of(self) -> date:
        """The date of the newest row."""
        return max(price.as_of for price in self._rows.values())

    def of(self, zone: str, kind: str) -> Price | None:
        """The newest that is known for this type in this zone."""
        known = [self._rows.get((place, kind)) for place in (zone, region_of(zone))]
        return max((price for price in known if price), key=lambda price: price.as_of, default=None)

    def learn(self, zone: str, kind: str, spot_micros: int, at: datetime) -> None:
        """A spot price that Google told at some time."""
        known = self.of(zone, kind)
        told = Price(as_of=at.date(), source="compute advice.capacityHistory", spot_micros=spot_micros)
        if known is None or known.as_of <= told.as_of:
            on_demand = known.on_demand_micros if known else None
            self._rows[zone, kind] = replace(told, on_demand_micros=on_demand)

    def disk_micros(self, zone: str, disk_type: str, gb: float) -> tuple[int, bool]:
        """What a disk of that size costs an hour, and whether that is this region's own price."""
        own = self._rows.get((region_of(zone), f"{disk_type} GB-month"))
        price = own or self._rows.get((DISK_REGION, f"{disk_type} GB-month"))
        if price is None or price.on_demand_micros is None:
            raise BadInput(f"No price is known of the disk type {disk_type!r}.")
        return round(price.on_demand_micros * gb / HOURS_PER_MONTH), own is not None

    @property
    def address_micros(self) -> int:
        """What an external IPv4 address in use costs an hour: on-demand rate, which a spot machine's may be below."""
        return self._rows["*", "address"].on_demand_micros or 0

    def offers(self, account: Account, need: Need, now: datetime) -> list[Offer]:
        """What of the table satisfies the need, cheapest first, then by the account's preference of zones."""
        if need.machine is not Machine.CPU or need.reliability_min > 0:
            return []
        found = [
            offer
            for zone in account.zones
            if not need.regions or need.regions & {zone, region_of(zone), country_of(zone)}
            for kind in account.types or SIZES
            for spot in [True] * need.spot + [False] * need.on_demand
            if (offer := self._offer(account, zone, kind, spot, need)) is not None
        ]
        most = need.price_micros_per_hour_max
        fits = [replace(o, seen_at=now) for o in found if most is None or o.price_micros_per_hour <= most]
        return sorted(fits, key=lambda o: (o.price_micros_per_hour, account.zones.index(o.zone), o.id))

    def _offer(self, account: Account, zone: str, kind: str, spot: bool, need: Need) -> Offer | None:
        size, price = SIZES.get(kind), self.of(zone, kind)
        if size is None or price is None or size.memory_mib * MIB < need.ram_mb_min * MB:
            return None
        compute = price.spot_micros if spot else price.on_demand_micros
        if compute is None:
            return None
        disk_gib = max(DISK_GB_MIN, -int(-need.disk_gb // GIB_TO_GB))
        disk, own = self.disk_micros(zone, account.disk_type, disk_gib)
        return Offer(
            id=f"{PROVIDER}/{zone}/{kind}/{'spot' if spot else 'on-demand'}",
            provider=PROVIDER,
            machine=Machine.CPU,
            name=kind,
            price_micros_per_hour=compute + disk + self.address_micros,
            spot=spot,
            interruption=Interruption.PREEMPTED if spot else Interruption.NEVER,
            vcpus=size.vcpus * size.share,
            ram_mb=size.memory_mib * MIB // MB,
            disk_gb=round(disk_gib * GIB_TO_GB, 3),
            region=region_of(zone),
            zone=zone,
            domain=f"{PROVIDER}/{zone}/{kind.partition('-')[0]}",
            compute_micros_per_hour=compute,
            disk_micros_per_hour=disk if own else None,
            address_micros_per_hour=self.address_micros,
            boot_s_max=BOOT_S_MAX,
        )


def country_of(zone: str) -> str:
    """The ISO code of the country that a zone is in; "" where we do not know it."""
    region = region_of(zone)
    return COUNTRIES.get(region) or COUNTRIES.get(region.partition("-")[0], "")


def disk_gib(offer: Offer) -> int:
    """The size of an offer's disk in Google's unit, 2^30 bytes, which Google writes GB."""
    return max(DISK_GB_MIN, round((offer.disk_gb or 0) / GIB_TO_GB))


def _price(row: dict[str, str]) -> Price:
    return Price(
        as_of=date.fromisoformat(row["as_of"]),
        source=row["source"],
        spot_micros=_micros(row["spot_usd_per_hour"]),
        on_demand_micros=_micros(row["on_demand_usd_per_hour"]),
    )


def _micros(usd: str) -> int | None:
    return int((Decimal(usd) * MICROS).quantize(Decimal(1), ROUND_HALF_UP)) if usd else None
