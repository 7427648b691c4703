"""`dumont snapshot key`: further passphrases, and keys for hosts that may only add."""

import argparse
import asyncio
import json

from dumont.errors import BadInput
from dumont.i18n import _
from dumont.repository.keys import write_out, writer_keys
from dumont.repository.repository import read_config
from dumont.standalone.access import Door, Opened, add_passphrase, door
from dumont.standalone.output import remark, show
from dumont.standalone.secret import another
from dumont.standalone.surroundings import Surroundings


def run(options: argparse.Namespace, surroundings: Surroundings) -> int:
    """Do what `options.act` says. Raises BadInput, WrongKey."""
    return asyncio.run(_act(options, surroundings))


async def _act(options: argparse.Namespace, surroundings: Surroundings) -> int:
    at = door(options, surroundings)
    opened = await at.open()
    if options.act == "list":
        await _list(at, opened, options)
    elif options.act == "add":
        passphrase = another(surroundings.environment, options.new_passphrase_file)
        name = await add_passphrase(opened.repository, passphrase, options.label)
        show(options, {"id": name, "label": options.label}, _("added passphrase {name}").format(name=name[:8]))
    else:
        _add_writer(opened, options)
    return 0


async def _list(at: Door, opened: Opened, options: argparse.Namespace) -> None:
    opened.repository.keys.secret_of("")  # a writer's key learns nothing, not even this
    slots = [("", (await read_config(at.store)).slot), *await at.slots(opened.listing)]
    if options.json:
        print(json.dumps([{"id": name or "first", "kind": slot.kind, "label": slot.label} for name, slot in slots]))
        return
    first = _("first")
    for name, slot in slots:
        print(f"{name[:8] or first:10} {slot.kind:12} {slot.label}".rstrip())


def _add_writer(opened: Opened, options: argparse.Namespace) -> None:
    if not options.label:
        raise BadInput(_("the writer's name is missing: `dumont snapshot key add-writer REPO NAME`"))
    line = write_out(writer_keys(opened.repository.keys, options.label))
    where = _("put it into DUMONT_WRITER_KEY on that host; it is not shown again, and it adds and reads nothing")
    if options.json:
        print(json.dumps({"writer": options.label, "key": line}))
    else:
        print(line)
        remark(options, where)
