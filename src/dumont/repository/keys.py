"""Keys of a repository: one secret from which all follow, wrapped by a passphrase or by a server's key.

Whoever holds the secret reads and writes. A writer's key only adds: it holds the repository's public key and a secret
of its own, so what it wrote can be told from what others wrote, and it can read nothing, not even that.
"""

import base64
import binascii
import hmac

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.backends.openssl import backend as _backend  # noqa: F401  # or each forked process imports it
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dumont.errors import BadInput, WrongKey

SECRET_BYTES = 32
REPOSITORY_BYTES = 16
SALT_BYTES = 16
NO_SLOT = "none"
"""The kind of a slot that nothing opens: it stands where the first one was taken off."""
_NONCE = bytes(12)  # each wrapping key wraps one secret once
MEMORY_KIB, _PASSES, _LANES = 64 * 2**10, 1, 1
"""Argon2id with 64 MiB and one pass, above the 46 MiB of OWASP's Password Storage Cheat Sheet."""
_KIB_MAX = 4 * 2**20
_PASSES_MAX = 64


class Slot(msgspec.Struct, frozen=True):
    """The secret, wrapped. `kind` is `passphrase` (Argon2id with `salt` and these costs), `key` (HKDF with `salt`), or
    NO_SLOT, which wraps nothing.

    `proof` (32 bytes) shows to whoever holds the secret that nothing of the slot was changed, though its passphrase be
    another.
    """

    kind: str
    salt: bytes
    wrapped: bytes
    memory_kib: int = 0
    passes: int = 0
    lanes: int = 0
    label: str = ""
    proof: bytes = b""


class Keys(msgspec.Struct, frozen=True):
    """What a program may do with a repository. Without `private` (32 bytes, X25519) it can only add.

    `chunk_key` keys chunk ids; `writer_secret` goes into the key of every object that `writer` ("" is whoever holds the
    secret) writes; `cache_key` seals what is kept on this machine.
    """

    repository: bytes
    public: bytes
    chunk_key: bytes
    writer: str
    writer_secret: bytes
    cache_key: bytes
    private: bytes = b""
    secret: bytes = b""

    @property
    def can_read(self) -> bool:
        """Whether these keys open what others wrote."""
        return bool(self.private)

    def secret_of(self, writer: str) -> bytes:
        """The secret of another writer. Raises WrongKey for keys that can't read."""
        if writer == self.writer:
            return self.writer_secret
        if not self.secret:
            raise WrongKey("a writer's key reads nothing: use the repository's passphrase")
        return _derive(self.secret, self.repository, f"writer/{writer}")


def keys_of(secret: bytes, repository: bytes) -> Keys:
    """All keys that follow from the 32 bytes of `secret` for the repository of that id (16 bytes)."""
    private = _derive(secret, repository, "read")
    return Keys(
        repository,
        X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw(),
        _derive(secret, repository, "chunk"),
        "",
        _derive(secret, repository, "writer/"),
        _derive(secret, repository, "cache"),
        private,
        secret,
    )


def writer_keys(keys: Keys, writer: str) -> Keys:
    """Keys that can add as `writer`, and nothing else. Raises BadInput for a name that is empty or strange."""
    if not 0 < len(writer) <= 64 or not writer.isascii() or not writer.replace("-", "").replace("_", "").isalnum():
        raise BadInput("a writer's name has 1 to 64 letters, digits, `-` or `_`")
    own = keys.secret_of(writer)
    return Keys(keys.repository, keys.public, keys.chunk_key, writer, own, _derive(own, keys.repository, "cache"))


def write_out(keys: Keys) -> str:
    """A writer's keys as one line of text, to be put where only that host reads it."""
    return "dumont-writer-" + base64.urlsafe_b64encode(msgspec.msgpack.encode(keys)).decode()


def read_in(line: str) -> Keys:
    """The opposite of `write_out`. Raises BadInput."""
    try:
        body = base64.urlsafe_b64decode(line.strip().removeprefix("dumont-writer-"))
        return msgspec.msgpack.decode(body, type=Keys)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise BadInput("that is no writer's key: it begins with dumont-writer- and is one line") from error


