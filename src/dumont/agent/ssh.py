"""The SSH door of a workspace: lets in whoever holds one of the owner's keys, and nobody while it is closed."""

import asyncio
import logging
import socket
from collections.abc import Callable

import asyncssh

from dumont.agent.shell import ShellChannel, Shells

CONNECTIONS_MAX = 256
LOGIN_S_MAX = 20
_KEEPALIVE_S = 15
_CIPHERS = "-chacha20-poly1305@openssh.com"
"""OpenSSH would choose it, but here it is put together in Python: AES-GCM moved 1.7 times as much in one run."""

_KEEPALIVES_MISSED_MAX = 3

log = logging.getLogger("dumont.ssh")


class SshDoor:
    """Accepts connections on `listener` for as long as it is told; while closed, it refuses by closing at once.

    One host key per workspace, given as text, so that clients meet the same one on whatever machine. `changed` is
    called when somebody logs in or leaves.
    """

    def __init__(self, listener: socket.socket, shells: Shells, changed: Callable[[], None]) -> None:
        self._listener = listener
        self._shells = shells
        self._changed = changed
        self._open = False
        self._host_key = ""
        self._owner_keys: tuple[str, ...] = ()
        self._known: frozenset[bytes] = frozenset()
        self._options: asyncssh.SSHServerConnectionOptions | None = None
        self._visitors: set[_Visitor] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def clients(self) -> int:
        """How many are logged in."""
        return sum(visitor.key is not None for visitor in self._visitors)

    def use_keys(self, host_key: str, owner_keys: tuple[str, ...]) -> None:
        """Load the keys, while there is time. Whoever came in with a key that is no longer the owner's is cut off."""
        if host_key and host_key != self._host_key:
            try:
                self._options = self._make_options(asyncssh.import_private_key(host_key))
                self._host_key = host_key
            except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
                log.error("the workspace's host key can't be read: %s", error)
        if owner_keys != self._owner_keys:
            self._owner_keys = owner_keys
            self._known = frozenset(filter(None, map(_public_data, owner_keys)))
            for visitor in list(self._visitors):
                if visitor.key is not None and visitor.key not in self._known:
                    visitor.cut()

    def open(self) -> None:
        """Let people in from now on."""
        self._open = True

    def admit_nobody(self) -> None:
        """Let nobody in any more; who is logged in may go on with what they began."""
        self._open = False
        for visitor in list(self._visitors):
            if visitor.key is None:
                visitor.cut()

    def close(self) -> None:
        """Let nobody in, and cut off everybody who is."""
        self._open = False
        for visitor in list(self._visitors):
            visitor.cut()

    def knows(self, key: asyncssh.SSHKey) -> bool:
        """Whether it is one of the owner's keys."""
        return self._open and key.public_data in self._known

    async def serve_forever(self) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # out of descriptors, or a client that is gone already
                log.warning("no connection could be accepted: %s", error)
                await asyncio.sleep(0.05)
                continue
            if not self._open or self._options is None or len(self._visitors) >= CONNECTIONS_MAX:
                connection.close()
                continue
            task = asyncio.create_task(self._receive(connection, self._options))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _receive(self, connection: socket.socket, options: asyncssh.SSHServerConnectionOptions) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncssh.run_server(connection, options=options)
        except (asyncssh.Error, OSError) as error:
            log.info("an SSH client did not get in: %s", error)

    def _visit(self) -> "_Visitor":
        return _Visitor(self)

    def arrived(self, visitor: "_Visitor") -> None:
        """A connection began; nobody is logged in by it yet."""
        self._visitors.add(visitor)
        if not self._open:
            visitor.cut()

    def left(self, visitor: "_Visitor") -> None:
        """A connection ended."""
        self._visitors.discard(visitor)
        self._changed()

    def logged_in(self) -> None:
        """A connection proved to hold one of the owner's keys."""
        self._changed()

    def shell(self) -> ShellChannel | bool:
        """The handler of one new session channel; False refuses it."""
        return self._open and ShellChannel(self._shells)

    def _make_options(self, host_key: asyncssh.SSHKey) -> asyncssh.SSHServerConnectionOptions:
        return asyncssh.SSHServerConnectionOptions(
            server_factory=self._visit,
            server_host_keys=[host_key],
            server_version="Dumont",
            config=None,
            public_key_auth=True,
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            gss_host=None,
            x509_trusted_certs=None,
            x11_forwarding=False,
            agent_forwarding=False,  # the host is a stranger (I7): it must not get hold of a user's other keys
            line_editor=False,
            encoding=None,
            encryption_algs=_CIPHERS,
            allow_scp=False,  # `scp -O` runs the instance's own scp
            login_timeout=LOGIN_S_MAX,
            keepalive_interval=_KEEPALIVE_S,
            keepalive_count_max=_KEEPALIVES_MISSED_MAX,
        )


class _Visitor(asyncssh.SSHServer):
    """One connection. Any user name will do: a workspace has one user."""

    def __init__(self, door: SshDoor) -> None:
        self._door = door
        self._connection: asyncssh.SSHServerConnection | None = None
        self._offered: bytes | None = None
        self.key: bytes | None = None

    def cut(self) -> None:
        """End the connection at once."""
        if self._connection is not None:
            self._connection.abort()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._door.arrived(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.left(self)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        known = self._door.knows(key)
        self._offered = key.public_data if known else None
        return known

    def auth_completed(self) -> None:
        self.key = self._offered
        self._door.logged_in()

    def session_requested(self) -> ShellChannel | bool:
        return self._door.shell()

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return True

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return True

    def unix_connection_requested(self, dest_path: str) -> bool:
        return True

    def unix_server_requested(self, listen_path: str) -> bool:
        return True


def _public_data(line: str) -> bytes | None:
    try:
        return asyncssh.import_public_key(line).public_data
    except asyncssh.KeyImportError as error:
        log.error("an owner's key can't be read and is left out: %s", error)
        return None
