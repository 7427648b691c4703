"""A refusal: the error envelope that Google answers with, and what an operation says that failed."""

from dataclasses import dataclass, field
from typing import Any


class Refusal(Exception):
    """An answer with an error. `reason` is Google's word for it; both stand in the envelope (contract §4)."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message

    def envelope(self) -> dict[str, Any]:
        """The answer's body."""
        inner = {"message": self.message, "domain": "global", "reason": self.reason}
        return {"error": {"code": self.code, "message": self.message, "errors": [inner]}}


def not_found(what: str) -> Refusal:
    """404: there is no such resource. `what` is its path below `projects/`."""
    return Refusal(404, "notFound", f"The resource 'projects/{what}' was not found")


def invalid(message: str) -> Refusal:
    """400: a field that makes no sense."""
    return Refusal(400, "invalid", message)


def not_ready(what: str) -> Refusal:
    """400: the resource is on its way to another state."""
    return Refusal(400, "resourceNotReady", f"The resource 'projects/{what}' is not ready")


def taken(what: str) -> Refusal:
    """409: the name is in use, also by what is being deleted."""
    return Refusal(409, "alreadyExists", f"The resource 'projects/{what}' already exists")


@dataclass(frozen=True)
class Failure:
    """Why an operation failed: the code of its first error, and the HTTP status that it would have had."""

    code: str
    message: str
    status: int
    words: str
    details: list[dict[str, Any]] = field(default_factory=list)


def stock_out(zone: str, kind: str) -> Failure:
    """No capacity for this machine type in this zone."""
    message = f"The zone '{zone}' does not have enough resources available to fulfill the request for '{kind}'."
    return Failure("ZONE_RESOURCE_POOL_EXHAUSTED", message, 503, "SERVICE UNAVAILABLE")


def over_quota(metric: str, limit: float, region: str) -> Failure:
    """A quota of the region is used up; carries `quotaInfo`."""
    info = {
        "metricName": f"compute.googleapis.com/{metric.lower()}",
        "limitName": f"{metric}-per-project-region",
        "limit": limit,
        "dimensions": {"region": region},
    }
    message = f"Quota '{metric}' exceeded.  Limit: {limit} in region {region}."
    return Failure("QUOTA_EXCEEDED", message, 403, "FORBIDDEN", [{"quotaInfo": info}])


def taken_back_early() -> Failure:
    """What an insert says whose machine was preempted while it was being made (third-party reports)."""
    message = "Instance was preempted while it was being created."
    return Failure("UNSUPPORTED_OPERATION", message, 400, "BAD REQUEST")