def stretch(passphrase: bytes, salt: bytes) -> bytes:
    """The key that wraps a secret for `passphrase`. `salt`: 16 random bytes, never used before.

    Takes 64 MiB and some 60 ms, on purpose.
    """
    return _stretch(_passphrase_slot(salt, ""), passphrase)


def wrap_with_passphrase(secret: bytes, passphrase: bytes, salt: bytes, label: str = "") -> Slot:
    """`salt` as for `stretch`, which this waits for."""
    return wrap_with_stretched(secret, stretch(passphrase, salt), salt, label)


def wrap_with_stretched(secret: bytes, key: bytes, salt: bytes, label: str = "") -> Slot:
    """As `wrap_with_passphrase`, with what `stretch` made of the passphrase and this `salt`. It wraps one secret."""
    slot = _passphrase_slot(salt, label)
    return _proven(slot, secret, AESGCM(key).encrypt(_NONCE, secret, _aad(slot)))


def _passphrase_slot(salt: bytes, label: str) -> Slot:
    return Slot("passphrase", salt, b"", MEMORY_KIB, _PASSES, _LANES, label)


def wrap_with_key(secret: bytes, key: bytes, salt: bytes, label: str = "") -> Slot:
    """For a server, which holds 32 random bytes instead of a passphrase. `salt` as above."""
    slot = Slot("key", salt, b"", label=label)
    return _proven(slot, secret, AESGCM(_derive(key, salt, "slot")).encrypt(_NONCE, secret, _aad(slot)))


def without_slot(secret: bytes) -> Slot:
    """What stands in the place of a slot that was taken off: always the same for one secret."""
    return _proven(Slot(NO_SLOT, b"", b""), secret, b"")


def is_whole(slot: Slot, secret: bytes) -> bool:
    """Whether nothing of the slot was changed since somebody wrapped that secret in it."""
    return hmac.compare_digest(slot.proof, _proof(slot, secret))


def unwrap(slot: Slot, passphrase_or_key: bytes) -> bytes:
    """The secret. Raises WrongKey when this does not open it, BadInput for a slot that would cost absurdly much."""
    if slot.kind == NO_SLOT:
        raise WrongKey("the passphrase or key does not open this repository")
    key = (
        _stretch(slot, passphrase_or_key)
        if slot.kind == "passphrase"
        else _derive(passphrase_or_key, slot.salt, "slot")
    )
    try:
        return AESGCM(key).decrypt(_NONCE, slot.wrapped, _aad(slot))
    except InvalidTag as error:
        raise WrongKey("the passphrase or key does not open this repository") from error


def _proven(slot: Slot, secret: bytes, wrapped: bytes) -> Slot:
    slot = msgspec.structs.replace(slot, wrapped=wrapped)
    return msgspec.structs.replace(slot, proof=_proof(slot, secret))


def _proof(slot: Slot, secret: bytes) -> bytes:
    body = msgspec.msgpack.encode(msgspec.structs.replace(slot, proof=b""))
    return hmac.digest(_derive(secret, b"", "slot proof"), body, "sha256")


def _stretch(slot: Slot, passphrase: bytes) -> bytes:
    if not (8 * slot.lanes <= slot.memory_kib <= _KIB_MAX and 0 < slot.passes <= _PASSES_MAX and slot.lanes > 0):
        raise BadInput("the repository asks for more memory or time than a passphrase should cost; somebody changed it")
    kdf = Argon2id(
        salt=slot.salt, length=SECRET_BYTES, iterations=slot.passes, lanes=slot.lanes, memory_cost=slot.memory_kib
    )
    return kdf.derive(passphrase)


def _aad(slot: Slot) -> bytes:
    return msgspec.msgpack.encode((slot.kind, slot.memory_kib, slot.passes, slot.lanes))


def _derive(secret: bytes, salt: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), SECRET_BYTES, salt, b"dumont/1/" + purpose.encode()).derive(secret)
