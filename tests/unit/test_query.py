"""The filter language: what it lets through, what providers are asked for, and errors that say what to write."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dumont.errors import BadInput
from dumont.market.query import KEYS, SORTS, Query, parse
from dumont.model.instance import Machine
from tests.unit.markets import offer, on_demand, priced


def test_the_query_of_the_manual_says_what_it_means() -> None:
    """All parts at once, as people write them."""
    query = parse("gpu=RTX 4090 vram>=24 region=BR,US price<0.5 gpus=2 reliability>=0.97 spot=yes provider=vast")
    fits = offer(price=499_999, gpus=2, region="BR", reliability=0.98)
    assert query.matches(fits)
    for change in (
        {"gpu": "RTX 3090"},
        {"vram_mb": 17_000},
        {"region": "DE"},
        {"price": 500_000},
        {"gpus": 1},
        {"gpus": 4},
        {"reliability": 0.96},
        {"reliability": None},
        {"spot": False},
        {"provider": "gce"},
        {"machine": Machine.CPU},
    ):
        assert not query.matches(offer(**({"price": 499_999, "gpus": 2, "region": "BR", "reliability": 0.98} | change)))
    need = query.need
    assert (need.gpus, need.gpu_names, need.regions) == (2, frozenset({"RTX 4090"}), frozenset({"BR", "US"}))
    assert (need.price_micros_per_hour_max, need.reliability_min, need.spot, need.on_demand) == (
        500_000,
        0.97,
        True,
        False,
    )


def test_no_query_is_every_gpu() -> None:
    """`dumont offers` without a word lists the market."""
    query = parse("")
    assert query.matches(offer()) and query.matches(on_demand())
    assert query.need.spot and query.need.on_demand


def test_a_family_means_all_of_it_and_a_model_only_itself() -> None:
    """`gpu=A100` is what people write; `gpu=RTX 4070` must not bring the Ti."""
    assert parse("gpu=A100").need.gpu_names >= {"A100 SXM 80GB", "A100 PCIe 40GB"}
    assert parse("gpu=h100").need.gpu_names == {"H100 SXM", "H100 PCIe", "H100 NVL"}
    assert parse("gpu=RTX 4070").need.gpu_names == {"RTX 4070"}
    assert parse("gpu=RTX_4090, L4").need.gpu_names == {"RTX 4090", "L4"}


def test_memory_is_asked_for_as_it_is_sold() -> None:
    """A card of 24 GB with ECC shows 23,034 MiB, and still is one of 24 GB."""
    assert parse("vram>=24").matches(offer(vram_mb=23_034))
    assert not parse("vram>=24").matches(offer(vram_mb=21_000))
    assert parse("vram=24").matches(offer(vram_mb=25_757))
    assert not parse("vram=24").matches(offer(vram_mb=34_000))
    assert not parse("vram>24").matches(offer(vram_mb=25_757))


def test_a_country_holds_the_regions_of_clouds() -> None:
    """Who wants Brazil means São Paulo by whatever name."""
    query = parse("region=br")
    for region in ("BR", "southamerica-east1", "sa-east-1"):
        assert query.matches(offer(region=region))
    assert not query.matches(offer(region="us-east1")) and not query.matches(offer(region=""))
    assert parse("region=us-east1").matches(offer(region="us-east1"))
    assert parse("region!=US").matches(offer(region="BR")) and not parse("region!=US").matches(offer(region="us-east1"))


def test_money_is_compared_exactly() -> None:
    """0.1 dollars are 100,000 micro-dollars and not one less."""
    assert parse("price<=0.1").matches(offer(price=100_000))
    assert not parse("price<0.1").matches(offer(price=100_000))
    assert not parse("price<=$0.3").matches(offer(price=300_001))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpuu=L4", "did you mean 'gpu'"),
        ("colour=red", "there are gpu, region"),
        ("cheap ones", "gpu=RTX 4090"),
        ("gpu=", "has no value"),
        ("vram>=lots", "vram>=24"),
        ("price<nan", "needs a number"),
        ("price<1e999999", "needs a number"),
        ("gpu>RTX 4090", "write gpu=RTX 4090"),
        ("gpu=RTX 9999", "did you mean"),
        ("spot=perhaps", "yes or no"),
        ("machine=fridge", "machine=cpu"),
        ("sort=colour", "cost, price"),
    ],
)
def test_an_error_says_what_to_write_instead(text: str, said: str) -> None:
    """Nobody should have to look the language up after a slip."""
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert said in str(caught.value)


def test_sorting_puts_what_is_not_known_last_either_way() -> None:
    """A host of unknown reliability is neither the best nor the worst."""
    found = [priced(offer(name, reliability=value), 0.1) for name, value in (("x", None), ("lo", 0.9), ("hi", 0.99))]
    order = {
        text: [one.offer.id for one in parse(text).sorted(found)] for text in ("sort=reliability", "sort=-reliability")
    }
    assert order == {"sort=reliability": ["lo", "hi", "x"], "sort=-reliability": ["hi", "lo", "x"]}


def test_expected_cost_is_the_order_unless_another_is_asked_for() -> None:
    """The list price alone is what this market is there to correct."""
    found = [priced(offer("cheap and wild", 900_000), 2.0), priced(offer("dear and calm", 1_000_000), 0.01)]
    assert [one.offer.id for one in parse("").sorted(found)] == ["dear and calm", "cheap and wild"]
    assert [one.offer.id for one in parse("sort=price").sorted(found)] == ["cheap and wild", "dear and calm"]


WORDS = st.sampled_from(
    [*KEYS, *SORTS, "=", ">=", "<", "!=", "==", " ", "24", "RTX 4090", "yes", "$", "%", ",", "-", "é", "\n"]
)


@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=14).map("".join)))
@example("gpu=RTX 4090 gpu=RTX 4090")
@example("vram==24 sort=-vram")
def test_whatever_is_typed_gives_a_query_or_a_plain_error(text: str) -> None:
    """No input may end in a stack trace."""
    try:
        query = parse(text)
    except BadInput:
        return
    assert isinstance(query, Query)
    assert query.matches(offer()) in (True, False)
    assert len(query.sorted([priced(offer(), 0.1), priced(on_demand(), 0.1)])) == 2


@given(st.decimals(0, 1000, places=6), st.sampled_from(["<", "<=", ">", ">=", "=", "!="]), st.integers(0, 10**9))
def test_each_sign_means_what_it_says(bound: object, sign: str, price: int) -> None:
    """Against Python's own comparison of exact integers."""
    micros = int(bound * 1_000_000)  # type: ignore[operator]
    means = {"<": price < micros, "<=": price <= micros, ">": price > micros, ">=": price >= micros}
    means |= {"=": price == micros, "!=": price != micros}
    assert parse(f"price{sign}{bound}").matches(offer(price=price)) is means[sign]


def test_a_share_may_be_written_in_percent() -> None:
    """`reliability>=97%` and `reliability>=0.97` are the same wish."""
    assert parse("reliability>=97%").need.reliability_min == parse("reliability>=0.97").need.reliability_min == 0.97
    assert parse("vram>=24 GB ram>=32gb price<$0.50").matches(offer(ram_mb=32_000, price=499_999))


def test_the_price_of_a_gpu_sorts_nodes_beside_cards() -> None:
    """Eight at $6 are cheaper each than one at $1, and a machine without a GPU is one."""
    found = [
        priced(offer("one", 1_000_000), 0.1),
        priced(offer("eight", 6_000_000, gpus=8), 0.1),
        priced(offer("none", 10, gpus=0), 0.1),
    ]
    assert [one.offer.id for one in parse("sort=price_per_gpu").sorted(found)] == ["none", "eight", "one"]


def test_a_close_name_is_offered() -> None:
    """Who writes RTX 4900 is told of the 4090, and not of three others."""
    with pytest.raises(BadInput, match="RTX 4090"):
        parse("gpu=RTX 4900")
