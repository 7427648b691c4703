"""Rows of a Vast.ai search as offers: exact prices, our own check of every constraint, nothing guessed."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from dumont.market.names import gpu_name
from dumont.model.instance import Machine
from dumont.model.offer import Interruption, Need, Offer
from dumont.provider.vast.offers import BID, ON_DEMAND, Row, filters_of, kinds, offers, spellings_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROW = """{"id":20513977,"ask_contract_id":20513977,"machine_id":31877,"host_id":96144,"gpu_name":"RTX 4090",
 "num_gpus":1,"gpu_ram":24564,"cpu_name":"AMD EPYC 7543","cpu_cores":64,"cpu_cores_effective":16.0,"cpu_ram":257600,
 "disk_space":612.4,"inet_up":812.3,"inet_down":933.1,"inet_up_cost":0.0026,"inet_down_cost":0.0013,
 "storage_cost":0.15,"storage_total_cost":0.0041667,"dph_base":0.2,"dph_total":0.2041667,"min_bid":0.2,"is_bid":true,
 "reliability":0.9931,"verification":"verified","rentable":true,"rented":false,"external":false,
 "static_ip":true,"direct_port_count":99,"geolocation":"Texas, US","end_date":1766000000.0}"""


def row(**changes: Any) -> Row:
    return Row(json.loads(ROW, parse_float=Decimal) | changes)


def found(need: Need, *rows: Row, kind: str = BID) -> list[Offer]:
    return offers(rows, need, kind, NOW)


GPU = Need(machine=Machine.GPU)


def test_a_row_becomes_an_offer_with_exact_parts() -> None:
    """Money is an integer: 0.1 + 0.2 must not decide what is cheapest."""
    (offer,) = found(GPU, row())
    assert offer.compute_micros_per_hour == 200_000
    assert offer.disk_micros_per_hour == 4_167  # 0.15 × 20 GB ÷ 720 h, rounded up
    assert offer.price_micros_per_hour == 204_167
    assert (offer.min_bid_micros_per_hour, offer.bid_micros_per_hour) == (200_000, 0)
    assert (offer.ingress_micros_per_gb, offer.egress_micros_per_gb) == (1_300, 2_600)
    assert (offer.gpu, offer.gpus, offer.vram_mb, offer.ram_mb) == ("RTX 4090", 1, 24_564, 257_600)
    assert (offer.host, offer.domain, offer.region) == ("31877", "vast/31877", "US")
    assert (offer.spot, offer.interruption) == (True, Interruption.OUTBID)
    assert offer.ends_at == datetime.fromtimestamp(1_766_000_000, UTC)


def test_an_on_demand_row_is_priced_by_its_base_and_never_taken_back() -> None:
    """Its min_bid is what others would bid, not what we pay."""
    (offer,) = found(GPU, row(dph_base=Decimal("0.5111"), dph_total=Decimal("0.5153")), kind=ON_DEMAND)
    assert offer.compute_micros_per_hour == 511_100
    assert (offer.spot, offer.interruption) == (False, Interruption.NEVER)


def test_the_disk_that_is_needed_is_in_the_price() -> None:
    """A disk is fixed for a machine's life, and some hosts ask more for it than for the GPU."""
    small, large = found(GPU, row())[0], found(Need(machine=Machine.GPU, disk_gb=500), row())[0]
    assert large.price_micros_per_hour - small.price_micros_per_hour == 100_000  # 0.15 × 480 GB ÷ 720 h
    assert large.disk_gb == 500.0
    assert large.id != small.id, "they are two offers"


def test_a_total_above_our_sum_is_believed() -> None:
    """The service knows of parts that we do not."""
    (offer,) = found(GPU, row(dph_total=Decimal("0.2151234")))
    assert offer.price_micros_per_hour == 215_124
    assert offer.compute_micros_per_hour + offer.disk_micros_per_hour == offer.price_micros_per_hour


