"""What Vast.ai's four fields mean, and why a machine stopped: tables, as the contract has them."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from dumont.provider.base import Phase, Why
from dumont.provider.vast.offers import Row
from dumont.provider.vast.record import Record, price_now
from dumont.provider.vast.states import Evidence, State, reason, state_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OCI = "Error: OCI runtime create failed: unresolvable CDI devices nvidia.com/gpu=0"


def four(actual: str | None, intended: str, current: str, following: str, text: str | None = None) -> dict[str, Any]:
    return {
        "id": 7, "actual_status": actual, "intended_status": intended, "cur_state": current, "next_state": following,
        "status_msg": text,
    }  # fmt: skip


R, S = "running", "stopped"


@pytest.mark.parametrize(
    ("fields", "phase", "why"),
    [
        (four(None, R, R, R), Phase.STARTING, Why.UNTOLD),
        (four("loading", R, R, R, "4f4fb700ef54: Pull complete"), Phase.STARTING, Why.UNTOLD),
        (four("created", R, R, R), Phase.STARTING, Why.UNTOLD),
        (four("running", R, R, R, "success, running a/b:1/ssh"), Phase.RUNNING, Why.UNTOLD),
        (four("rebooting", R, R, R), Phase.STARTING, Why.UNTOLD),
        (four("recycling", R, R, R), Phase.STARTING, Why.UNTOLD),
        (four("loading", S, S, S), Phase.STOPPED, Why.UNTOLD),
        (four("created", S, S, S, OCI), Phase.STOPPED, Why.FAILED),
        (four("loading", R, R, R, "manifest for a/b:1 not found: manifest unknown"), Phase.STARTING, Why.FAILED),
        (four("loading", R, R, R, "pull access denied for a/b"), Phase.STARTING, Why.FAILED),
        (four("exited", S, S, S, "success, running a/b:1/ssh"), Phase.STOPPED, Why.UNTOLD),
        (four("stopped", S, S, S), Phase.STOPPED, Why.UNTOLD),
        (four("exited", R, S, R), Phase.STOPPED, Why.UNTOLD),
        (four("exited", R, R, R), Phase.STOPPED, Why.UNTOLD),
        (four("offline", R, R, R), Phase.UNKNOWN, Why.OFFLINE),
        (four("unknown", R, R, R), Phase.UNKNOWN, Why.OFFLINE),
        (four("offline", S, S, S), Phase.UNKNOWN, Why.OFFLINE),
        (four("exited", S, "unloaded", "unloaded"), Phase.STOPPED, Why.ASKED),
        (four("frozen", "frozen", R, R), Phase.UNKNOWN, Why.UNTOLD),
        (four("running", R, S, S), Phase.UNKNOWN, Why.UNTOLD),
        (four("teleporting", R, R, R), Phase.UNKNOWN, Why.UNTOLD),
        ({"id": 7}, Phase.UNKNOWN, Why.UNTOLD),
    ],
)
def test_each_row_of_the_contract_reads_as_it_says(fields: dict[str, Any], phase: Phase, why: Why) -> None:
    """STOPPED is a witness of death and RUNNING one of life; whatever is neither is UNKNOWN (I6)."""
    state = state_of(fields, waking=False)
    assert (state.phase, state.why) == (phase, why)


def test_a_container_on_its_way_down_is_not_yet_dead() -> None:
    """While its processes may still write, nobody may take STOPPED for a proof that they do not."""
    assert state_of(four("running", S, S, S), waking=False).phase is Phase.UNKNOWN


def test_exited_is_no_end_for_some_minutes_after_a_start() -> None:
    """The host reports late: a machine that was just started reads `exited` for minutes, and then runs."""
    fields = four("exited", R, R, R)
    assert state_of(fields, waking=True).phase is Phase.STARTING
    record = Record(woken={7: 100.0})
    assert record.state(fields, 600.0).phase is Phase.STARTING
    assert record.state(fields, 701.0).phase is Phase.STOPPED


def test_a_queued_start_is_told() -> None:
    """It begins to bill at some hour that nobody chose."""
    assert state_of(four("exited", S, S, R), waking=False) == State(Phase.STOPPED, Why.UNTOLD, queued=True)
    assert "queued" in Record().machinery(four("exited", S, S, R), "gpu-1", 0.0).facts


def stopped(**changes: Any) -> dict[str, Any]:
    usual = {"machine_id": 31, "num_gpus": 1, "is_bid": True, "dph_base": Decimal("0.24"), "end_date": Decimal("9e9")}
    return four("exited", S, S, S) | usual | changes


def listed(min_bid: str, **changes: Any) -> Row:
    usual = {"machine_id": 31, "num_gpus": 1, "min_bid": Decimal(min_bid), "rented": False}
    return Row(usual | changes)


def evidence(*rows: Row, credit: int | None = 5_000_000) -> Evidence:
    return Evidence(credit_micros=credit, rows=rows, now=NOW)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ((), Why.OUTBID),
        ((listed("0.25"),), Why.OUTBID),
        ((listed("0.24"),), Why.UNTOLD),
        ((listed("0.25"), listed("0.20")), Why.UNTOLD),
        ((listed("0.20", num_gpus=2),), Why.OUTBID),
        ((listed("0.20", machine_id=32),), Why.OUTBID),
        ((listed("0.24", rented=True),), Why.OUTBID),
    ],
)
def test_outbid_is_told_from_stopped_by_the_market(rows: tuple[Row, ...], why: Why) -> None:
    """The fields of both are the same; only what its host takes now tells whether our bid would win."""
    assert reason(stopped(), evidence(*rows))[0] is why


def test_an_empty_account_explains_every_stop() -> None:
    """Machines that were stopped for want of credit look outbid as soon as somebody else rents them."""
    assert reason(stopped(), evidence(credit=0))[0] is Why.NO_CREDIT
    assert reason(stopped(), evidence(credit=-200_000))[0] is Why.NO_CREDIT


def test_an_unknown_credit_or_market_explains_nothing() -> None:
    """What did not answer is not evidence: a failed search would read as "no slice is left", so as outbid."""
    assert reason(stopped(), evidence(credit=None))[0] is Why.OUTBID
    assert reason(stopped(), replace(evidence(), rows=None))[0] is Why.UNTOLD


def test_a_host_whose_offer_ended_took_its_machine_back() -> None:
    """It can't be started again, whatever is bid."""
    assert reason(stopped(end_date=Decimal(str(NOW.timestamp() - 1))), evidence())[0] is Why.PREEMPTED


