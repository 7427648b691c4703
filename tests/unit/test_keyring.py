"""A keyring: one slot is taken off for good, and whoever does so at the same time locks nobody out."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from dumont.errors import BadInput, NotStored, StoreError, WrongKey
from dumont.repository.keyring import FIRST, GOING, going, slot_names, slots_of, take_off
from dumont.repository.keys import NO_SLOT, unwrap, wrap_with_key, writer_keys
from dumont.repository.record import CONFIG, SECOND_CONFIG, SLOTS, Config
from dumont.repository.repository import Repository, create_repository, look, open_repository, read_config
from dumont.repository.upkeep.verify import Terms, verify
from dumont.store.base import Data, Store
from dumont.store.memory import MemoryStore

KEYS = {FIRST: bytes(32), "a": bytes([1]) * 32, "b": bytes([2]) * 32}
Before = Callable[[int], Awaitable[None]]


class StepStore:
    """The port `Store` over another one: `before` is awaited ahead of each operation, with its number."""

    def __init__(self, store: Store, before: Before, hidden: str = "") -> None:
        self._store = store
        self._before = before
        self._hidden = hidden
        self.steps = 0

    async def _step(self) -> None:
        self.steps += 1
        await self._before(self.steps)

    async def put(self, key: str, data: Data) -> None:
        await self._step()
        await self._store.put(key, data)

    async def get(self, key: str) -> bytes:
        await self._step()
        return await self._store.get(key)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        await self._step()
        return await self._store.get_range(key, start, length)

    async def size(self, key: str) -> int:
        await self._step()
        return await self._store.size(key)

    async def exists(self, key: str) -> bool:
        await self._step()
        return await self._store.exists(key)

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        """Each name is a step, since a listing takes its time."""
        last = ""
        while True:
            await self._step()
            names = [name async for name in self._store.keys(prefix) if name > last]
            if not names:
                return
            last = names[0]
            if not self._hidden or not last.startswith(self._hidden):
                yield last

    async def delete(self, key: str) -> None:
        await self._step()
        await self._store.delete(key)


async def _nothing(_number: int) -> None:
    return


async def _made() -> tuple[Store, Repository]:
    """A repository that three keys open."""
    store = MemoryStore()
    repo = await create_repository(store, lambda secret, salt: wrap_with_key(secret, KEYS[FIRST], salt), os.urandom)
    for name in ("a", "b"):
        slot = wrap_with_key(repo.keys.secret, KEYS[name], os.urandom(16), f"for {name}")
        await store.put(SLOTS + name, msgspec.msgpack.encode(slot))
    return store, repo


async def _contents(store: Store) -> dict[str, bytes]:
    names = [name async for name in store.keys("")]
    return {name: await store.get(name) for name in names}


def _over(repo: Repository, store: Store) -> Repository:
    return Repository(store, repo.keys, repo.entropy)


async def _opening(store: Store) -> set[str]:
    """The keys that open the repository by what lies in the store."""
    config = await read_config(store)
    found = set()
    for slot in (await slots_of(store, await look(store))).values():
        for name, key in KEYS.items():
            try:
                open_repository(store, config, unwrap(slot, key), os.urandom)
                found.add(name)
            except WrongKey:
                continue
    return found


@pytest.mark.parametrize("name", [FIRST, "a"])
async def test_a_slot_that_was_taken_off_opens_nothing(name: str) -> None:
    """And nothing that its passphrase could open is left in the store."""
    store, repo = await _made()
    before = await _contents(store)
    await take_off(repo, name, "b")
    assert await _opening(store) == set(KEYS) - {name}
    wrapped = msgspec.msgpack.decode(before[CONFIG if name == FIRST else SLOTS + name])
    wrapped = (wrapped["slot"] if name == FIRST else wrapped)["wrapped"]
    assert len(wrapped) == 48
    assert not [key for key, body in (await _contents(store)).items() if wrapped in body]
    done = await verify(repo, Terms())
    assert not done.damage
    assert not done.leftovers


async def test_the_first_slot_leaves_a_config_that_says_so() -> None:
    """Programs that know nothing of this meet a slot of a kind that they can't open, and try the others."""
    store, repo = await _made()
    await take_off(repo, FIRST, "a")
    config = msgspec.msgpack.decode(await store.get(CONFIG), type=Config)
    assert config == msgspec.msgpack.decode(await store.get(SECOND_CONFIG), type=Config)
    assert (config.slot.kind, config.slot.wrapped) == (NO_SLOT, b"")
    with pytest.raises(WrongKey):
        unwrap(config.slot, KEYS[FIRST])
    assert slot_names(await look(store)) == ["a", "b"]


