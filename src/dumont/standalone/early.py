"""The early unlock: a process of its own stretches the passphrase, which is slow on purpose, while this one imports."""

import argparse
import contextlib
import ctypes
import os
from collections.abc import Callable, Mapping

from dumont.repository.errand import Errand
from dumont.repository.keys import MEMORY_KIB, SALT_BYTES, Slot, stretch, unwrap, wrap_with_stretched
from dumont.repository.record import CONFIG
from dumont.standalone.known import caches_of, recall, where_is
from dumont.standalone.secret import Secrets
from dumont.store.address import Address, Scheme, parse

_MMAP_MAX, _TOP_PAD = -4, -2
"""Parameters of glibc's mallopt(3)."""
_HUGE_PAGE_BYTES = 2**21
_ADVISE_HUGE_PAGE = 14
_LARGE_KIB_MAX = 2**19


class Unlocking:
    """`slot` being opened."""

    def __init__(self, slot: Slot, passphrase: bytes) -> None:
        self.slot = slot
        self._errand = Errand(lambda _: _roomy(lambda: unwrap(slot, passphrase), slot.memory_kib))

    def secret(self) -> bytes | None:
        """The secret, or None when it was not had; waits for it. Call it once."""
        return self._errand.result()


class Stretching:
    """`passphrase` being stretched with a new salt, for a repository that is most likely to be made."""

    def __init__(self, passphrase: bytes) -> None:
        self.passphrase = passphrase
        self._salt = salt = os.urandom(SALT_BYTES)
        self._errand = Errand(lambda _: _roomy(lambda: stretch(passphrase, salt), MEMORY_KIB))

    def wrap(self, secret: bytes) -> Slot | None:
        """`secret` in a slot, or None when there is no key; waits for it. Call it once: a salt is for one secret."""
        key = self._errand.result()
        return wrap_with_stretched(secret, key, self._salt) if key else None


def begin(options: argparse.Namespace, environment: Mapping[str, str]) -> Unlocking | Stretching | None:
    """Begin to open the repository of the options, if this machine knows how and nobody has to type anything; or to
    make it, where a save finds a directory without one, or goes to a bucket that this machine never opened: to ask
    there first would take as long.

    Raises BadInput for what would be wrong later, too.
    """
    secrets = Secrets(environment, options.passphrase_file, options.insecure_no_passphrase, options.key_file)
    if secrets.writer_key() or secrets.key_file:
        return None
    address = parse(options.repo)
    known = recall(caches_of(environment), where_is(address))
    if known is not None and known.slot.kind == "passphrase":
        passphrase = secrets.given()
        return None if passphrase is None else Unlocking(known.slot, passphrase)
    if known is None and options.verb == "save" and not _is_there(address):
        passphrase = secrets.given()
        return None if passphrase is None else Stretching(passphrase)
    return None


def _is_there(address: Address) -> bool:
    """Whether there is a repository, as far as this machine can tell at a look."""
    return address.scheme is Scheme.FILE and os.path.lexists(os.path.join(address.path, CONFIG))


def _roomy(work: Callable[[], bytes], memory_kib: int) -> bytes:
    """`work`, which needs so much memory, in a process that does nothing else."""
    if memory_kib <= _LARGE_KIB_MAX:
        _ask_for_huge_pages(memory_kib * 1024)
    return work()


def _ask_for_huge_pages(length: int) -> None:
    """Let the next `length` bytes that are allocated lie on huge pages, where there are some.

    Argon2 fills 64 MiB once: two fifths of its time go into 16,384 page faults. Memory that OpenSSL allocates can't be
    named, so that all of it comes from the heap, which is grown first. For a process that does nothing else.
    """
    libc = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError):  # another C library
        libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
        libc.sbrk.argtypes = [ctypes.c_ssize_t]
        libc.malloc.argtypes = [ctypes.c_size_t]
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TOP_PAD, length + 2 * _HUGE_PAGE_BYTES)
        begin = libc.malloc(_HUGE_PAGE_BYTES)
        end = libc.sbrk(0)
        if begin and end and end > begin:  # what can't be had is not had: this only saves time
            start = -(-begin // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
            libc.madvise(start, end - start, _ADVISE_HUGE_PAGE)
