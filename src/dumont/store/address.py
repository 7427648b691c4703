"""The address of a store: `s3://bucket/prefix` and its like, `file:///path`, or a path of a directory."""

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dumont.errors import BadInput
from dumont.store.prefix import checked_key

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
"""The union of what S3, R2, B2, Google and Azure allow; each service refuses the rest itself."""


class Scheme(Enum):
    """Where a store lies."""

    FILE = "file"
    S3 = "s3"
    GS = "gs"
    R2 = "r2"
    B2 = "b2"
    AZ = "az"


_EXAMPLES = "s3://bucket/prefix, r2://…, b2://…, gs://…, az://…, file:///path or the path of a directory"


@dataclass(frozen=True)
class Address:
    """A directory (`path`), or a `bucket` and the `prefix` of our keys in it: "" or like `a/b`, without a last `/`."""

    scheme: Scheme
    path: Path = Path()
    bucket: str = ""
    prefix: str = ""

    def __str__(self) -> str:
        if self.scheme is Scheme.FILE:
            return str(self.path)
        return f"{self.scheme.value}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


def parse(address: str) -> Address:
    """The address that `address` writes. Raises BadInput, which says how addresses are written."""
    if not address.strip() or "\0" in address:
        raise BadInput(f"the address of a store is missing: give {_EXAMPLES}")
    begins = _SCHEME.match(address)
    if not begins:
        return Address(Scheme.FILE, path=Path(address))
    name, slashes = begins[1].lower(), begins[2]
    if name not in {scheme.value for scheme in Scheme}:
        hint = f"; a directory of that name is written ./{address}" if not slashes else ""
        raise BadInput(f"{name}: is no kind of store that is known here: give {_EXAMPLES}{hint}")
    if not slashes:
        raise BadInput(f"{address!r} lacks the // after {name}: — give {_EXAMPLES}")
    rest = address[begins.end() :]
    return _directory(rest) if name == "file" else _bucket(Scheme(name), rest)


def _directory(rest: str) -> Address:
    path = rest.removeprefix("localhost")
    if not path.startswith("/"):
        raise BadInput(f"file://{rest} names another machine or a relative path: write file:///and/the/whole/path")
    return Address(Scheme.FILE, path=Path(path))


def _bucket(scheme: Scheme, rest: str) -> Address:
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.rstrip("/")
    if "@" in bucket or ":" in bucket:
        raise BadInput(
            f"{scheme.value}://… takes no keys, host or port: keys and endpoint come from the environment"
            " (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and their like)"
        )
    if not _BUCKET.fullmatch(bucket):
        raise BadInput(f"{bucket!r} is not the name of a bucket: 3 to 63 small letters, digits, '.', '-' and '_'")
    if prefix:
        try:
            checked_key(prefix)
        except BadInput:
            raise BadInput(
                f"{prefix[:80]!r} can't begin the keys of objects: use printable ASCII, no // and no .."
            ) from None
    return Address(scheme, bucket=bucket, prefix=prefix)
