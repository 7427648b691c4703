"""`dumont snapshot key`: passphrases are listed, added and removed; and keys for hosts that may only add."""

import argparse
import asyncio
import json

from dumont.errors import BadInput
from dumont.i18n import _
from dumont.repository.keyring import going, slots_of, take_off
from dumont.repository.keys import Slot, write_out, writer_keys
from dumont.standalone.access import Opened, add_passphrase, door
from dumont.standalone.output import remark, show
from dumont.standalone.secret import another
from dumont.standalone.surroundings import Surroundings

_SHORT = 8
"""Digits of a slot's name that people see; any beginning of it will do that no other name has."""


def run(options: argparse.Namespace, surroundings: Surroundings) -> int:
    """Do what `options.act` says. Raises BadInput, WrongKey."""
    return asyncio.run(_act(options, surroundings))


async def _act(options: argparse.Namespace, surroundings: Surroundings) -> int:
    opened = await door(options, surroundings).open()
    if options.act == "list":
        await _list(opened, options)
    elif options.act == "add":
        passphrase = another(surroundings.environment, options.new_passphrase_file)
        name = await add_passphrase(opened.repository, passphrase, options.label)
        show(options, {"id": name, "label": options.label}, _("added passphrase {name}").format(name=name[:_SHORT]))
    elif options.act == "remove":
        await _remove(opened, options)
    else:
        _add_writer(opened, options)
    return 0


async def _list(opened: Opened, options: argparse.Namespace) -> None:
    opened.repository.keys.secret_of("")  # a writer's key learns nothing, not even this
    slots = await slots_of(opened.repository.store, opened.listing)
    leaving = going(opened.listing)
    if options.json:
        about = [
            {
                "id": name,
                "kind": slot.kind,
                "label": slot.label,
                "in_use": name == opened.slot,
                "going": name in leaving,
            }
            for name, slot in slots.items()
        ]
        print(json.dumps(about))
        return
    for name, slot in slots.items():
        notes = [_("in use")] * (name == opened.slot) + [_("being removed")] * (name in leaving)
        note = f"  ({', '.join(notes)})" if notes else ""
        print(f"{name[:_SHORT]:10} {slot.kind:12} {slot.label}".rstrip() + note)


async def _remove(opened: Opened, options: argparse.Namespace) -> None:
    opened.repository.keys.secret_of("")
    slots = await slots_of(opened.repository.store, opened.listing)
    name = _meant(slots, going(opened.listing), options.label)
    if len(slots) == 1 and name in slots:
        raise BadInput(
            _("that is the only passphrase, and nothing else opens the repository: add another with `key add` first")
        )
    if name == opened.slot:
        raise BadInput(_("that passphrase is in use: open the repository with another one to remove it"))
    if name in slots and slots[name].kind == "key":
        raise BadInput(_("that is the server's key, without which its workspace can't be restored: it stays"))
    await take_off(opened.repository, name, opened.slot)
    show(options, {"id": name, "removed": True}, _("removed passphrase {name}").format(name=name[:_SHORT]))
    remark(
        options,
        _(
            "it opens the repository no more, except for whoever has kept a copy of its key object and knows the "
            "passphrase: what is stored is still sealed with the same key. If it fell into wrong hands, save into a "
            "new repository and delete this one"
        ),
    )


def _meant(slots: dict[str, Slot], leaving: set[str], word: str) -> str:
    """The name of the slot that a person means: the beginning of its id, or its label. Raises BadInput."""
    if not word:
        raise BadInput(_("say which: `dumont snapshot key remove REPO ID`; `key list` shows the ids"))
    found = [name for name in leaving.union(slots) if name.startswith(word)]
    found = found or [name for name, slot in slots.items() if slot.label == word]
    if len(found) > 1:
        raise BadInput(_("{word} means several passphrases: write more of the id").format(word=word))
    return found[0] if found else word


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
