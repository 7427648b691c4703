"""The clouds of an installation: which providers it rents from, under which accounts, and where machines find it.

`providers.toml` in the home; without it everything is rented from this machine itself. A secret never stands in it,
only the name of a file that holds it.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from dumont.errors import BadInput
from dumont.i18n import _

FILE = "providers.toml"
VAST_URL = "https://console.vast.ai"
VAST_IMAGE = "pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime"


class ServerAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`host` is where machines out there reach this server, `listen` the addresses that it listens at for them.

    A rented machine ends itself when it did not join within `join_within_min` minutes, and when it has heard of no
    server for `orphan_after_h` hours and nobody's work depends on it; 0 switches either off (docs/adr/0014-orphans.md).
    """

    host: str
    listen: tuple[str, ...] = ("0.0.0.0",)  # machines of a cloud come from anywhere
    join_within_min: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    orphan_after_h: Annotated[float, msgspec.Meta(ge=0)] = 24.0


class VastAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account of Vast.ai. `key_file` is relative to the home."""

    key_file: str = "keys/vast"
    url: str = VAST_URL
    image: str = VAST_IMAGE


class GceAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A project of Google Cloud. `zones` in order of preference. Without `credentials_file`: Google's own defaults.

    `endpoint` is another address than Google's, which then needs no credentials (an emulator).
    """

    project: str
    zones: tuple[str, ...]
    credentials_file: str = ""
    endpoint: str = ""


class HistoryTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how many days the history of a removed workspace stays in the store, or `for-ever`."""

    keep_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] | Literal["for-ever"] = 30


class Clouds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. `server` is needed as soon as there is a provider."""

    server: ServerAddress | None = None
    vast: VastAccount | None = None
    gce: GceAccount | None = None
    history: HistoryTerms | None = None


def read_clouds(home: Path) -> Clouds:
    """What `providers.toml` says; nothing when there is none. Raises BadInput, naming the line or the field."""
    file = home / FILE
    if not file.exists():
        return Clouds()
    try:
        clouds = msgspec.convert(tomllib.loads(file.read_text()), Clouds)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadInput(_("{file} can't be read: {why}").format(file=file, why=error)) from error
    if (clouds.vast or clouds.gce) and clouds.server is None:
        raise BadInput(
            _("{file} lacks [server]: give `host`, the address under which machines reach this server").format(
                file=file
            )
        )
    return clouds


def write_clouds(home: Path, clouds: Clouds) -> None:
    """Write `providers.toml`, whole or not at all."""
    lines = []
    for name in ("server", "vast", "gce", "history"):
        section = getattr(clouds, name)
        if section is not None:
            lines.append(f"[{name}]")
            lines += [f"{key} = {_toml(value)}" for key, value in msgspec.to_builtins(section).items()]
            lines.append("")
    file = home / FILE
    draft = file.with_suffix(".new")
    draft.write_text("\n".join(lines))
    draft.rename(file)


def read_secret(home: Path, name: str) -> str:
    """The secret in a file of the home. Raises BadInput when it is missing or empty."""
    file = home / name
    try:
        secret = file.read_text().strip()
    except OSError as error:
        raise BadInput(_("{file} can't be read: {why}").format(file=file, why=error.strerror)) from error
    if not secret:
        raise BadInput(_("{file} is empty: it should hold the key").format(file=file))
    return secret


def _toml(value: object) -> str:
    """Texts and lists of texts; JSON's spelling of both is TOML's too."""
    return msgspec.json.encode(value).decode()
