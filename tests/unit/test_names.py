"""GPU names: every provider's spelling comes to one name, and what is not known is not guessed."""

import csv

import pytest

from dumont.errors import BadInput
from dumont.market.names import DATA, gpu_name, gpus, instance_gpu, known_gpu

GB_MB = 2**30 / 1e6


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("RTX 4090", "RTX 4090"),
        ("RTX_4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("RTX 4070S Ti", "RTX 4070 Ti SUPER"),
        ("H100 SXM", "H100 SXM"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA HGX H100", "H100 SXM"),
        ("H100_NVL", "H100 NVL"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM 80GB"),
        ("A100_PCIE", "A100 PCIe 80GB"),
        ("A100-40GB", "A100 SXM 40GB"),
        ("Tesla T4", "T4"),
        ("Tesla V100 SXM2", "V100 16GB"),
        ("NVIDIA RTX Pro 6000 SE", "RTX PRO 6000"),
        ("NVIDIA A6000", "RTX A6000"),
        ("RTX_6000Ada", "RTX 6000 Ada"),
        ("Q RTX 8000", "Quadro RTX 8000"),
        ("NVIDIA A10G", "A10G"),
    ],
)
def test_spellings_of_providers_come_to_one_name(spelling: str, name: str) -> None:
    """Vast, RunPod, the driver itself and the clouds write the same card in many ways."""
    assert gpu_name(spelling) == name


@pytest.mark.parametrize("spelling", ["RTX 4090 D", "RTX 4090 (48 GB mod)", "GPU", "", "RTX", "TPU v5e", "p5"])
def test_what_is_not_known_is_not_guessed(spelling: str) -> None:
    """A modified or cut-down card under the name of the real one would make a false comparison."""
    assert gpu_name(spelling) == ""


def test_memory_tells_siblings_apart() -> None:
    """Vast lists both sizes of an A100 under one name."""
    assert gpu_name("A100_PCIE", round(40 * GB_MB)) == "A100 PCIe 40GB"
    assert gpu_name("A100_PCIE", round(80 * GB_MB)) == "A100 PCIe 80GB"
    assert gpu_name("V100", round(32 * GB_MB)) == "V100 32GB"
    assert gpu_name("RTX 4090", 1) == "RTX 4090"


@pytest.mark.parametrize(
    ("instance", "name"),
    [
        ("p5.48xlarge", "H100 SXM"),
        ("p3dn.24xlarge", "V100 32GB"),
        ("g6e.xlarge", "L40S"),
        ("a2-ultragpu-8g", "A100 SXM 80GB"),
        ("g2-standard-4", "L4"),
        ("Standard_NC24ads_A100_v4", "A100 PCIe 80GB"),
        ("Standard_NV36ads_A10_v5", "A10"),
        ("Standard_NV6ads_A10_v5", ""),
        ("e2-small", ""),
        ("c5.xlarge", ""),
    ],
)
def test_instance_types_tell_their_gpu(instance: str, name: str) -> None:
    """A sixth of a GPU is not one: such sizes have no name."""
    assert instance_gpu(instance) == name


def test_usable_memory_is_less_than_nominal_and_never_by_much() -> None:
    """A model that needs 24 GB does not fit a card sold as 24 GB whose driver and ECC take 2."""
    for gpu in gpus().values():
        assert 0.9 * gpu.vram_mb <= gpu.usable_mb <= gpu.vram_mb, gpu.name
    assert gpus()["L4"].usable_mb < gpus()["RTX 4090"].usable_mb


def test_no_spelling_names_two_models() -> None:
    """The table would silently prefer the later one."""
    seen: dict[str, str] = {}
    with (DATA / "gpus.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for spelling in (row["name"], *filter(None, row["aliases"].split("|"))):
                assert gpu_name(spelling) == row["name"], spelling
                assert seen.setdefault(spelling.lower(), row["name"]) == row["name"], spelling


def test_an_unknown_name_says_which_are_close() -> None:
    """A person who mistypes wants the next step, not a stack trace."""
    with pytest.raises(BadInput, match="RTX 4090"):
        known_gpu("RTX 40900")
