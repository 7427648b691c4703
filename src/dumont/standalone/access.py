"""Access: from an address and a secret to an open repository, with one listing of it and nothing asked twice.

What says how to open a repository is kept on this machine (`known.py`). It counts
only while the repository's listing holds its marker, so a repository that was replaced is noticed.
"""

import argparse
import asyncio
import os
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from dumont.errors import AlreadyStored, BadInput, NotStored, WrongKey
from dumont.i18n import _
from dumont.repository.cache import Cache
from dumont.repository.keyring import FIRST, slot_names, slots_of
from dumont.repository.keys import Keys, Slot, read_in, unwrap, wrap_with_key, wrap_with_passphrase
from dumont.repository.record import SLOTS
from dumont.repository.repository import (
    Entropy,
    Listing,
    Repository,
    create_repository,
    look,
    mark,
    marker_key,
    open_repository,
    read_config,
)
from dumont.standalone.early import Stretching, Unlocking
from dumont.standalone.known import Known, caches_of, recall, remember, where_is
from dumont.standalone.secret import Secrets
from dumont.standalone.surroundings import Surroundings
from dumont.store.address import Address, Scheme, parse
from dumont.store.base import Store
from dumont.store.conditional import require_conditional_writes
from dumont.store.directory import DirectoryStore
from dumont.store.opening import open_directory, open_store

_PROBES = "probe/"


@dataclass(frozen=True)
class Opened:
    """An open repository, what its listing held, and whether it was made just now.

    `slot` is the name of the one that opened it, "" for a writer's key.
    """

    repository: Repository
    listing: Listing
    created: bool = False
    slot: str = ""


