"""The engine's identity outlives a day, and its commit numbers outlive the engine."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509

from dumont.agent.boot import Boot, RunDir
from dumont.agent.engine import Engine
from dumont.agent.join import write_identity
from dumont.agent.numbers import WrittenNumbers
from dumont.clock import SystemClock
from dumont.model.commit import CommitId
from dumont.model.instance import Machine
from dumont.wire.identity import Authority, ClientCertificate, client_context, make_key_and_csr, server_context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca")


@pytest.fixture
def engine(tmp_path: Path, authority: Authority) -> Engine:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.authority.write_text(authority.certificate_pem)
    boot = Boot(
        instance_id="gpu-1",
        server_host="127.0.0.1",
        server_port=1,
        ca_pem=authority.certificate_pem,
        join_token="",
        host="127.0.0.1",
        workspace_dir=tmp_path,
        data_dir=tmp_path,
        machine=Machine.GPU,
    )
    return Engine(run, boot, SystemClock())


def identify(engine: Engine, authority: Authority) -> int:
    """Give the run directory a fresh identity; its serial number."""
    key, csr = make_key_and_csr()
    certificate = authority.issue_instance(csr, "gpu-1", "films")
    write_identity(engine.run, key, certificate)
    return x509.load_pem_x509_certificate(certificate.encode()).serial_number


async def test_a_renewed_identity_is_shown_by_either_end_and_open_links_go_on(
    engine: Engine, authority: Authority, tmp_path: Path
) -> None:
    """Certificates last a day, training runs longer: the old one must not be what the standby is shown tomorrow."""
    authority.write_process(tmp_path / "peer", "server")
    peer = [tmp_path / "peer" / name for name in ("server.crt", "server.key", "ca.crt")]
    first = identify(engine, authority)
    engine._use_identity()
    called: list[int] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        with suppress(ConnectionError):
            await reader.readline()
        writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(_serial(writer))
        writer.close()

    ours = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=engine._accepting)
    theirs = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context(*peer, ClientCertificate.REQUIRED))
    async with ours, theirs:
        open_link = await _dial(ours, client_context(*peer))
        assert _serial(open_link[1]) == first
        second = identify(engine, authority)
        engine._use_identity()
        later = await _dial(ours, client_context(*peer))
        assert _serial(later[1]) == second != first
        open_link[1].write(b"still here\n")
        assert await open_link[0].readline() == b"still here\n"
        reader, dialled = await _dial(theirs, engine._calling)
        await reader.read()
        assert called == [second]
        for writer in (open_link[1], later[1], dialled):
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _dial(server: asyncio.Server, context: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = server.sockets[0].getsockname()[1]
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="")  # type: ignore[arg-type]


def _serial(writer: asyncio.StreamWriter) -> int:
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(shown).serial_number


def test_the_newest_number_is_known_to_the_next_engine(tmp_path: Path) -> None:
    """Nothing is closed properly when a process is killed."""
    first = WrittenNumbers(tmp_path / "numbers")
    assert first.last() is None
    for id in (CommitId(1, 7), CommitId(10, 12_345), CommitId(11, 3)):
        first.note(id)
        assert WrittenNumbers(tmp_path / "numbers").last() == id
    first.close()


def test_a_full_disk_ends_no_primary() -> None:
    """The number is only needed by an engine that dies before the next one is noted."""
    numbers = WrittenNumbers(Path("/dev/full"))
    numbers.note(CommitId(1, 1))
    assert numbers.last() is None
    numbers.close()


def test_a_damaged_number_is_none(tmp_path: Path) -> None:
    """The file is not fsynced: after a power cut it may hold anything."""
    for content in (b"", b"\0" * 42, b"1 2\n", os.urandom(100)):
        (tmp_path / "numbers").write_bytes(content)
        assert WrittenNumbers(tmp_path / "numbers").last() is None
