"""Identity: the authority signs names of its own choosing, and links tell who is at the other end."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from dumont.clock import SystemClock
from dumont.errors import BadInput, LinkClosed
from dumont.wire import identity
from dumont.wire.identity import Authority, ClientCertificate
from dumont.wire.join import Join, Joined
from dumont.wire.link import SocketLink, dial


class ClockOf2020(SystemClock):
    """A clock that stopped long ago."""

    def now(self) -> datetime:
        return datetime(2020, 1, 1, tzinfo=UTC)


def instance_files(authority: Authority, directory: Path, name: str) -> tuple[Path, Path]:
    """Certificate and key of an instance, as an agent keeps them."""
    key_pem, csr_pem = identity.make_key_and_csr()
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    identity.write_private(key, key_pem)
    identity.write_private(cert, authority.issue_instance(csr_pem, name, "w"))
    return cert, key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca")


def test_the_authority_s_key_is_readable_by_its_owner_only(authority: Authority, tmp_path: Path) -> None:
    """Whoever reads it can be any instance."""
    assert (tmp_path / "ca" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert not [path for path in (tmp_path / "ca").iterdir() if path.name.startswith(".")]


def test_a_loaded_authority_is_the_same_one(authority: Authority, tmp_path: Path) -> None:
    """A restarted server must go on being trusted by running agents."""
    assert Authority.load(tmp_path / "ca").certificate_pem == authority.certificate_pem


def test_creating_over_an_existing_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    """It would cut every running agent off."""
    with pytest.raises(BadInput, match="already"):
        Authority.create(tmp_path / "ca")


@pytest.mark.parametrize("damage", ["missing", "garbage", "swapped"])
def test_a_damaged_authority_is_refused_in_words(authority: Authority, tmp_path: Path, damage: str) -> None:
    """Signing with the wrong key would make certificates that nobody accepts."""
    key = tmp_path / "ca" / "ca.key"
    if damage == "missing":
        key.unlink()
    elif damage == "garbage":
        key.write_text("no key")
    else:
        key.write_text(identity.make_key_and_csr()[0])
    with pytest.raises(BadInput, match=str(tmp_path)):
        Authority.load(tmp_path / "ca")


def test_names_in_a_request_are_not_believed(authority: Authority) -> None:
    """A stranger's host writes the request: it must not become `server` by asking."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = authority.issue_instance(request.public_bytes(serialization.Encoding.PEM).decode(), "i-1", "w")
    certificate = x509.load_pem_x509_certificate(pem.encode())
    assert certificate.subject.rfc4514_string() == "CN=i-1"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.UniformResourceIdentifier) == ["dumont:workspace/w"]
    lifetime = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(hours=23) < lifetime <= timedelta(hours=24)


@pytest.mark.parametrize("name", ["", "server", "gateway"])
def test_no_instance_is_called_like_a_process_of_ours(authority: Authority, name: str) -> None:
    """Links tell the server from an instance by this name alone."""
    with pytest.raises(BadInput):
        authority.issue_instance(identity.make_key_and_csr()[1], name, "w")


def test_a_malformed_or_foreign_request_is_bad_input(authority: Authority) -> None:
    """A hostile agent must not crash the server."""
    foreign = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    edwards = foreign.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(serialization.Encoding.PEM)
    good = x509.load_pem_x509_csr(identity.make_key_and_csr()[1].encode()).public_bytes(serialization.Encoding.DER)
    flipped = x509.load_der_x509_csr(good[:-1] + bytes([good[-1] ^ 1])).public_bytes(serialization.Encoding.PEM)
    for pem in ("", "nonsense", edwards.decode(), flipped.decode()):
        with pytest.raises(BadInput):
            authority.issue(pem, "i-1", (), timedelta(hours=1))


def test_tokens_differ_and_only_their_hash_is_kept() -> None:
    """A stolen database must not let anybody join."""
    tokens = {identity.new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 43 for token in tokens)
    assert len({identity.token_hash(token) for token in tokens}) == 100
    assert not tokens & {identity.token_hash(token) for token in tokens}