@dataclass(frozen=True)
class Door:
    """What it takes to open the repository in `store`, which lies at `address`. `unlocking`: what has begun already."""

    store: Store
    address: Address
    secrets: Secrets
    caches: Path
    entropy: Entropy
    unlocking: Unlocking | Stretching | None = None

    @property
    def where(self) -> str:
        """The address as it is told and cached."""
        return where_is(self.address)

    async def open(self) -> Opened:
        """The repository. Raises BadInput when there is none, WrongKey; changes nothing."""
        opened = await self._find()
        if opened is None:
            raise BadInput(
                _("there is no repository at {where}: check the address; `dumont snapshot save` makes one").format(
                    where=self.where
                )
            )
        return opened

    async def open_or_create(self) -> Opened:
        """The repository, made if there is none and nothing else is there. Raises as `open`, and NotPossibleHere."""
        opened = await self._find()
        if opened is None:
            return await self._create()
        if marker_key(opened.repository.keys.repository) not in opened.listing.others:
            await mark(self.store, await read_config(self.store))  # or else no later run could trust its cache
        return opened

    async def _find(self) -> Opened | None:
        if line := self.secrets.writer_key():
            return await self._as_writer(read_in(line))
        known = recall(self.caches, self.where)
        if known is None:
            return await self._anew()
        passphrase = self.secrets.passphrase(new=False)
        begun = self.unlocking if isinstance(self.unlocking, Unlocking) and self.unlocking.slot == known.slot else None
        opening = asyncio.to_thread(begun.secret) if begun else asyncio.to_thread(self._try, known.slot, passphrase)
        listing, secret = await asyncio.gather(look(self.store), opening)
        is_there = marker_key(known.config.repository) in listing.others and known.name in slot_names(listing)
        if not is_there or secret is None:  # a slot that was taken off opens nothing, though it is remembered here
            return await self._anew(passphrase)
        return self._opened(open_repository(self.store, known.config, secret, self.entropy), listing, known.name)

    async def _anew(self, passphrase: bytes | None = None) -> Opened | None:
        try:
            config = await read_config(self.store)
        except NotStored:
            return None
        if passphrase is None:
            passphrase = self.secrets.passphrase(new=False)
        listing = await look(self.store)
        for name, slot in (await slots_of(self.store, listing)).items():
            secret = await asyncio.to_thread(self._try, slot, passphrase)
            if secret is not None:
                opened = self._opened(open_repository(self.store, config, secret, self.entropy), listing, name)
                remember(self.caches, self.where, Known(config, slot, name))
                return opened
        if self.secrets.key_file:
            raise WrongKey(
                _("the key does not open the repository at {where}; nothing was changed").format(where=self.where)
            )
        raise WrongKey(
            _("the passphrase does not open the repository at {where}; nothing was changed").format(where=self.where)
        )

    def _try(self, slot: Slot, passphrase_or_key: bytes) -> bytes | None:
        """The secret, or None when this does not open it."""
        if slot.kind != self.secrets.kind:
            return None
        try:
            return unwrap(slot, passphrase_or_key)
        except WrongKey:
            return None

    async def _as_writer(self, keys: Keys) -> Opened | None:
        listing = await look(self.store)
        if marker_key(keys.repository) not in listing.others:
            try:
                config = await read_config(self.store)
            except NotStored:
                return None
            if config.repository != keys.repository:
                raise WrongKey(_("this writer's key is for another repository than {where}").format(where=self.where))
        return self._opened(Repository(self.store, keys, self.entropy), listing)

    async def _create(self) -> Opened:
        if self.secrets.writer_key():
            raise BadInput(_("there is no repository at {where}; a writer's key makes none").format(where=self.where))
        async for key in self.store.keys():
            if not key.startswith(_PROBES):
                raise BadInput(
                    _(
                        "{where} holds other things and no repository: give an empty place (the order is PATH REPO)"
                    ).format(where=self.where)
                )
        passphrase = self.secrets.passphrase(new=True)
        if self.address.scheme is Scheme.FILE:
            open_directory(self.address, create=True)
        await require_conditional_writes(self.store, self.entropy(16).hex(), self.where)
        try:
            repository = await create_repository(
                self.store, lambda secret, salt: self._wrap(secret, passphrase, salt), self.entropy
            )
        except AlreadyStored as error:
            raise BadInput(
                _("somebody made a repository at {where} just now; try again").format(where=self.where)
            ) from error
        config, listing = await asyncio.gather(read_config(self.store), look(self.store))
        remember(self.caches, self.where, Known(config, config.slot, FIRST))
        return replace(self._opened(repository, listing, FIRST), created=True)

    def _wrap(self, secret: bytes, passphrase: bytes, salt: bytes) -> Slot:
        if self.secrets.key_file:
            return wrap_with_key(secret, passphrase, salt)
        begun = self.unlocking
        if isinstance(begun, Stretching) and begun.passphrase == passphrase and (slot := begun.wrap(secret)):
            return slot
        return wrap_with_passphrase(secret, passphrase, salt)

    def _opened(self, repository: Repository, listing: Listing, slot: str = "") -> Opened:
        keys = repository.keys
        name = "-".join(part for part in (keys.repository.hex(), keys.writer) if part)
        repository.cache = Cache(self.caches / name, keys.cache_key)
        repository.seen = listing
        return Opened(repository, listing, slot=slot)


def door(options: argparse.Namespace, surroundings: Surroundings) -> Door:
    """The door to the repository that the options name, which need not be there.

    Raises BadInput for an address that makes no sense or lacks its credentials.
    """
    address = parse(options.repo)
    secrets = Secrets(
        surroundings.environment, options.passphrase_file, options.insecure_no_passphrase, options.key_file
    )
    top = Path(os.path.abspath(address.path))
    if address.scheme is Scheme.FILE and not os.path.lexists(top):
        store: Store = DirectoryStore(top)  # holds nothing; it is made when something is to be stored
    else:
        store = open_store(address, create=False, open_cloud=surroundings.open_cloud)
    known = caches_of(surroundings.environment)
    return Door(store, address, secrets, known, surroundings.entropy, surroundings.unlocking)


async def add_passphrase(repository: Repository, passphrase: bytes, label: str) -> str:
    """Let `passphrase` open the repository too. The new slot's name."""
    keys = repository.keys
    if not keys.secret:
        raise WrongKey(_("a writer's key adds no passphrase: use the repository's passphrase"))
    slot = await asyncio.to_thread(wrap_with_passphrase, keys.secret, passphrase, repository.entropy(16), label)
    name = repository.new_name()
    await repository.store.put(SLOTS + name, msgspec.msgpack.encode(slot))
    return name
