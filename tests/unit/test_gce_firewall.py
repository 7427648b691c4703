"""Firewall rules: which of our ports nobody reaches."""

from typing import Any

import pytest
from google.cloud import compute_v1

from dumont.provider.gce.account import PORTS
from dumont.provider.gce.firewall import closed_ports

NETWORK = "global/networks/default"
ALL = list(PORTS)


def rule(**changes: Any) -> compute_v1.Firewall:
    """One that opens all our ports to anybody."""
    usual: dict[str, Any] = {
        "network": f"https://www.googleapis.com/compute/v1/projects/p/{NETWORK}",
        "direction": "INGRESS",
        "priority": 1000,
        "source_ranges": ["0.0.0.0/0"],
        "allowed": [compute_v1.Allowed(I_p_protocol="tcp", ports=[str(port) for port in PORTS])],
    }
    return compute_v1.Firewall(**(usual | changes))


def tcp(*ports: str) -> list[compute_v1.Allowed]:
    return [compute_v1.Allowed(I_p_protocol="tcp", ports=list(ports))]


def test_without_a_rule_everything_is_closed() -> None:
    """As Google's implied rule has it."""
    assert closed_ports([], NETWORK) == ALL


@pytest.mark.parametrize(
    "opening",
    [
        {},
        {"target_tags": ["dumont"]},
        {"target_tags": ["web", "dumont"]},
        {"allowed": tcp("7000-8000")},
        {"allowed": tcp()},
        {"allowed": [compute_v1.Allowed(I_p_protocol="all")]},
        {"source_ranges": ["10.0.0.0/8", "0.0.0.0/0"]},
    ],
)
def test_a_rule_that_covers_us_opens(opening: dict[str, Any]) -> None:
    """By tag or for all, by ports, ranges or the whole protocol."""
    assert closed_ports([rule(**opening)], NETWORK) == []


@pytest.mark.parametrize(
    "useless",
    [
        {"target_tags": ["web"]},
        {"target_service_accounts": ["a@b"]},
        {"direction": "EGRESS"},
        {"disabled": True},
        {"network": "projects/p/global/networks/other"},
        {"source_ranges": ["10.0.0.0/8"]},
        {"source_ranges": [], "source_tags": ["web"]},
        {"allowed": [compute_v1.Allowed(I_p_protocol="udp", ports=["7022"])]},
        {"allowed": tcp("22")},
    ],
)
def test_a_rule_that_does_not_cover_us_opens_nothing(useless: dict[str, Any]) -> None:
    """Each would look like an open port to who reads only its name."""
    assert closed_ports([rule(**useless)], NETWORK) == ALL


def test_the_ports_that_are_left_are_named() -> None:
    """One port of three is not enough."""
    assert closed_ports([rule(allowed=tcp("7022", "7443"))], NETWORK) == [7080]


@pytest.mark.parametrize(("priority", "closed"), [(999, [7080]), (1000, [7080]), (1001, [])])
def test_a_denial_of_the_same_or_higher_rank_closes(priority: int, closed: list[int]) -> None:
    """The lower number decides, and among equals the denial."""
    denial = rule(allowed=[], denied=[compute_v1.Denied(I_p_protocol="tcp", ports=["7080"])], priority=priority)
    assert closed_ports([rule(), denial], NETWORK) == closed
