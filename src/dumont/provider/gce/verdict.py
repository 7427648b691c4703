"""A verdict: what an error of Google's, synchronous or in an operation, means to us (contract §4)."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.cloud import compute_v1
from google.protobuf.json_format import ParseError
from requests.exceptions import RequestException

from dumont.errors import NoCapacity, ProviderError

FAILURES = (GoogleAPICallError, RetryError, GoogleAuthError, RequestException, ParseError)
"""What a call of the client may raise."""
RATE = ("rateLimitExceeded", "userRateLimitExceeded")
API_OFF = ("accessNotConfigured", "SERVICE_DISABLED")
SCOPES = ("insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT")
QUOTA_REMEDY = "Let machines go, use another region, or ask Google for more under IAM & Admin > Quotas."


class Passing(ProviderError):
    """What failed may pass: the same request may be sent again."""


class Absent(ProviderError):
    """Google says that there is no such resource."""


class Taken(ProviderError):
    """The name is in use, also by what is being deleted."""


class NotReady(ProviderError):
    """The resource is on its way to another state. Later it may do what is asked."""


class Denied(ProviderError):
    """The account may not do this; the message says what is missing. `reason` is Google's word."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def judge(what: str, error: Exception) -> ProviderError:
    """The error as ours. `what` says what was asked, for the message."""
    if isinstance(error, DefaultCredentialsError):
        return Denied(
            f"{what}: no Google credentials here. Run `gcloud auth application-default login`, or point "
            f"GOOGLE_APPLICATION_CREDENTIALS at a service account's key file.",
            "credentials",
        )
    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        return Denied(f"{what}: Google does not take these credentials: {error}", "credentials")
    if not isinstance(error, GoogleAPICallError):
        return Passing(f"{what}: no answer from Google, or none that can be read ({type(error).__name__}: {error})")
    code, reasons, words = int(error.code or 0), _reasons(error), f"{what}: {error.message}"
    if code in (429, 500, 502, 503, 504, 408) or any(reason in RATE for reason in reasons):
        return Passing(words)
    if code == 404 and "notFound" in reasons:
        return Absent(words)
    if code == 409:
        return Taken(words)
    if code == 400 and "resourceNotReady" in reasons:
        return NotReady(words)
    if code == 403 and "quotaExceeded" in reasons:
        return NoCapacity(f"{words} {QUOTA_REMEDY}")
    if code in (401, 403):
        return _denied(what, str(error.message), reasons)
    return ProviderError(f"{words} (HTTP {code} {' '.join(reasons)})")


def _denied(what: str, message: str, reasons: list[str]) -> Denied:
    if any(reason in API_OFF for reason in reasons):
        remedy = "Switch the Compute Engine API on: gcloud services enable compute.googleapis.com"
        return Denied(f"{what}: {message}. {remedy}", "accessNotConfigured")
    if any(reason in SCOPES for reason in reasons):
        return Denied(
            f"{what}: {message}. The credentials need the scope https://www.googleapis.com/auth/compute.",
            "insufficientPermissions",
        )
    remedy = "The account needs the role roles/compute.instanceAdmin.v1 on the project."
    return Denied(f"{what}: {message}. {remedy}", reasons[0] if reasons else "forbidden")


def _reasons(error: GoogleAPICallError) -> list[str]:
    """Google's words for the reason, from the envelope's list and from its details."""
    listed = [str(each.get("reason", "")) for each in error.errors if isinstance(each, Mapping)]
    detailed = [str(error.reason)] if error.reason else []
    return [reason for reason in (*listed, *detailed) if reason]


class Trouble(enum.StrEnum):
    """What kind of thing made an operation fail."""

    STOCK = "stock"
    QUOTA = "quota"
    TAKEN_BACK = "taken back"
    OTHER = "other"


@dataclass(frozen=True)
class Failure:
    """Why an operation failed, in words."""

    trouble: Trouble
    code: str
    words: str


def failure_of(operation: compute_v1.Operation) -> Failure | None:
    """Why this operation, which is DONE, failed; None when it did not.

    Its `error.errors` alone decide: the HTTP fields may be missing on a failure (contract §6, trap 2).
    """
    errors = list(operation.error.errors)
    if not errors:
        status = operation.http_error_status_code
        if not status:
            return None
        return Failure(Trouble.OTHER, str(status), operation.http_error_message or f"HTTP {status}")
    first = errors[0]
    code, words = first.code, first.message or first.code
    if "RESOURCE_POOL_EXHAUSTED" in code:
        return Failure(Trouble.STOCK, code, words)
    if "QUOTA" in code:
        return Failure(Trouble.QUOTA, code, f"{_quota_words(first) or words} {QUOTA_REMEDY}")
    if code == "UNSUPPORTED_OPERATION":
        return Failure(Trouble.TAKEN_BACK, code, words)
    return Failure(Trouble.OTHER, code, words)


def _quota_words(error: Any) -> str:
    for detail in error.error_details:
        info = detail.quota_info
        if info.metric_name:
            where = ", ".join(f"{key} {value}" for key, value in sorted(info.dimensions.items()))
            metric = info.metric_name.rpartition("/")[2].upper()
            return f"The quota {metric} is used up: its limit is {info.limit:g} ({where})."
    return ""
