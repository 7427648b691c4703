"""A keyring: the slots of a repository, each a way to open it, and how one of them is taken off for good.

A slot lies under `state/keys/`; the first one in `config`, which is replaced by one without a slot when that goes.
Nobody is locked out, though several people take slots off at once: each says which one is to go (`state/going/`) before
looking whether the one in use stays, so that whoever comes second sees the other. A listing tells in order of names:
what is going, then what is there (docs/snapshots.md).
"""

import contextlib

import msgspec

from dumont.errors import AlreadyStored, BadInput, Corrupt, NotStored, WrongKey
from dumont.repository.keys import NO_SLOT, Slot, without_slot
from dumont.repository.record import CONFIG, SECOND_CONFIG, SLOTS, STATE, Config
from dumont.repository.repository import Listing, Repository, read_config
from dumont.store.base import Store

FIRST = "first"
"""The name of the slot in `config`."""
GOING = f"{STATE}going/"


def slot_names(listing: Listing) -> list[str]:
    """The names of all slots, the first one first."""
    first = [] if SECOND_CONFIG in listing.others else [FIRST]
    return first + sorted(key.removeprefix(SLOTS) for key in listing.others if key.startswith(SLOTS))


def going(listing: Listing) -> set[str]:
    """The names of slots that somebody is taking off, or came to an end while doing so."""
    return {key.removeprefix(GOING) for key in listing.others if key.startswith(GOING)}


async def slots_of(store: Store, listing: Listing) -> dict[str, Slot]:
    """All slots by name. Raises Corrupt."""
    found = {}
    for name in slot_names(listing):
        try:
            slot = (await read_config(store)).slot if name == FIRST else await _read_slot(store, name)
        except NotStored:
            continue  # taken off meanwhile
        if slot.kind != NO_SLOT:
            found[name] = slot
    return found


async def _read_slot(store: Store, name: str) -> Slot:
    body = await store.get(SLOTS + name)
    try:
        return msgspec.msgpack.decode(body, type=Slot)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{SLOTS}{name} can't be read: {error}") from error


async def take_off(repo: Repository, name: str, in_use: str) -> None:
    """Delete the slot `name` for good. `in_use` is the one that opened the repository, and stays.

    Raises BadInput, and nothing was changed, when they are the same, when there is no slot of that name, and when
    somebody takes off the one in use. Whatever it is ended by, doing it again carries on.
    """
    if not repo.keys.secret:
        raise WrongKey("a writer's key takes no passphrase off: use one of the repository's passphrases")
    if name == in_use:
        raise BadInput("that passphrase is in use: open the repository with another one to remove it")
    listing = await repo.look()
    unfinished = name in going(listing) or (
        name == FIRST and SECOND_CONFIG in listing.others and await _has_first(repo)
    )
    if name not in slot_names(listing) and not unfinished:
        raise BadInput(f"there is no passphrase {name}; `dumont snapshot key list` shows what there is")
    with contextlib.suppress(AlreadyStored):  # whoever said so is at it, or was ended: two may do it
        await repo.store.put(GOING + name, b"")
    listing = await repo.look()
    if in_use not in slot_names(listing) or in_use in going(listing):
        await repo.store.delete(GOING + name)
        raise BadInput(
            "somebody is removing the passphrase that is in use, or was interrupted while doing so: nothing was "
            "removed; look at `dumont snapshot key list`, and try again with a passphrase that stays"
        )
    if name == FIRST:
        await _replace_config(repo)
    else:
        await repo.store.delete(SLOTS + name)
    await repo.store.delete(GOING + name)


async def _has_first(repo: Repository) -> bool:
    """Whether the config is not yet the one without a slot."""
    try:
        return msgspec.msgpack.decode(await repo.store.get(CONFIG), type=Config).slot.kind != NO_SLOT
    except NotStored:
        return True


async def _replace_config(repo: Repository) -> None:
    """Put a config without a slot in the place of the one there is. Everybody's is the same, to the byte.

    A second copy comes first: it is read while there is no `config`, and tells in listings that the first slot is gone.
    """
    config = await read_config(repo.store)
    slotless = msgspec.structs.replace(config, slot=without_slot(repo.keys.secret))
    body = msgspec.msgpack.encode(slotless)
    with contextlib.suppress(AlreadyStored):  # by somebody who does the same, or was ended
        await repo.store.put(SECOND_CONFIG, body)
    if await _has_first(repo):
        await repo.store.delete(CONFIG)
        with contextlib.suppress(AlreadyStored):  # by somebody who does the same
            await repo.store.put(CONFIG, body)
