#!/usr/bin/env python3
"""Write `src/dumont/market/data/reference.csv` anew from a folder of collected prices: `scripts/reference_prices.py`.

Only rows whose source's licence allows it (Apache-2.0 and MIT, named in each row) are taken. Left out: rows with a flag
(types that a region has a price for but does not sell, prices that miss the GPU), every a3-megagpu row for the same
reason, catalogues without a stated licence, parts of a GPU, and models that `names.py` does not know.
"""

import argparse
import csv
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from dumont.market.names import MB_PER_GIB, gpu_name, instance_gpu

ROOT = Path(__file__).resolve().parent.parent
FIELDS = ["provider", "gpu", "gpus", "tier", "micros_per_hour", "instance", "region", "as_of", "source", "licence"]
CLOUDS = ("aws", "azure", "gcp")
LICENCES = {
    "aws/karpenter-provider-aws": "Apache-2.0",
    "alexei-led/spotinfo": "Apache-2.0",
    "Azure/karpenter-provider-azure": "Apache-2.0",
    "Cyclenerd/google-cloud-pricing-cost-calculator": "Apache-2.0",
    "tardellirs/gpu-pricing": "MIT",
}
PROVIDERS = {"vast-ai": "vast"}
Row = dict[str, str]


def clouds(folder: Path) -> Iterator[Row]:
    """On-demand and spot prices of AWS, Google and Azure, for whole machines."""
    with (folder / "gpu_offers_compact.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            name = instance_gpu(row["instance"])
            if row["cloud"] not in CLOUDS or row["flag"] or not name or row["instance"].startswith("a3-megagpu"):
                continue
            fixed = {"provider": row["cloud"], "gpu": name, "gpus": row["gpu_count"], "instance": row["instance"]}
            fixed["region"] = row["region_or_note"]
            for tier, price in (("on_demand", row["usd_hour_ondemand"]), ("spot", row["usd_hour_spot"])):
                if price:
                    source, as_of = _cloud_source(row, tier)
                    yield fixed | _rest(tier, price, as_of, source)


def _cloud_source(row: Row, tier: str) -> tuple[str, str]:
    """The source of this price and its date; the spot price of AWS is on demand less the advisor's mean saving."""
    dates = re.findall(r"\d{4}-\d{2}-\d{2}", row["as_of"])
    if row["cloud"] == "aws":
        return ("alexei-led/spotinfo", dates[-1]) if tier == "spot" else ("aws/karpenter-provider-aws", dates[0])
    if row["cloud"] == "azure":
        return "Azure/karpenter-provider-azure", dates[0]
    return "Cyclenerd/google-cloud-pricing-cost-calculator", dates[0]


def marketplaces(folder: Path) -> Iterator[Row]:
    """Single GPUs of other providers."""
    with (folder / "gpu_marketplace_offers_2026-05-24.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["provider"] in CLOUDS:
                continue
            vram_mb = round(float(row["vram_gb"]) * MB_PER_GIB) if row["vram_gb"] else None
            name = gpu_name(row["gpu"], vram_mb)
            if not name:
                continue
            tier = "spot" if row["is_spot"] == "1" else "on_demand"
            fixed = {"provider": PROVIDERS.get(row["provider"], row["provider"]), "gpu": name, "gpus": "1"}
            fixed |= {"instance": row["tier"], "region": ""}
            yield fixed | _rest(tier, row["usd_hour"], row["collected_at"], "tardellirs/gpu-pricing")


def _rest(tier: str, price: str, as_of: str, source: str) -> Row:
    micros = int((Decimal(price) * 1_000_000).to_integral_value())
    return {
        "tier": tier,
        "micros_per_hour": str(micros),
        "as_of": as_of,
        "source": source,
        "licence": LICENCES[source],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/price", help="the folder of prices")
    parser.add_argument("--out", type=Path, default=ROOT / "src/dumont/market/data/reference.csv")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(
            f"{options.data} is no folder; name the one that holds gpu_offers_compact.csv with --data", file=sys.stderr
        )
        return 2
    rows = {tuple(row[field] for field in FIELDS) for row in [*clouds(options.data), *marketplaces(options.data)]}
    with options.out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        writer.writerows(sorted(rows, key=lambda row: (row[0], row[1], int(row[2]), *row[3:])))
    print(f"{len(rows)} prices written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