def test_an_on_demand_machine_is_never_outbid() -> None:
    """It outranks every bid; a search without its host says nothing about it."""
    assert reason(stopped(is_bid=False), evidence())[0] is Why.UNTOLD


def test_what_we_bid_is_better_known_to_us() -> None:
    """A stopped contract's own price field need not be the bid any more."""
    assert reason(stopped(dph_base=Decimal(0)), evidence(listed("0.30")), bid=310_000)[0] is Why.UNTOLD


@pytest.mark.parametrize(
    ("fields", "micros"),
    [
        (four("running", R, R, R), 250_000),
        (four("loading", R, R, R), 1_667),
        (four("exited", S, S, S), 1_667),
        (four("exited", R, R, R), 250_000),
        (four("offline", R, R, R), 0),
    ],
)
def test_a_machine_costs_what_its_state_bills(fields: dict[str, Any], micros: int) -> None:
    """The GPU while it is reserved and up, the disk always, nothing offline (contract, what is billed)."""
    row = fields | {"dph_total": Decimal("0.25"), "storage_cost": Decimal("0.10"), "disk_space": Decimal(12)}
    assert price_now(row, state_of(row, waking=False)) == micros


def test_a_price_that_is_not_told_is_none() -> None:
    """A made-up zero would be a free machine in the ledger."""
    fields = four("running", R, R, R)
    assert price_now(fields, state_of(fields, waking=False)) is None
