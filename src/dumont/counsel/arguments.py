"""The arguments of `dumont advise`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dumont.errors import BadInput
from dumont.i18n import _

CONFIG_BYTES_MAX = 2**20


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """What the user asks for. Ends the program with 2 and a usage line if that is nonsense."""
    parser = argparse.ArgumentParser(
        "dumont advise",
        description=_("Say what you want to do; Dumont answers with the machine to rent, why, how long and how much."),
        epilog=_(
            "An answer can be changed by saying more, or with --set: `--set epochs=1 --set seq_len=4096`. Without a "
            "server dated published prices are ranked. Asking rents nothing."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("text", nargs="*", metavar="TEXT", help=_("what you want to do, in Portuguese or English"))
    parser.add_argument("--json", action="store_true", help=_("print one JSON object"))
    parser.add_argument("--explain", action="store_true", help=_("print the arithmetic line by line"))
    parser.add_argument("--no-llm", action="store_true", help=_("let rules read the text, even if a model is set up"))
    parser.add_argument("--config", type=Path, metavar="FILE", help=_("a Hugging Face config.json: any model"))
    parser.add_argument(
        "--exchange", type=float, metavar="RATE", help=_("units of the currency for one US$, such as 5.40")
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help=_("a field of the workload; may be repeated")
    )
    parser.add_argument(
        "--workload", metavar="FILE", help=_("estimate JSON lines, one in, one out; - reads standard input")
    )
    parser.add_argument("--calibration", action="store_true", help=_("show how far predictions were from real runs"))
    parser.add_argument("--lang", metavar="LANG", help=_("language: en or pt_BR; default: that of LANG"))
    found = parser.parse_args(arguments)
    if sum((bool(found.text), bool(found.workload), found.calibration)) != 1:
        parser.error(_("give a text, or --workload FILE, or --calibration"))
    return found


def fields_of(settings: Sequence[str]) -> dict[str, Any]:
    """`epochs=1` as a field and its JSON value; what is no JSON is a word. Raises BadInput."""
    fields: dict[str, Any] = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        if not sign or not name.strip():
            raise BadInput(_("{text!r} is no setting: write it like epochs=1").format(text=setting))
        try:
            fields[name.strip()] = json.loads(value)
        except ValueError:
            fields[name.strip()] = value
    return fields


def config_of(path: Path | None) -> dict[str, Any] | None:
    """The object in a config.json. Raises BadInput."""
    if path is None:
        return None
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise BadInput(_("{path} is too long for a config.json").format(path=path))
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(_("{path} can't be read as a config.json: {why}").format(path=path, why=error)) from error
    if not isinstance(found, dict):
        raise BadInput(_("{path} holds no JSON object").format(path=path))
    return found
