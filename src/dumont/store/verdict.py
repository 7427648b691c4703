"""What an answer of an object storage service means: whether it may pass, and what a person should do about it.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; R2, B2, Google's XML API and Azure answer in
the same form with codes of their own.
"""

import re
from dataclasses import dataclass

from dumont.store.account import Account

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})")
_SUMMARY_CHARACTERS_MAX = 240

_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_CONFLICT = {"ConditionalRequestConflict", "OperationAborted"}
_PASSING_CODES = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "ServerBusy", *_CONFLICT}
_PASSING_STATUS = {408, 425, 429}
_CLOCK = {"RequestTimeTooSkewed"}
_WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed", "InvalidSecurity"}
_EXPIRED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_FULL = {"QuotaExceeded", "InsufficientStorage", "AccountProblem"}


@dataclass(frozen=True)
class Verdict:
    """`passing`: another attempt may do. `words`: what it was and what to do."""

    passing: bool
    words: str
    status: int = 0
    code: str = ""

    @property
    def no_bucket(self) -> bool:
        """The bucket itself is missing."""
        return self.code in _NO_BUCKET

    @property
    def conflict(self) -> bool:
        """Another write of that key was under way; nothing is decided yet."""
        return self.code in _CONFLICT


def judge(text: str, account: Account) -> Verdict:
    """The verdict on an error whose text, from obstore, is `text`."""
    said, _, detail = text.partition("\n\nDebug source")
    status = int(found[1]) if (found := _STATUS.search(said)) else 0
    code = found[1] if (found := _CODE.search(said)) else ""
    passing = status in _PASSING_STATUS or code in _PASSING_CODES or (status >= 500 and status != 501)
    if words := _advice(status, code, text, account):
        return Verdict(False, words, status, code)
    if status:
        answer = f"{account.address} answered {status} {code}".rstrip() + _message(said)
        why = f"{answer}: the service is overloaded or failing; try again later" if passing else answer
        return Verdict(passing, why, status, code)
    return Verdict(True, f"{account.address} can't be reached: {_cause(said, detail)}. Check endpoint and network")


def _advice(status: int, code: str, text: str, account: Account) -> str:
    """What a person has to do, for what no repetition mends; "" for the rest."""
    bucket = account.address.bucket
    if code in _CLOCK:
        return (
            "this machine's clock is wrong by many minutes, so that the service refuses its signatures: "
            "set the clock (for example `timedatectl set-ntp true`) and try again"
        )
    if code in _EXPIRED:
        return (
            f"the credentials for {account.address} have expired: get new ones ({account.keys} and the session token)"
        )
    if code in _WRONG_KEYS or status == 401:
        return f"the service does not accept the credentials for {account.address}: check {account.keys}"
    if code in _NO_BUCKET:
        return f"there is no bucket {bucket}: create it, or check the address, the endpoint and the region"
    if code in _REGION or "incorrectly configured region" in text:
        return f"bucket {bucket} lies in another region: set AWS_REGION to the bucket's own"
    if code in _FULL or status == 507:
        return f"{account.address} is full or its account is blocked: look at its quota and bills"
    if status == 403:
        return (
            f"permission denied on {account.address}: the credentials ({account.keys}) must be allowed to get, put and "
            "list objects of this bucket, and to delete them for pruning"
        )
    if status == 501 or code == "NotImplemented":
        return (
            f"{account.address} does not support conditional writes (If-None-Match), without which two writers could "
            "overwrite each other's history: use a store that has them, like S3, R2, Google, Azure or a directory"
        )
    if any(place in text for place in ("169.254.169.254", "169.254.170.2", "metadata.google.internal")):
        return f"no credentials for {account.address} were found: set {account.keys}"
    if "invalid peer certificate" in text:
        return (
            f"the certificate of {account.address}'s endpoint is not valid: check the endpoint and this machine's clock"
        )
    return ""


def _message(said: str) -> str:
    found = _MESSAGE.search(said)
    return f" ({found[1].strip()})" if found else ""


def _cause(said: str, detail: str) -> str:
    """The most telling line of a failure without an answer."""
    for sign, words in (
        ("dns error", "its name can't be resolved"),
        ("Connection refused", "the connection is refused"),
        ("IncompleteMessage", "the connection was cut before the answer"),
        ("Connection reset", "the connection was cut"),
        ("error decoding response body", "the answer was cut off"),
        ("TimedOut", "no answer in time"),
    ):
        if sign in said or sign in detail:
            return words
    return " ".join(said.split())[:_SUMMARY_CHARACTERS_MAX]
