"""The fault book: how the emulated cloud misbehaves. Every field may be changed while it runs."""

import re
from dataclasses import dataclass, field, fields
from random import Random
from typing import Any

from dumont.errors import BadInput


@dataclass(kw_only=True)
class Faults:
    """Counts are calls still to be met by a fault, in order of arrival; times are seconds of the clock.

    A call is named `METHOD path` below `projects/`; `only` is a regular expression that the faulty ones match, ""
    all. `lost_before` calls are cut off and not carried out, `lost_answers` are carried out and then cut off; `garbled`
    ones are answered with 200 and no JSON, `emptied` ones with 200 and `{}`. A `…_share` is the part of all calls that
    meets that fault by chance. `stock_out` holds "zone", "zone/type" or "*/type". `quotas` is region →
    metric → limit, and `quota_at_once` refuses at the request instead of in the operation. `no_http_fields` leaves the
    HTTP fields out of a failed operation. Lists lag by `listing_lag_s`, and leave the zones in `unreachable` out.
    """

    only: str = ""
    rate_limited: int = 0
    rate_status: int = 403
    server_errors: int = 0
    server_error_status: int = 503
    lost_before: int = 0
    lost_answers: int = 0
    garbled: int = 0
    emptied: int = 0
    rate_limited_share: float = 0.0
    server_errors_share: float = 0.0
    lost_before_share: float = 0.0
    lost_answers_share: float = 0.0
    garbled_share: float = 0.0
    emptied_share: float = 0.0
    slow_s: float = 0.0
    denied: str = ""
    """"" or the reason of a refusal of every call: authError, forbidden, accessNotConfigured."""
    stock_out: set[str] = field(default_factory=set)
    quotas: dict[str, dict[str, float]] = field(default_factory=dict)
    quota_at_once: bool = False
    no_http_fields: bool = False
    operation_retention_s: float = 14 * 86400.0
    preempt_on_create: int = 0
    preempt_on_create_action: str = ""
    listing_lag_s: float = 0.0
    unreachable: set[str] = field(default_factory=set)
    late_delete_s: float = 0.0
    delete_fails: int = 0
    leaves_disks: bool = False
    """A machine's disk stays behind, when it is deleted and when its creation fails."""
    leaves_machine: bool = False
    """A failed creation leaves the machine behind, TERMINATED."""
    leaves_addresses: bool = False
    advice_off: bool = False

    def met(self, name: str, call: str, rng: Random) -> bool:
        """Whether the fault `name` meets this call: while it is counted, which it then is down, and by its share."""
        if self.only and not re.search(self.only, call):
            return False
        if (left := getattr(self, name)) > 0:
            setattr(self, name, left - 1)
            return True
        share = getattr(self, f"{name}_share", 0.0)
        return bool(share) and rng.random() < share

    def change(self, changes: dict[str, Any]) -> None:
        """Set fields by name, as HTTP does. Raises BadInput, naming the field that does not exist or fit."""
        known = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise BadInput(f"There is no fault {name!r}. Known: {', '.join(sorted(known))}.")
            kind = type(known[name])
            if kind is set and isinstance(value, list):
                value = set(value)
            elif kind is float and isinstance(value, int):
                value = float(value)
            if type(value) is not kind:
                raise BadInput(f"The fault {name!r} is a {kind.__name__}, not {value!r}.")
            setattr(self, name, value)

    def is_out(self, zone: str, kind: str) -> bool:
        """Whether this type is out of stock in this zone."""
        return bool(self.stock_out & {zone, f"{zone}/{kind}", f"*/{kind}"})
