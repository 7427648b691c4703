"""The roster: the account's contracts as Vast.ai lists them, whole or not at all.

A list that failed, is of another shape, or holds fewer rows than it says is an error and never an empty list: others
read a retired list as "no instances" and went on renting.
"""

from typing import Any

from dumont.errors import NoSuchInstance, ProviderError
from dumont.provider.vast.client import Call, Client, Content, Refusal
from dumont.provider.vast.states import is_ending

PAGE_ROWS = 25
PAGES_MAX = 200
MISSING = frozenset({"no_such_instance", "not_found"})


class Short(ProviderError):
    """A list holds fewer rows than the service says it has."""


class Roster:
    """Reads contracts. All of the account's: whose they are is told by their labels."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def rows(self, filters: Content | None = None) -> list[Content]:
        """Every contract that passes, by id, over all pages. Raises ProviderError."""
        found: dict[int, Content] = {}
        token: str | None = None
        for _ in range(PAGES_MAX):
            params: Content = {
                "limit": PAGE_ROWS,
                "order_by": [{"col": "id", "dir": "asc"}],
                "select_filters": filters or {},
            }
            if token is not None:
                params["after_token"] = token
            call = Call(endpoint="list", method="GET", path="/api/v1/instances/", params=params)
            answer = await self._client.call(call)
            page = answer.get("instances")
            if not isinstance(page, list):
                raise ProviderError("Vast.ai answered a list of instances without one. Its machines are unknown now.")
            found |= {_id(row): row for row in page}
            token = answer.get("next_token")
            if not token:
                _check_total(answer.get("total_instances"), len(found), last_page=len(page))
                return [found[number] for number in sorted(found)]
            if not page or not isinstance(token, str):
                raise ProviderError("Vast.ai's list of instances does not come to an end. Try again.")
        raise ProviderError(f"Vast.ai lists more than {PAGES_MAX * PAGE_ROWS} instances; that is not ours to read.")

    async def _some(self, filters: Content) -> list[Content]:
        """Rows that the service filtered; all rows, where its total seems to count those that it left out too.

        Whether `total_instances` follows the filter is not documented. Raises ProviderError.
        """
        try:
            return await self.rows(filters)
        except Short:
            return await self.rows()

    async def labelled(self, label: str) -> list[Content]:
        """The contracts of that label, which are not being destroyed, the oldest first. Raises ProviderError."""
        rows = await self._some({"label": {"eq": label}})
        return [row for row in rows if row.get("label") == label and not is_ending(row)]

    async def listed(self, number: int) -> Content | None:
        """The contract of that id as the list has it; None when a list that was read whole lacks it."""
        rows = await self._some({"id": {"eq": number}})
        return next((row for row in rows if _id(row) == number), None)

    async def one(self, number: int) -> Content:
        """The contract of that id. Raises NoSuchInstance when the list lacks it and asking for it by name denies it.

        Both are asked, as a new contract may be missing from the list for a while. A refused key denies nothing.
        """
        row = await self.listed(number)
        if row is not None:
            return row
        call = Call(endpoint="show", method="GET", path=f"/api/v0/instances/{number}/", params={"owner": "me"})
        try:
            answer = await self._client.call(call)
        except Refusal as refusal:
            if is_missing(refusal):
                raise NoSuchInstance(f"Vast.ai has no instance {number}.") from refusal
            raise
        if "instances" not in answer:
            raise ProviderError(f"Vast.ai answered about instance {number} without saying whether it has it.")
        shown = answer["instances"]
        if shown is None:
            raise NoSuchInstance(f"Vast.ai has no instance {number}.")
        if not isinstance(shown, dict) or _id(shown) != number:
            raise ProviderError(f"Vast.ai answered about instance {number} with something else.")
        return shown


def is_missing(refusal: Refusal) -> bool:
    """Whether a refusal says that there is no such contract. A bare 404 does not: a bad key is answered with one too,
    and so is a path that the service no longer has.
    """
    return refusal.status == 404 and refusal.code in MISSING


def _id(row: Any) -> int:
    number = row.get("id") if isinstance(row, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise ProviderError("Vast.ai listed an instance without a number. Its machines are unknown now.")
    return number


def _check_total(total: Any, found: int, *, last_page: int) -> None:
    """Raises ProviderError when the list is short of what it says there is.

    Some rows may have been destroyed while the pages were read; an answer that holds none of several was not read.
    """
    if isinstance(total, int) and total > found and (found == 0 or total - found > last_page):
        raise Short(f"Vast.ai says it has {total} instances and listed {found}. Try again.")