@pytest.mark.parametrize(
    ("need", "changes"),
    [
        (GPU, {"num_gpus": 2}),
        (GPU, {"rentable": False}),
        (GPU, {"rented": True}),
        (GPU, {"external": True}),
        (GPU, {"verification": "unverified"}),
        (GPU, {"verification": "deverified"}),
        (GPU, {"disk_space": Decimal("19.9")}),
        (GPU, {"disk_space": None}),
        (GPU, {"direct_port_count": 0}),
        (Need(machine=Machine.GPU, gpu_names=frozenset({"RTX 4090"})), {"gpu_name": "RTX 4090 D"}),
        (Need(machine=Machine.GPU, vram_mb_min=24_000), {"gpu_ram": 23_034}),
        (Need(machine=Machine.GPU, vram_mb_min=24_000), {"gpu_ram": None}),
        (Need(machine=Machine.GPU, ram_mb_min=64_000), {"cpu_ram": 32_000}),
        (Need(machine=Machine.GPU, regions=frozenset({"US"})), {"geolocation": "Quebec, CA"}),
        (Need(machine=Machine.GPU, regions=frozenset({"US"})), {"geolocation": None}),
        (Need(machine=Machine.GPU, reliability_min=0.99), {"reliability": Decimal("0.98")}),
        (Need(machine=Machine.GPU, reliability_min=0.99), {"reliability": None}),
        (Need(machine=Machine.GPU, price_micros_per_hour_max=204_166), {}),
    ],
)
def test_every_constraint_is_checked_by_us(need: Need, changes: dict[str, Any]) -> None:
    """The service's filters are not exact, and a field that is missing satisfies nothing."""
    assert found(need, row(**changes)) == []
    assert found(Need(machine=Machine.GPU), row()) != [], "the row passes without that"


@pytest.mark.parametrize("changes", [{"cpu_cores": None}, {"geolocation": ", US"}, {"geolocation": "Texas, US "}])
def test_odd_rows_are_offers_all_the_same(changes: dict[str, Any]) -> None:
    """The service has rows without cores and without a city."""
    (offer,) = found(Need(machine=Machine.GPU, regions=frozenset({"US"})), row(**changes))
    assert offer.region == "US"


@pytest.mark.parametrize(
    "changes", [{"min_bid": "0.2"}, {"min_bid": None}, {"num_gpus": True}, {"storage_cost": None}, {"gpu_ram": []}]
)
def test_a_broken_row_hides_no_other(changes: dict[str, Any]) -> None:
    """One host's nonsense must not empty the market."""
    assert len(found(GPU, row(**changes), row(id=7, ask_contract_id=7, machine_id=5))) == 1


def test_a_row_that_comes_twice_is_one_offer() -> None:
    """The service repeats rows."""
    assert len(found(GPU, row(), row())) == 1


def test_a_cpu_machine_is_one_whose_gpu_nobody_uses() -> None:
    """Every machine of this market has GPUs; as a CPU machine it is not counted as a GPU offer."""
    (offer,) = found(Need(machine=Machine.CPU), row(num_gpus=4, gpu_name="RTX 3060"))
    assert (offer.machine, offer.gpu, offer.gpus, offer.vram_mb) == (Machine.CPU, "", 0, None)
    assert offer.idle_gpu == "4× RTX 3060", "it is paid for, and a person is told"
    assert (
        offer.price_micros_per_hour
        == found(Need(machine=Machine.GPU, gpus=4), row(num_gpus=4))[0].price_micros_per_hour
    )
    assert found(GPU, row())[0].idle_gpu == ""
    assert offer.id != found(GPU, row())[0].id, "the same slice as a GPU is another offer"


VAST_NAMES = ["A100 PCIE", "A100 SXM4", "H100 SXM", "RTX 4090", "RTX 4090D"]


def test_gpus_are_searched_by_the_services_own_names() -> None:
    """With spaces, where the CLI writes underscores; and it does not name the size of the memory."""
    wanted = ["A100 SXM 80GB", "RTX 4090"]
    spellings = spellings_of(wanted, VAST_NAMES, gpu_name)
    assert spellings == ["A100 SXM4", "RTX 4090"]
    need = Need(machine=Machine.GPU, gpu_names=frozenset(wanted))
    assert filters_of(need, spellings)["gpu_name"] == {"in": spellings}
    assert "gpu_name" not in filters_of(need, []), "what is not known filters nothing here"


def test_an_offer_has_the_markets_name_of_its_gpu() -> None:
    """Placement compares names between providers; the memory tells one size from the other."""
    need = Need(machine=Machine.GPU, gpu_names=frozenset({"A100 SXM 80GB"}))
    rows = [
        row(gpu_name="A100 SXM4", gpu_ram=81_920),
        row(id=7, ask_contract_id=7, gpu_name="A100 SXM4", gpu_ram=40_960),
    ]
    (offer,) = offers(rows, need, BID, NOW, gpu_name)
    assert (offer.gpu, offer.vram_mb) == ("A100 SXM 80GB", 81_920)


def test_what_is_searched_follows_the_need() -> None:
    """Searches are few a minute."""
    assert kinds(GPU) == [BID]
    assert kinds(Need(machine=Machine.GPU, on_demand=True)) == [BID, ON_DEMAND]
    assert kinds(Need(machine=Machine.GPU, spot=False, on_demand=True)) == [ON_DEMAND]
