"""Joining: how a new instance obtains its identity, and how it renews one before it ends.

The private key is made here and never leaves. The token of the boot record is good for one certificate. With it comes
the key under which the workspace's chunks are named: an engine that starts again must find the same one, server or no.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

from cryptography import x509

from dumont.agent.boot import Boot, RunDir
from dumont.clock import Clock
from dumont.errors import BadInput, Corrupt, LinkClosed
from dumont.snapshot.chunk import ID_BYTES
from dumont.wire.identity import SERVER, client_context, make_key_and_csr, write_private
from dumont.wire.join import Join, Joined, JoinRefused, ToJoiner
from dumont.wire.link import Link, dial

ANSWER_S_MAX = 10.0
RETRY_S_MIN = 0.1
RETRY_S_MAX = 2.0
RENEW_BEFORE_S = 12 * 3600.0
"""A certificate lives for a day; it is renewed once it has less than this left."""
RENEWAL_CHECK_S = 600.0


async def join(run: RunDir, boot: Boot, clock: Clock, rng: random.Random) -> None:
    """Return once the run directory holds an identity and the chunk key; the server is asked until it answers.

    Raises BadInput, in words, when the server refuses: only another instance, with a token of its own, can help then.
    """
    nameless = not run.certificate.exists()
    if not nameless and run.chunk_key.exists():
        return
    write_private(run.authority, boot.ca_pem, mode=0o644)
    pause_s = RETRY_S_MIN
    while True:
        try:
            await _obtain(run, boot, nameless=nameless)
            return
        except (LinkClosed, Corrupt):
            await clock.sleep(pause_s * rng.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, RETRY_S_MAX)


async def renew_for_ever(run: RunDir, boot: Boot, clock: Clock, renewed: Callable[[], None]) -> None:
    """Renew the identity before it ends, calling `renewed` each time. Raises BadInput when the server refuses."""
    while True:
        left = x509.load_pem_x509_certificate(run.certificate.read_bytes()).not_valid_after_utc - clock.now()
        if left.total_seconds() < RENEW_BEFORE_S:
            with suppress(LinkClosed, Corrupt):  # there is time to ask again
                await _obtain(run, boot, nameless=False)
                renewed()
        await clock.sleep(RENEWAL_CHECK_S)


async def _obtain(run: RunDir, boot: Boot, *, nameless: bool) -> None:
    """Ask once. A certificate that is still good speaks for us instead of the token, which is spent."""
    key, csr = make_key_and_csr()
    context = client_context(None if nameless else run.certificate, run.key, run.authority)
    link = await dial(boot.server_host, boot.server_port, ToJoiner, tls=context)
    try:
        if link.peer != SERVER:
            raise LinkClosed(f"{boot.server_host}:{boot.server_port} is {link.peer or 'nobody'} and not the server")
        await link.send(Join(boot.instance_id, boot.join_token, csr))
        answer = await _answer(link)
    finally:
        link.close()
    if isinstance(answer, JoinRefused):
        raise BadInput(
            f"the server refuses instance {boot.instance_id}: {answer.reason}. A new instance gets a new token"
        )
    assert isinstance(answer, Joined)
    keep_chunk_key(run, answer.chunk_key)
    write_identity(run, key, answer.certificate)


async def _answer(link: Link[Join, ToJoiner]) -> ToJoiner:
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            return await link.receive()
    except TimeoutError as error:
        raise LinkClosed(f"the server did not answer within {ANSWER_S_MAX:g} s") from error


def write_identity(run: RunDir, key: str, certificate: str) -> None:
    """Replace key and certificate. Whoever reads between the two finds a pair that does not fit, and reads again."""
    write_private(run.key, key)
    write_private(run.certificate, certificate, mode=0o644)


def keep_chunk_key(run: RunDir, chunk_key: bytes) -> None:
    """Keep it for every later engine of this instance, unless one is kept: the disk's chunks are named under the first.

    Raises BadInput for what is no key.
    """
    if len(chunk_key) != ID_BYTES:
        raise BadInput(f"the server gave a chunk key of {len(chunk_key)} bytes instead of {ID_BYTES}; upgrade it")
    if not run.chunk_key.exists():
        write_private(run.chunk_key, chunk_key.hex())


def read_chunk_key(run: RunDir) -> bytes:
    """The key that was kept, 32 bytes. Raises BadInput when it can't be read: `join` first."""
    try:
        key = bytes.fromhex(run.chunk_key.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{run.chunk_key} can't be read: {error}; a new instance gets a new one") from error
    if len(key) != ID_BYTES:
        raise BadInput(f"{run.chunk_key} holds {len(key)} bytes and not {ID_BYTES}; a new instance gets a new one")
    return key
