"""Joining: how a freshly rented instance gets its identity from the server.

The engine opens the hub's port with TLS but without a certificate of its own. On such a link it may send Join and
nothing else; the server answers Joined or JoinRefused and closes.
"""

import msgspec

JOIN_BYTES_MAX = 16 * 2**10
"""The longest message that a side without a certificate may send (see `SocketLink.bytes_max`)."""


class Join(msgspec.Struct, frozen=True, tag="join"):
    """Agent → server: sign this request. `token` is single-use and came with the boot file; `csr` is PEM."""

    instance_id: str
    token: str
    csr: str


class Joined(msgspec.Struct, frozen=True, tag="joined"):
    """Server → agent: the signed certificate, PEM, and the key (32 bytes) under which the workspace's chunks are named.

    Every replica of a workspace is told the same one, so that standby, primary and store mean the same by a chunk.
    """

    certificate: str
    chunk_key: bytes


class JoinRefused(msgspec.Struct, frozen=True, tag="join_refused"):
    """Server → agent: no certificate, and why, in words."""

    reason: str


FromJoiner = Join
ToJoiner = Joined | JoinRefused
