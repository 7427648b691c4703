"""Names, marks and requestIds of what is rented from Google: the same for the same, and apart for what is not."""

import re
import uuid

import pytest
from google.cloud import compute_v1
from hypothesis import given
from hypothesis import strategies as st

from dumont.errors import BadInput
from dumont.provider.gce.account import Account, Ref, region_of, safe_value

GOOGLES_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
GOOGLES_VALUE = re.compile(r"[-_a-z0-9]{0,63}")
ACCOUNT = Account(project="acme", zones=("us-central1-a",), installation="lab", server_host="h")


PAIRS = st.tuples(st.text(min_size=1, max_size=80), st.text(max_size=80))


def account(installation: str) -> Account:
    return Account(project="acme", zones=("us-central1-a",), installation=installation, server_host="h")


@given(st.text(min_size=1, max_size=120), st.text(min_size=1, max_size=120))
def test_every_label_makes_a_name_that_google_takes(installation: str, label: str) -> None:
    """Whatever a person calls things; a refused name would be a workspace without a standby."""
    name = account(installation).name(label)
    assert GOOGLES_NAME.fullmatch(name)
    assert GOOGLES_VALUE.fullmatch(safe_value(label))
    assert GOOGLES_VALUE.fullmatch(safe_value(installation))


@given(PAIRS, PAIRS)
def test_two_labels_never_share_a_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Nor does one label of two installations: each would take the other's machine for its own."""
    (a, label_a), (b, label_b) = one, other
    same = account(a).name(label_a) == account(b).name(label_b)
    assert same == (one == other)


def test_a_name_can_be_read() -> None:
    """A person who looks at the console finds the workspace."""
    assert ACCOUNT.name("cpu-1").startswith("dumont-lab-cpu-1-")
    assert ACCOUNT.name("cpu-1") == ACCOUNT.name("cpu-1")


def test_a_request_id_is_a_uuid_of_what_is_asked() -> None:
    """The same act gives the same after a crash of ours; another act gives another."""
    first = ACCOUNT.request_id("insert", "us-central1-a", "cpu-1", 1)
    assert uuid.UUID(first).int != 0
    assert first == ACCOUNT.request_id("insert", "us-central1-a", "cpu-1", 1)
    others = [
        ACCOUNT.request_id("insert", "us-central1-a", "cpu-1", 2),
        ACCOUNT.request_id("insert", "us-central1-b", "cpu-1", 1),
        ACCOUNT.request_id("delete", "us-central1-a", "cpu-1", 1),
        account("other").request_id("insert", "us-central1-a", "cpu-1", 1),
    ]
    assert len({first, *others}) == 5


@pytest.mark.parametrize("text", ["", "a", "a/b", "a/b/c", "/b/1", "a//1", "a/b/1/2", "a/b/-1"])
def test_what_never_was_a_reference_is_none(text: str) -> None:
    """Releasing it is harmless."""
    assert Ref.parse(text) is None


def test_a_reference_is_read_back() -> None:
    """It is written down before the server may die."""
    ref = Ref("us-central1-a", "dumont-x", 7)
    assert Ref.parse(str(ref)) == ref


@pytest.mark.parametrize(
    "wrong", [{"project": ""}, {"zones": ()}, {"zones": ("us-central1",)}, {"installation": ""}, {"run_s_max": 5}]
)
def test_an_account_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    """Before anything is asked of Google."""
    usual: dict[str, object] = {"project": "p", "zones": ("us-central1-a",), "installation": "i", "server_host": "h"}
    with pytest.raises(BadInput):
        Account(**(usual | wrong))  # type: ignore[arg-type]


def test_zones_near_one_are_of_its_region() -> None:
    """Another region has other prices and quotas: that is for placement to choose."""
    zones = ("us-central1-a", "europe-west4-a", "us-central1-b")
    near = Account(project="p", zones=zones, installation="i", server_host="h").near("us-central1-b")
    assert near == ("us-central1-b", "us-central1-a")
    assert {region_of(zone) for zone in near} == {"us-central1"}


def test_the_body_of_a_request_reads_the_same_whoever_wrote_it() -> None:
    """Its digest is part of the requestId: maps have no order, and another process may write them otherwise."""
    one = compute_v1.Instance(name="x", labels={"a": "1", "b": "2", "c": "3"})
    other = compute_v1.Instance(name="x", labels={"c": "3", "b": "2", "a": "1"})
    assert compute_v1.Instance.to_json(one, sort_keys=True) == compute_v1.Instance.to_json(other, sort_keys=True)
