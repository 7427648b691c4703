"""Reference prices: like for like, only what may be published, and never a phantom."""

from datetime import date

import pytest

from dumont.errors import BadInput
from dumont.market.names import gpus
from dumont.market.reference import DISTANCE_MAX, MEMORY_SHARE_MIN, compare, distance, references


def test_every_price_has_a_source_a_date_and_a_licence_that_allows_it() -> None:
    """A figure without evidence is not shown (I9), and data without a licence is not shipped."""
    assert len(references()) > 500
    for reference in references():
        assert reference.licence in ("Apache-2.0", "MIT")
        assert reference.source.count("/") == 1
        assert date(2024, 1, 1) < reference.as_of < date(2027, 1, 1)
        assert reference.micros_per_hour > 0 and reference.gpus >= 1
        assert reference.gpu in gpus()
    assert not {"skypilot-org/skypilot-catalog"} & {reference.source for reference in references()}


def test_google_sells_every_cell_that_is_listed() -> None:
    """Of 880 rows 588 are prices of types that their region does not sell; near 89 % off, and nobody can have them."""
    google = [reference for reference in references() if reference.provider == "gcp"]
    assert 250 < len([r for r in google if r.tier == "on_demand"]) <= 288
    assert not [r for r in google if r.region == "africa-south1"]
    assert not [r for r in google if r.instance.startswith("a3-megagpu")]
    cheapest_h100 = min(r.micros_per_gpu_hour for r in google if r.gpu == "H100 SXM" and r.tier == "on_demand")
    assert cheapest_h100 > 5_000_000, "an H100 near $1 is a price that misses the GPU"


def test_a_node_of_eight_is_never_set_against_one_card() -> None:
    """AWS sells the A100 by eights: its price per GPU is nobody's price for one."""
    (aws,) = compare("A100 SXM 80GB", 1, providers=["aws"])
    assert not aws.exact and "only in machines of 8" in aws.why
    assert aws.reference is None or aws.reference.gpus == 1
    (eight,) = compare("A100 SXM 80GB", 8, providers=["aws"])
    assert eight.exact and eight.reference is not None and eight.reference.gpus == 8
    assert eight.reference.micros_per_gpu_hour == pytest.approx(27_447_050 / 8, abs=1)
    for found in compare("RTX 4090", 1):
        assert found.reference is None or found.reference.gpus == 1


def test_a_model_that_a_cloud_does_not_sell_is_compared_with_its_nearest_equal_and_says_so() -> None:
    """$3.06 is a V100 and was never an RTX 4090."""
    for found in compare("RTX 4090", 1, providers=["aws", "gcp", "azure"]):
        assert not found.exact and "nearest equal" in found.why and found.reference is not None
        other, asked = gpus()[found.reference.gpu], gpus()["RTX 4090"]
        assert other.vram_mb >= MEMORY_SHARE_MIN * asked.vram_mb
        assert found.distance == pytest.approx(distance(asked, other)) and found.distance <= DISTANCE_MAX
    (aws,) = compare("RTX 4090", 1, providers=["aws"])
    assert aws.reference is not None and aws.reference.micros_per_gpu_hour < 3_060_000


def test_what_has_no_equal_gets_none() -> None:
    """Rather no comparison than one with half the card."""
    (salad,) = compare("B300", 1, providers=["salad"])
    assert salad.reference is None and "nothing like B300" in salad.why


def test_distance_is_a_distance() -> None:
    """Nought for the same, the same both ways, and a smaller card is not nearer for being smaller."""
    a, b, c = gpus()["RTX 4090"], gpus()["A10G"], gpus()["H100 SXM"]
    assert distance(a, a) == 0.0
    assert distance(a, b) == pytest.approx(distance(b, a))
    assert distance(a, c) <= distance(a, b) + distance(b, c)


def test_a_wrong_tier_or_model_is_refused_in_words() -> None:
    """The API hands these through as they come."""
    with pytest.raises(BadInput, match="on_demand"):
        compare("RTX 4090", 1, "weekly")
    with pytest.raises(BadInput, match="no GPU is called"):
        compare("Voodoo 2")


def test_the_cheapest_region_and_instance_are_taken() -> None:
    """A saving against the dearest region would be no saving."""
    for provider, gpu in (("gcp", "L4"), ("aws", "L4"), ("runpod", "RTX 4090")):
        (found,) = compare(gpu, 1, providers=[provider])
        alike = [r for r in references() if (r.provider, r.gpu, r.gpus, r.tier) == (provider, gpu, 1, "on_demand")]
        assert len(alike) > 1 and found.exact and found.reference is not None
        assert found.reference.micros_per_hour == min(r.micros_per_hour for r in alike)


def test_what_is_too_unlike_is_no_equal_even_if_it_fits() -> None:
    """An H200 is no measure for an old card of 12 GB."""
    (digitalocean,) = compare("K80", 1, providers=["digitalocean"])
    assert digitalocean.reference is None and digitalocean.why == "sells nothing like K80 in a machine of 1"
    (aws,) = compare("RTX 4090", 1, providers=["aws"])
    assert aws.why == "does not sell RTX 4090; A10G is its nearest equal there"
