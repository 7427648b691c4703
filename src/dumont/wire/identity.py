"""Identity: who is at the other end of a link. Our own certificate authority, certificates, tokens, TLS contexts.

Every process of Dumont has a certificate of this authority, and its common name is its name on a Link: `server`,
`gateway`, or an instance's id. Nothing else is trusted: no public authority, no host name. An instance's certificate is
short-lived and says which workspace it was issued for (I7).
"""

import enum
import hashlib
import os
import secrets
import ssl
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dumont.clock import Clock, SystemClock
from dumont.errors import BadInput

SERVER = "server"
"""The common name of every server process."""
GATEWAY = "gateway"
"""The common name of a gateway."""

AUTHORITY_LIFETIME = timedelta(days=3650)
PROCESS_LIFETIME = timedelta(days=397)
INSTANCE_LIFETIME = timedelta(hours=24)
CLOCK_SKEW_MAX = timedelta(minutes=10)
"""Hosts are strangers, and so are their clocks: certificates are valid from this long before they were issued."""

TOKEN_BYTES = 32


class ClientCertificate(enum.Enum):
    """Whether a server asks the other side for a certificate. With OPTIONAL a link's `peer` may be ""."""

    REQUIRED = "required"
    OPTIONAL = "optional"


class Authority:
    """Signs the certificates of one Dumont installation. Its key never leaves the server's state directory."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, clock: Clock) -> None:
        self._key = key
        self._certificate = certificate
        self._clock = clock

    @property
    def certificate_pem(self) -> str:
        """What others verify against; public."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @classmethod
    def create(cls, directory: Path, clock: Clock | None = None) -> "Authority":
        """A new authority, written to `directory` as ca.key (mode 0600) and ca.crt. Raises BadInput if there is one."""
        if (directory / "ca.key").exists():
            raise BadInput(f"{directory} holds an authority already; load it")
        clock = clock or SystemClock()
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Dumont authority")])
        now = clock.now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW_MAX)
            .not_valid_after(now + AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = cls(key, certificate, clock)
        write_private(directory / "ca.crt", authority.certificate_pem, mode=0o644)
        write_private(directory / "ca.key", _key_pem(key))  # last: it is what says that an authority exists
        return authority

    @classmethod
    def load(cls, directory: Path, clock: Clock | None = None) -> "Authority":
        """The authority that `create` wrote to `directory`. Raises BadInput when it is missing or damaged."""
        try:
            key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
            certificate = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        except (OSError, ValueError) as error:
            raise BadInput(f"{directory} holds no readable authority: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise BadInput(f"{directory}: ca.key and ca.crt do not belong together")
        return cls(key, certificate, clock or SystemClock())

    def issue(self, csr_pem: str, common_name: str, uris: tuple[str, ...], lifetime: timedelta) -> str:
        """A certificate (PEM) for the key in `csr_pem`, good for both ends of a link.

        All names come from the arguments; those in the request are not read, since a stranger wrote them. Raises
        BadInput when the request is malformed, is not signed by its own key, or its key is not EC P-256.
        """
        public_key = _requested_key(csr_pem)
        now = self._clock.now()
        ends = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW_MAX)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(ends), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(authority_key, critical=False)
        )
        if uris:
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def issue_instance(self, csr_pem: str, instance_id: str, workspace: str) -> str:
        """The 24-hour certificate (PEM) of an instance, for its one workspace. Raises BadInput like `issue`."""
        if instance_id in ("", SERVER, GATEWAY):
            raise BadInput(f"{instance_id!r} can't be the name of an instance")
        return self.issue(csr_pem, instance_id, (workspace_uri(workspace),), INSTANCE_LIFETIME)

    def write_process(self, directory: Path, name: str) -> None:
        """Give `server` or `gateway` a fresh identity: NAME.key, NAME.crt and ca.crt in `directory`."""
        key_pem, csr_pem = make_key_and_csr()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(directory / f"{name}.key", key_pem)
        write_private(directory / f"{name}.crt", self.issue(csr_pem, name, (), PROCESS_LIFETIME), mode=0o644)
        write_private(directory / "ca.crt", self.certificate_pem, mode=0o644)


def make_key_and_csr() -> tuple[str, str]:
    """A new private key and a request to sign its public half, both PEM. The request names nobody: see `issue`."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return _key_pem(key), csr.public_bytes(serialization.Encoding.PEM).decode()


def workspace_uri(workspace: str) -> str:
    """The subject alternative name of an instance of `workspace`."""
    return f"dumont:workspace/{workspace}"


def server_context(cert: Path, key: Path, ca: Path, client: ClientCertificate) -> ssl.SSLContext:
    """TLS 1.3 for a listening side. A certificate of the other side is verified against `ca` alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nobody resumes; each ticket is a record that every new link would have to read first
    context.load_cert_chain(cert, key)
    context.load_verify_locations(cafile=str(ca))
    required = client is ClientCertificate.REQUIRED
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def client_context(cert: Path | None, key: Path | None, ca: Path) -> ssl.SSLContext:
    """TLS 1.3 for a dialling side; without `cert` it stays nameless. Check `link.peer`: host names are not looked at.

    TLS 1.3 lets the dialling side finish before the other has verified it, so a refused certificate shows up as
    LinkClosed at the first `receive`, not at `dial`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # instances have no lasting address; the common name is checked instead
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=str(ca))
    if cert is not None:
        context.load_cert_chain(cert, key)
    return context


def new_token() -> str:
    """A secret of 32 random bytes, safe in URLs and files."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> str:
    """What is kept of a token: its SHA-256, in hex. Compare with `hmac.compare_digest`."""
    return hashlib.sha256(token.encode()).hexdigest()


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file, whole or not at all, that at no moment had wider permissions than `mode`."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _requested_key(csr_pem: str) -> ec.EllipticCurvePublicKey:
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        public_key = csr.public_key()
        signed = csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise BadInput(f"the certificate request can't be read: {error}") from error
    if not signed:
        raise BadInput("the certificate request is not signed by the key that it holds")
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
        raise BadInput("the key of a certificate request must be EC P-256")
    return public_key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
