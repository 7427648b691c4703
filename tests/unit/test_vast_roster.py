"""The roster of Vast.ai's contracts: a list that may be short is never taken for a whole one."""

from typing import Any

from dumont.provider.vast.client import Call
from dumont.provider.vast.roster import Roster

ROWS = [{"id": number, "label": label, "cur_state": "running"} for number, label in ((1, "ours"), (2, "theirs"))]


class Counting:
    """A service whose total counts the rows that the filter left out too, and whose filter misses rows."""

    def __init__(self) -> None:
        self.filters: list[Any] = []

    async def call(self, call: Call) -> dict[str, Any]:
        assert call.params is not None
        self.filters.append(call.params["select_filters"])
        rows = [] if call.params["select_filters"] else ROWS
        return {"success": True, "instances": rows, "total_instances": len(ROWS), "next_token": None}


async def test_a_label_is_looked_for_in_the_whole_list_when_the_total_does_not_follow_the_filter() -> None:
    """Otherwise nothing could be rented or released on an account that holds anything else."""
    service = Counting()
    found = await Roster(service).labelled("ours")  # type: ignore[arg-type]
    assert [row["id"] for row in found] == [1]
    assert service.filters == [{"label": {"eq": "ours"}}, {}]