class Listener:
    """A TLS server on loopback that answers a Join and then holds the link."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.peers: list[str] = []
        self.handlers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self.server.close()
        await asyncio.gather(*self.handlers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler
        self.handlers.append(handler)
        link: SocketLink[Joined, Join] = SocketLink(reader, writer, Join)
        self.peers.append(link.peer)
        try:
            await link.receive()
            await link.send(Joined("signed", bytes(32)))
            await link.receive()
        except LinkClosed:
            link.close()


async def join(port: int, context: ssl.SSLContext) -> tuple[str, object]:
    """The name of the server and its answer to a Join."""
    link = await dial("127.0.0.1", port, Joined, tls=context)
    try:
        await link.send(Join("i-1", "t", "c"))
        return link.peer, await link.receive()
    finally:
        link.close()


@pytest.fixture
def server_files(authority: Authority, tmp_path: Path) -> Path:
    authority.write_process(tmp_path / "server", "server")
    assert (tmp_path / "server" / "server.key").stat().st_mode & 0o777 == 0o600
    return tmp_path / "server"


def listening(files: Path, client: ClientCertificate) -> Listener:
    return Listener(identity.server_context(files / "server.crt", files / "server.key", files / "ca.crt", client))


async def test_both_sides_of_a_link_know_each_other_s_name(
    authority: Authority, server_files: Path, tmp_path: Path
) -> None:
    """`peer` is what every later check of who may say what rests on; also of a dialled link."""
    cert, key = instance_files(authority, tmp_path, "i-1")
    async with listening(server_files, ClientCertificate.REQUIRED) as listener:
        context = identity.client_context(cert, key, server_files / "ca.crt")
        assert await join(listener.port, context) == ("server", Joined("signed", bytes(32)))
        assert listener.peers == ["i-1"]


async def test_without_a_certificate_a_link_is_nameless(server_files: Path) -> None:
    """That is how the hub knows that it may accept nothing but a Join."""
    async with listening(server_files, ClientCertificate.OPTIONAL) as listener:
        context = identity.client_context(None, None, server_files / "ca.crt")
        assert await join(listener.port, context) == ("server", Joined("signed", bytes(32)))
        assert listener.peers == [""]


@pytest.mark.parametrize("client", list(ClientCertificate))
@pytest.mark.parametrize("offered", ["none", "foreign", "expired"])
async def test_a_certificate_that_is_not_ours_opens_nothing(
    server_files: Path, tmp_path: Path, client: ClientCertificate, offered: str
) -> None:
    """An instance whose day is over, or somebody else's installation, must not speak to us."""
    if offered == "none" and client is ClientCertificate.OPTIONAL:
        return
    cert: Path | None = None
    key: Path | None = None
    if offered != "none":
        signer = (
            Authority.create(tmp_path / "foreign")
            if offered == "foreign"
            else Authority.load(tmp_path / "ca", ClockOf2020())
        )
        cert, key = instance_files(signer, tmp_path, "i-1")
    async with listening(server_files, client) as listener:
        context = identity.client_context(cert, key, server_files / "ca.crt")
        with pytest.raises(LinkClosed):
            await join(listener.port, context)
        assert listener.peers == []


async def test_a_server_of_another_authority_is_refused(server_files: Path, tmp_path: Path) -> None:
    """A host on the way must not be able to play the server."""
    Authority.create(tmp_path / "foreign").write_process(tmp_path / "other", "server")
    async with listening(tmp_path / "other", ClientCertificate.OPTIONAL) as listener:
        context = identity.client_context(None, None, server_files / "ca.crt")
        with pytest.raises(LinkClosed, match="certificate"):
            await dial("127.0.0.1", listener.port, Joined, tls=context)


async def test_a_side_that_speaks_only_tls_1_2_is_refused(server_files: Path) -> None:
    """Older versions send certificates in the clear."""
    async with listening(server_files, ClientCertificate.OPTIONAL) as listener:
        context = identity.client_context(None, None, server_files / "ca.crt")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(LinkClosed):
            await dial("127.0.0.1", listener.port, Joined, tls=context)
