"""Sealing: AES-256-GCM under one key per object, agreed between a throw-away key and the repository's public one.

Writing needs the public key and the writer's secret; opening needs the private key and that secret. An object moved to
another name, another repository or another place in its pack does not open.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dumont.errors import Corrupt, WrongKey
from dumont.repository.keys import Keys

MAGIC = b"DMT1"
TAG_BYTES = 16
EPHEMERAL_BYTES = 32
FOOTER = 2**32 - 1
"""The place of a pack's footer among its frames."""
_WRITER_BYTES_MAX = 64


@dataclass(frozen=True)
class Seal:
    """The key of the object `name`, to seal or open its parts with. Use a number once when sealing."""

    name: str
    writer: str
    ephemeral: bytes
    cipher: AESGCM

    def head(self) -> bytes:
        """How the object begins: what a reader needs to find the key again."""
        writer = self.writer.encode()
        return MAGIC + bytes([len(writer)]) + writer + self.ephemeral

    def close_into(self, number: int, about: bytes, plain: "bytes | memoryview", room: memoryview) -> int:
        """Seal `plain` as part `number`, bound to `about`, into `room`; how many bytes it took."""
        return self.cipher.encrypt_into(_nonce(number), plain, about, room[: len(plain) + TAG_BYTES])

    def close(self, number: int, about: bytes, plain: "bytes | memoryview") -> bytes:
        """As `close_into`, into new bytes."""
        return self.cipher.encrypt(_nonce(number), plain, about)

    def open(self, number: int, about: bytes, sealed: "bytes | memoryview") -> bytes:
        """Raises Corrupt when a bit differs."""
        try:
            return self.cipher.decrypt(_nonce(number), sealed, about)
        except InvalidTag as error:
            raise Corrupt(f"{self.name} was changed: part {number} does not open") from error

    def open_into(self, number: int, about: bytes, sealed: "bytes | memoryview", room: memoryview) -> memoryview:
        """As `open`, into the begin of `room`, which is long enough; that part of it. Raises Corrupt."""
        plain = room[: max(0, len(sealed) - TAG_BYTES)]
        try:
            self.cipher.decrypt_into(_nonce(number), sealed, about, plain)
        except (InvalidTag, ValueError) as error:
            raise Corrupt(f"{self.name} was changed: part {number} does not open") from error
        return plain


def seal_for(keys: Keys, name: str) -> Seal:
    """The seal of a new object that will be stored as `name`."""
    own = X25519PrivateKey.generate()
    shared = own.exchange(X25519PublicKey.from_public_bytes(keys.public))
    ephemeral = own.public_key().public_bytes_raw()
    return Seal(name, keys.writer, ephemeral, _cipher(keys, name, ephemeral, shared + keys.writer_secret))


def seal_of(keys: Keys, name: str, writer: str, ephemeral: bytes) -> Seal:
    """The seal of the object stored as `name`, which `writer` wrote. Raises WrongKey for keys that can't read."""
    if not keys.can_read:
        raise WrongKey("a writer's key reads nothing: use the repository's passphrase")
    try:
        private = X25519PrivateKey.from_private_bytes(keys.private)
        shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    except ValueError as error:
        raise Corrupt(f"{name} was changed: its key makes no sense") from error
    return Seal(name, writer, ephemeral, _cipher(keys, name, ephemeral, shared + keys.secret_of(writer)))


def read_head(name: str, body: "bytes | memoryview") -> tuple[str, bytes, int]:
    """The writer, its throw-away key, and where the sealed parts begin. Raises Corrupt."""
    length = body[4] if len(body) > 5 else 0
    start = 5 + length + EPHEMERAL_BYTES
    if bytes(body[:4]) != MAGIC or length > _WRITER_BYTES_MAX or len(body) < start:
        raise Corrupt(f"{name} is no sealed object, or was cut off")
    try:
        writer = bytes(body[5 : 5 + length]).decode("ascii")
    except UnicodeDecodeError as error:
        raise Corrupt(f"{name} names an impossible writer") from error
    return writer, bytes(body[5 + length : start]), start


def close_object(keys: Keys, name: str, plain: bytes) -> bytes:
    """A whole small object, sealed."""
    seal = seal_for(keys, name)
    return seal.head() + seal.close(0, b"", plain)


def open_object(keys: Keys, name: str, body: bytes) -> tuple[bytes, str]:
    """What `close_object` sealed, and who did. Raises Corrupt, WrongKey."""
    writer, ephemeral, start = read_head(name, body)
    return seal_of(keys, name, writer, ephemeral).open(0, b"", memoryview(body)[start:]), writer


def _cipher(keys: Keys, name: str, ephemeral: bytes, material: bytes) -> AESGCM:
    """X25519 ignores a bit of the ephemeral key, so it is bound by itself too (RFC 7748 §6.1 advises it)."""
    info = b"dumont/1/object/" + keys.repository + ephemeral
    return AESGCM(HKDF(SHA256(), 32, name.encode(), info).derive(material))


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "little")
