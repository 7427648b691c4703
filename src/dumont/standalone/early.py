"""The early unlock: a process of its own stretches the passphrase, which is slow on purpose, while this one imports."""

import argparse
import os
import signal
from collections.abc import Mapping

from dumont.errors import DumontError
from dumont.repository.keys import Slot, unwrap
from dumont.standalone.known import caches_of, recall, where_is
from dumont.standalone.secret import Secrets
from dumont.store.address import parse


class Unlocking:
    """`slot` being opened. Make it while this program has one thread."""

    def __init__(self, slot: Slot, passphrase: bytes) -> None:
        self.slot = slot
        self._from, into = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _unlock(slot, passphrase, into)
        os.close(into)

    def secret(self) -> bytes | None:
        """The secret, or None when it was not had; waits for it. Call it once."""
        with open(self._from, "rb") as pipe:
            body = pipe.read()
        os.waitpid(self._pid, 0)
        return body or None


def begin(options: argparse.Namespace, environment: Mapping[str, str]) -> Unlocking | None:
    """Begin to open the repository of the options, if this machine knows how and nobody has to type anything.

    Raises BadInput for what would be wrong later, too.
    """
    secrets = Secrets(environment, options.passphrase_file, options.insecure_no_passphrase, options.key_file)
    known = recall(caches_of(environment), where_is(parse(options.repo)))
    if known is None or known.slot.kind != "passphrase" or secrets.writer_key() or secrets.key_file:
        return None
    passphrase = secrets.given()
    return None if passphrase is None else Unlocking(known.slot, passphrase)


def _unlock(slot: Slot, passphrase: bytes, into: int) -> None:
    """The life of the process: it never returns."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.write(into, unwrap(slot, passphrase))
    except (DumontError, OSError):
        pass  # whoever waits finds nothing, tries itself, and says what is wrong
    finally:
        os._exit(0)
