"""Where a passphrase or a key comes from: the environment, a file, or a person at the terminal."""

import getpass
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dumont.errors import BadInput
from dumont.i18n import _
from dumont.repository.keys import SECRET_BYTES

PASSPHRASE = "DUMONT_PASSPHRASE"
PASSPHRASE_FILE = "DUMONT_PASSPHRASE_FILE"
NEW_PASSPHRASE = "DUMONT_NEW_PASSPHRASE"
WRITER_KEY = "DUMONT_WRITER_KEY"
WRITER_KEY_FILE = "DUMONT_WRITER_KEY_FILE"


@dataclass(frozen=True)
class Secrets:
    """What the user said about secrets. `file`, `none` and `key_file` are options; `environment` holds the rest.

    `key_file` holds a server's key; it is asked for instead of a passphrase, whatever the environment says.
    """

    environment: Mapping[str, str]
    file: str = ""
    none: bool = False
    key_file: str = ""

    @property
    def kind(self) -> str:
        """The kind of slots that this opens."""
        return "key" if self.key_file else "passphrase"

    def writer_key(self) -> str:
        """The line of a writer's key; "" when there is none. Raises BadInput when there is a passphrase as well."""
        key = self.environment.get(WRITER_KEY, "").strip()
        path = self.environment.get(WRITER_KEY_FILE, "")
        if not key and path:
            key = _read(path).decode(errors="replace").strip()
        if self.key_file:
            if self.file or self.none:
                raise BadInput(_("both a passphrase and --key-file are given: leave one of them out"))
            return ""
        if key and (self.file or self.none or self.environment.keys() & {PASSPHRASE, PASSPHRASE_FILE}):
            raise BadInput(_("both a passphrase and a writer's key (DUMONT_WRITER_KEY) are set: unset one of them"))
        return key

    def passphrase(self, new: bool) -> bytes:
        """The passphrase, or the key; asked for twice if it is `new` and a person types it. Raises BadInput."""
        given = self.given()
        if given is not None:
            return given
        return _ask(_("Passphrase of the new repository: ") if new else _("Passphrase: "), twice=new)

    def given(self) -> bytes | None:
        """The passphrase that was given; None when a person has to type it. Raises BadInput for one that is no good."""
        if self.key_file:
            return _key(self.key_file)
        if self.none:
            return b""
        if self.file:
            return _checked(_read(self.file))
        if PASSPHRASE in self.environment:
            return _checked(self.environment[PASSPHRASE].encode(errors="surrogateescape"))
        if path := self.environment.get(PASSPHRASE_FILE, ""):
            return _checked(_read(path))
        return None


def another(environment: Mapping[str, str], file: str) -> bytes:
    """A further passphrase for a repository that is open. Raises BadInput."""
    if file:
        return _checked(_read(file))
    if NEW_PASSPHRASE in environment:
        return _checked(environment[NEW_PASSPHRASE].encode(errors="surrogateescape"))
    return _ask(_("New passphrase: "), twice=True)


def _ask(prompt: str, twice: bool) -> bytes:
    if not sys.stdin.isatty():
        raise BadInput(
            _("the repository's passphrase is missing: set DUMONT_PASSPHRASE, or give --passphrase-file FILE")
        )
    try:
        typed = getpass.getpass(prompt)
        if twice and getpass.getpass(_("Once more: ")) != typed:
            raise BadInput(_("the two passphrases differ; nothing was changed"))
    except EOFError as error:
        raise BadInput(_("no passphrase was given; nothing was changed")) from error
    return _checked(typed.encode(errors="surrogateescape"))


def _checked(passphrase: bytes) -> bytes:
    if not passphrase:
        raise BadInput(_("the passphrase is empty; if you mean to have none, say --insecure-no-passphrase"))
    return passphrase


def _key(path: str) -> bytes:
    try:
        key = bytes.fromhex(_read(path).decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != SECRET_BYTES:
        raise BadInput(_("{path} holds no server's key: it is one line of 64 hexadecimal digits").format(path=path))
    return key


@cache
def _read(path: str) -> bytes:
    """A file's first line, read once: it may be a pipe."""
    try:
        return Path(path).read_bytes().partition(b"\n")[0].removesuffix(b"\r")
    except OSError as error:
        raise BadInput(_("{path} can't be read: {error}").format(path=path, error=error.strerror)) from error
