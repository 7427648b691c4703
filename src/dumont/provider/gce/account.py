"""An account with Google: project, zones and marks, and the names that everything rented under it gets."""

import hashlib
import json
import re
import uuid
from dataclasses import dataclass

from google.auth.credentials import Credentials

from dumont.errors import BadInput

ENDPOINT = "https://compute.googleapis.com"
INSTALLATION_KEY = "dumont-installation"
LABEL_KEY = "dumont-label"
TAG = "dumont"
PORTS = (7022, 7080, 7443)
"""Ports of a machine that others must reach: SSH, HTTP and the replication stream."""
NAME_CHARACTERS_MAX = 63
RUN_SECONDS = (30, 120 * 86400)
"""What Google takes as a run limit (contract §2, inferred)."""

_NAMESPACE = uuid.UUID("6f1c2f0a-5d0e-5b7e-9a51-7d1f6f8f2c44")
_VALUE = re.compile(r"[a-z0-9_-]{1,63}")
_ZONE = re.compile(r"[a-z]+-[a-z]+[0-9]+-[a-z]")


@dataclass(frozen=True, kw_only=True)
class Account:
    """Where and as whom to rent. `zones` are in order of preference.

    `credentials` None are the application's default ones. `types` are the machine types looked at, empty for every one
    that has a price. `run_s_max` ends a machine by itself after so many seconds, 0 never: a dead-man switch. Durations
    are seconds: `attempt_s` bounds one HTTP call, `patience_s` all attempts of it, `insert_s_max` and `delete_s_max`
    the operations, `poll_s` is the pause between two looks.
    """

    project: str
    zones: tuple[str, ...]
    installation: str
    server_host: str
    credentials: Credentials | None = None
    api_endpoint: str = ENDPOINT
    types: tuple[str, ...] = ()
    network: str = "global/networks/default"
    image: str = "projects/debian-cloud/global/images/family/debian-12"
    disk_type: str = "pd-balanced"
    run_s_max: int = 0
    attempt_s: float = 20.0
    patience_s: float = 90.0
    insert_s_max: float = 120.0
    delete_s_max: float = 240.0
    poll_s: float = 1.0

    def __post_init__(self) -> None:
        if not self.project or not self.installation or not self.zones:
            raise BadInput("A Google account needs a project, an installation's name and at least one zone.")
        for zone in self.zones:
            if not _ZONE.fullmatch(zone):
                raise BadInput(f"{zone!r} is no zone. Zones look like us-central1-a.")
        if self.run_s_max and not RUN_SECONDS[0] <= self.run_s_max <= RUN_SECONDS[1]:
            raise BadInput(f"A run limit is between {RUN_SECONDS[0]} s and {RUN_SECONDS[1]} s, not {self.run_s_max} s.")

    def near(self, zone: str) -> tuple[str, ...]:
        """This zone, then our other zones of its region: where prices and quotas are the same."""
        others = (each for each in self.zones if each != zone and region_of(each) == region_of(zone))
        return (zone, *others)

    def name(self, label: str) -> str:
        """The machine's name, the same for the same label. The digest keeps two labels, or installations, apart that
        look alike once lowercased and cut."""
        digest = _digest(json.dumps([self.installation, label]))
        readable = re.sub(r"[^a-z0-9]+", "-", f"{self.installation[:16]}-{label}".lower()).strip("-")
        kept = readable[: NAME_CHARACTERS_MAX - len(TAG) - len(digest) - 2].strip("-")
        return f"{TAG}-{kept}-{digest}"

    def request_id(self, *what: str | int) -> str:
        """The requestId of an act: the same for the same act, so that its repetition acts only once."""
        return str(uuid.uuid5(_NAMESPACE, json.dumps([self.project, self.installation, *what])))


def region_of(zone: str) -> str:
    """The zone's region, which its name holds."""
    return zone.rpartition("-")[0]


def safe_value(text: str) -> str:
    """A text as the value of a Google label: itself where it may be, else shortened with a digest."""
    if _VALUE.fullmatch(text):
        return text
    return f"{re.sub(r'[^a-z0-9_-]+', '-', text.lower())[:54]}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.blake2s(text.encode(), digest_size=4).hexdigest()


@dataclass(frozen=True)
class Ref:
    """Which machine: the id tells it from a later one of the same name."""

    zone: str
    name: str
    id: int

    def __str__(self) -> str:
        return f"{self.zone}/{self.name}/{self.id}"

    @staticmethod
    def parse(text: str) -> "Ref | None":
        """None for what never was a reference of ours."""
        zone, _, rest = text.partition("/")
        name, _, number = rest.partition("/")
        return Ref(zone, name, int(number)) if zone and name and number.isdecimal() else None
