"""Seals and keys: who may open what, and that nothing opens that was changed or moved."""

import os
import threading

import msgspec
import pytest

from dumont.errors import BadInput, Corrupt, WrongKey
from dumont.repository.keys import (
    Keys,
    keys_of,
    read_in,
    unwrap,
    wrap_with_key,
    wrap_with_passphrase,
    write_out,
    writer_keys,
)
from dumont.repository.seal import FOOTER, TAG_BYTES, close_object, open_object, seal_for, seal_of

SECRET, REPOSITORY = bytes(range(32)), bytes(range(16))


@pytest.fixture(name="keys")
def _keys() -> Keys:
    return keys_of(SECRET, REPOSITORY)


def test_a_passphrase_opens_its_slot_and_another_does_not():
    """A wrong passphrase must be a clear error, and never a wrong key that then damages things."""
    slot = wrap_with_passphrase(SECRET, b"correct horse", os.urandom(16))
    assert unwrap(slot, b"correct horse") == SECRET
    with pytest.raises(WrongKey):
        unwrap(slot, b"correct house")


def test_a_servers_key_opens_its_slot():
    """A server has no passphrase to be asked for."""
    key = os.urandom(32)
    slot = wrap_with_key(SECRET, key, os.urandom(16))
    assert unwrap(slot, key) == SECRET
    with pytest.raises(WrongKey):
        unwrap(slot, os.urandom(32))


@pytest.mark.parametrize("change", [{"memory_kib": 64}, {"passes": 2}, {"lanes": 2}, {"kind": "key"}])
def test_a_slot_whose_costs_were_changed_does_not_open(change: dict[str, object]):
    """Who can write to the store must not make the passphrase cheaper to guess."""
    slot = msgspec.structs.replace(wrap_with_passphrase(SECRET, b"pass", os.urandom(16)), **change)
    with pytest.raises(WrongKey):
        unwrap(slot, b"pass")


def test_a_slot_that_asks_for_all_memory_is_refused():
    """Nor make opening it end the machine."""
    slot = wrap_with_passphrase(SECRET, b"pass", os.urandom(16))
    with pytest.raises(BadInput):
        unwrap(msgspec.structs.replace(slot, memory_kib=2**40), b"pass")


def test_any_flipped_bit_of_an_object_is_noticed(keys: Keys):
    """Every bit: head, writer, ephemeral key, body and tag."""
    body = close_object(writer_keys(keys, "w"), "state/x", b"four")
    assert open_object(keys, "state/x", body) == (b"four", "w")
    for bit in range(8 * len(body)):
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((Corrupt, WrongKey)):
            open_object(keys, "state/x", bytes(changed))


@pytest.mark.parametrize("length", range(0, 57, 7))
def test_an_object_that_was_cut_off_is_noticed(keys: Keys, length: int):
    """Whatever is left of it."""
    body = close_object(keys, "state/x", b"four")
    with pytest.raises(Corrupt):
        open_object(keys, "state/x", body[:length])


def test_an_object_opens_only_under_its_own_name_and_in_its_own_repository(keys: Keys):
    """Otherwise a store could answer with an older index, or another commit."""
    body = close_object(keys, "state/commits/1", b"commit")
    with pytest.raises(Corrupt):
        open_object(keys, "state/commits/2", body)
    with pytest.raises(Corrupt):
        open_object(keys_of(SECRET, os.urandom(16)), "state/commits/1", body)


def test_a_frame_opens_only_in_its_own_place(keys: Keys):
    """Frames of a pack must not be swapped, nor taken for its footer."""
    seal = seal_for(keys, "packs/aa/aa")
    sealed = seal.close(3, b"about", b"plain")
    again = seal_of(keys, seal.name, seal.writer, seal.ephemeral)
    assert again.open(3, b"about", sealed) == b"plain"
    for number, about in ((4, b"about"), (3, b"About"), (FOOTER, b"about")):
        with pytest.raises(Corrupt):
            again.open(number, about, sealed)


def test_a_writers_key_adds_and_opens_nothing(keys: Keys):
    """A host that is broken into must not read what others saved, nor what it saved itself before."""
    writer = read_in(write_out(writer_keys(keys, "trainer-1")))
    body = close_object(writer, "packs/aa/aa", b"mine")
    assert open_object(keys, "packs/aa/aa", body) == (b"mine", "trainer-1")
    with pytest.raises(WrongKey):
        open_object(writer, "packs/aa/aa", body)
    assert not writer.private and not writer.secret
    with pytest.raises(WrongKey):
        writer.secret_of("")


def test_a_writer_cannot_write_in_anothers_name(keys: Keys):
    """Who offered what decides what is relied on."""
    writer = writer_keys(keys, "mallory")
    forged = msgspec.structs.replace(writer, writer="")
    with pytest.raises(Corrupt):
        open_object(keys, "state/index/1", close_object(forged, "state/index/1", b"trust me"))


@pytest.mark.parametrize("name", ["", "a/b", "é", "x" * 65, "a b"])
def test_a_strange_writers_name_is_refused(keys: Keys, name: str):
    """It goes into object heads."""
    with pytest.raises(BadInput):
        writer_keys(keys, name)


@pytest.mark.parametrize("line", ["", "dumont-writer-", "dumont-writer-????", "hello"])
def test_what_is_no_writers_key_is_refused_in_words(line: str):
    """Somebody pastes the wrong line."""
    with pytest.raises(BadInput, match="writer"):
        read_in(line)


def test_other_threads_run_while_a_pack_is_sealed(keys: Keys):
    """A trainer's process must not stand still for it: the counting thread counts while 256 MiB are sealed."""
    seal = seal_for(keys, "packs/aa/aa")
    plain = bytes(256 * 2**20)
    room = memoryview(bytearray(len(plain) + TAG_BYTES))
    counted = {"before": 0, "while": 0}
    phase, ended = "before", threading.Event()

    def count() -> None:
        while not ended.is_set():
            counted[phase] = counted.get(phase, 0) + 1
            ended.wait(0.0001)

    thread = threading.Thread(target=count)
    thread.start()
    phase = "while"
    seal.close_into(0, b"", plain, room)
    phase = "after"
    ended.set()
    thread.join()
    assert counted["while"] >= 5