@pytest.mark.parametrize(("name", "in_use"), [("a", "a"), ("none", "a"), (FIRST, FIRST)])
async def test_what_can_not_be_taken_off_changes_nothing(name: str, in_use: str) -> None:
    """The slot in use, and one that is not there."""
    store, repo = await _made()
    before = await _contents(store)
    with pytest.raises(BadInput):
        await take_off(repo, name, in_use)
    assert await _contents(store) == before
    with pytest.raises(WrongKey):
        await take_off(_writer(repo), "b", "")


def _writer(repo: Repository) -> Repository:
    return Repository(repo.store, writer_keys(repo.keys, "host"), repo.entropy)


async def _race(names: tuple[str, str], at: int, hidden: str = "") -> tuple[set[str], bool]:
    """Each of two people takes the other's slot off; the second does all of it before step `at` of the first.

    What opens the repository then, and whether the first came that far.
    """
    store, repo = await _made()
    for other in KEYS.keys() - set(names):
        await take_off(repo, other, names[0])
    one, other = names
    came = False

    async def interrupt(number: int) -> None:
        nonlocal came
        if number == at:
            came = True
            await _tried(_over(repo, StepStore(store, _nothing, hidden)), one, other)

    await _tried(_over(repo, StepStore(store, interrupt, hidden)), other, one)
    return await _opening(store), came


async def _tried(repo: Repository, name: str, in_use: str) -> None:
    try:
        await take_off(repo, name, in_use)
    except BadInput:
        return


async def _outcomes(names: tuple[str, str], hidden: str = "") -> list[set[str]]:
    """What opens the repository after a race at each step."""
    found = []
    at = 1
    while True:
        opening, came = await _race(names, at, hidden)
        if not came:
            return found
        found.append(opening)
        at += 1


@pytest.mark.parametrize("names", [("a", "b"), (FIRST, "b"), ("b", FIRST)])
async def test_two_who_take_each_other_off_never_lock_everybody_out(names: tuple[str, str]) -> None:
    """Each sees that another slot opens the repository, and both would be right, one after the other."""
    outcomes = await _outcomes(names)
    assert len(outcomes) > 8
    assert all(outcomes)
    assert {frozenset(names[:1]), frozenset(names[1:])} & {frozenset(one) for one in outcomes}, "somebody succeeds"


async def test_without_saying_so_first_they_would() -> None:
    """The control: hide from each what the other is about to do."""
    assert not all(await _outcomes(("a", "b"), hidden=GOING))


@pytest.mark.parametrize("name", [FIRST, "a"])
async def test_whatever_ends_it_the_others_open_and_again_carries_on(name: str) -> None:
    """Killed at each step in turn."""
    at = 1
    while True:
        store, repo = await _made()

        async def end(number: int, at: int = at) -> None:
            if number == at:
                raise StoreError("the power is gone")

        try:
            await take_off(_over(repo, StepStore(store, end)), name, "b")
            break
        except StoreError:
            assert {"b"} <= await _opening(store)
        await _tried(repo, name, "b")
        assert await _opening(store) == set(KEYS) - {name}
        assert not going(await look(store)), at
        assert await store.get(CONFIG)
        at += 1
    assert at > 4


async def test_what_an_ended_one_left_is_told() -> None:
    """A repository without `config` must not read as lost, nor a slot that is going as one to rely on."""
    store, repo = await _made()
    await take_off(repo, FIRST, "a")
    await store.delete(CONFIG)
    await store.put(GOING + "a", b"")
    done = await verify(repo, Terms())
    assert [trouble.key for trouble in done.damage] == [CONFIG]
    assert "key remove" in done.damage[0].what
    assert [trouble.key for trouble in done.leftovers] == [GOING + "a"]
    with pytest.raises(BadInput, match="somebody is removing"):
        await take_off(repo, "b", "a")
    await take_off(repo, FIRST, "b")
    assert not (await verify(repo, Terms())).damage


async def test_a_slot_that_goes_while_it_is_listed_is_left_out() -> None:
    """Somebody takes it off between the listing and the reading."""
    store, _repo = await _made()
    listing = await look(store)
    await store.delete(SLOTS + "a")
    assert list(await slots_of(store, listing)) == [FIRST, "b"]
    await store.delete(CONFIG)
    with pytest.raises(NotStored):
        await read_config(store)
