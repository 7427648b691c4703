"""The engine: an agent's own process for roles, replication and the control link. `-m dumont.agent.engine RUN_DIR`.

Nothing in here survives a crash but what is on disk; the watchdog starts it again.
"""

import asyncio
import math
import os
import random
import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dumont.agent.boot import Boot, RunDir, read_boot
from dumont.agent.calls import Calls
from dumont.agent.doors import SessionDoors
from dumont.agent.duty import ControlLink, Duty, Lines
from dumont.agent.grant import Grant
from dumont.agent.history import StoredHistory
from dumont.agent.join import join, read_chunk_key, renew_for_ever
from dumont.agent.listening import listen
from dumont.agent.notice import Notice, metadata_address, watch_notice
from dumont.agent.numbers import WrittenNumbers
from dumont.agent.orders import Orders
from dumont.agent.orphan import Hands, Orphanhood, Standing, end_machine
from dumont.agent.source import LiveSource
from dumont.clock import Clock, SystemClock
from dumont.errors import AlreadyStored, BadInput, StoreError
from dumont.model.commit import Commit, CommitId
from dumont.replication.ports import Host, Source
from dumont.replication.replica import Replica
from dumont.replication.sender import StreamLink
from dumont.snapshot.chunk import NO_KEY
from dumont.snapshot.disk import WorkspaceDisk
from dumont.snapshot.tree import Tree
from dumont.store.remote import RemoteStore
from dumont.wire.control import Endpoints, Peer, Status
from dumont.wire.hub import FromHub
from dumont.wire.identity import ClientCertificate, client_context, server_context
from dumont.wire.link import READ_AHEAD_BYTES, SocketLink, dial
from dumont.wire.store import FromStore
from dumont.wire.stream import StreamMessage

_LOOK_AGAIN_S = 0.5


@dataclass
class Engine:
    """One instance's engine, wired to its machine."""

    run: RunDir
    boot: Boot
    clock: Clock
    stream_port: int = 0
    _accepting: ssl.SSLContext | None = None
    _written_epoch: int = -1
    _stored: CommitId | None = None
    _leaving: str = ""
    _chunk_key: bytes = NO_KEY

    async def serve(self) -> None:
        """Join, recover, and do the duty until the process ends."""
        await join(self.run, self.boot, self.clock, random.Random())
        self._use_identity()
        self._doors = SessionDoors(self.run, self.clock)
        self._chunk_key = read_chunk_key(self.run)
        grant = Grant(RemoteStore(self._dial_store, self.boot.instance_id), self._chunk_key)
        disk = WorkspaceDisk(self.boot.workspace_dir, self.boot.data_dir, key=self._chunk_key)
        history = StoredHistory(grant.repository, self.boot.workspace_dir, self.boot.data_dir, self.clock)
        self._index = disk.index
        host = Host(
            disk=disk,
            watchdog=Orders(self.run),
            doors=self._doors,
            history=history,
            numbers=WrittenNumbers(self.run.path / "numbers"),
            clock=self.clock,
            watch=self._watch,
        )
        replica = Replica(self.boot.instance_id, host)
        await replica.start()
        lines = Lines(self._dial_server, self._dial_peer, self._endpoints, self._decorated)
        duty = Duty(self.boot.instance_id, replica, lines, self.clock, random.Random())
        server = await self._listen(duty)
        async with server, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._doors.run())
            tasks.create_task(Calls(self.run, self.boot.workspace_dir, replica).serve_forever())
            tasks.create_task(duty.run())
            tasks.create_task(self._store_forever(replica, history))
            tasks.create_task(self._renew_identity())
            if self.boot.orphan_after_s:
                tasks.create_task(self._orphanhood(replica, duty).watch_forever())
            tasks.create_task(watch_notice(metadata_address(), self._take_notice, self.clock, random.Random()))

    def _orphanhood(self, replica: Replica, duty: Duty) -> Orphanhood:
        hands = Hands(
            silent_s=lambda: min(duty.silent_s, self._unasked_s()),
            standing=lambda: self._standing(replica),
            retire=replica.retire,
            resume=replica.resume,
            end=lambda: end_machine(self.run),
        )
        return Orphanhood(hands, self.boot.orphan_after_s, self.clock)

    def _unasked_s(self) -> float:
        """Seconds since a gateway's probe, or somebody's connection, was here."""
        report = self._doors.report
        if report.clients:
            return 0.0
        return math.inf if report.asked_s_ago is None else report.asked_s_ago

    def _standing(self, replica: Replica) -> Standing:
        with os.scandir(self.boot.workspace_dir) as entries:
            has_files = next(entries, None) is not None
        return Standing(
            machine=self.boot.machine,
            role=replica.role,
            holds_files=has_files or replica.holds_files,
            hears_primary=replica.hears_primary,
            kept=bool(replica.keepers),
        )

    def _use_identity(self) -> None:
        """Links that are opened or accepted from now on use the identity in the run directory; open ones go on."""
        run = self.run
        self._calling = client_context(run.certificate, run.key, run.authority)
        if self._accepting is None:
            self._accepting = server_context(run.certificate, run.key, run.authority, ClientCertificate.REQUIRED)
        else:
            self._accepting.load_cert_chain(run.certificate, run.key)

    async def _renew_identity(self) -> None:
        """A refusal ends the renewing and not the engine: replicas go on without the server as long as they may."""
        try:
            await renew_for_ever(self.run, self.boot, self.clock, self._use_identity)
        except BadInput as error:
            print(f"engine: the identity is not renewed: {error}", file=sys.stderr)  # noqa: T201  # into its log

    async def _take_notice(self, notice: Notice) -> None:
        """The machine is being taken back: the server looks for another one while there is time."""
        self._leaving = "preempted"
        print(f"engine: this machine is taken back in about {notice.left_s:.0f} s", file=sys.stderr)  # noqa: T201  # its log

    async def _store_forever(self, replica: Replica, history: StoredHistory) -> None:
        """While this is the primary, add its newest commit to the store every `store_every_s`."""
        kept: Commit | None = None
        pause_s = replica.store_every_s
        while True:
            await self.clock.sleep(pause_s)
            led, pause_s = replica.committed(), _LOOK_AGAIN_S
            if led is None or led[0] == kept:
                continue
            pause_s = replica.store_every_s
            try:
                self._stored = (await history.keep(*led)).id
                kept = led[0]
            except AlreadyStored:
                kept = led[0]
            except (StoreError, OSError) as error:  # the next turn tries again; the status shows what is stored
                print(f"engine: commit {led[0].id} is not stored: {error}", file=sys.stderr)  # noqa: T201  # its log

    async def _listen(self, duty: Duty) -> asyncio.Server:
        """Where a standby or primary that dials us arrives; only instances with our authority's certificate do."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            duty.accept(SocketLink(reader, writer, StreamMessage))

        listener = listen(self.boot.host, self.boot.stream_port)
        server = await asyncio.start_server(accept, sock=listener, ssl=self._accepting, limit=READ_AHEAD_BYTES)
        self.stream_port = server.sockets[0].getsockname()[1]
        return server

    async def _watch(self, tree: Tree) -> Source:
        return await LiveSource.open(self.run, self.boot.workspace_dir, self._index, self._chunk_key)

    async def _dial_server(self) -> ControlLink:
        return await dial(self.boot.server_host, self.boot.server_port, FromHub, tls=self._calling)

    async def _dial_store(self) -> "SocketLink[object, FromStore]":
        return await dial(self.boot.server_host, self.boot.server_port, FromStore, tls=self._calling)

    async def _dial_peer(self, peer: Peer) -> StreamLink:
        return await dial(
            peer.endpoints.host, peer.endpoints.stream_port, StreamMessage, tls=self._calling, timeout_s=2.0
        )

    def _endpoints(self) -> Endpoints:
        report, boot = self._doors.report, self.boot
        return Endpoints(
            boot.host,
            _outside(boot.ssh_port_outside, report.ssh_port),
            _outside(boot.http_port_outside, report.http_port),
            _outside(boot.stream_port_outside, self.stream_port),
        )

    def _decorated(self, status: Status) -> Status:
        """Add what only the machine knows, and leave the epoch where the pulse finds it."""
        if status.epoch != self._written_epoch:
            temporary = self.run.epoch.with_suffix(".new")
            with suppress(OSError):  # a full disk: it is written with one of the next statuses
                temporary.write_text(str(status.epoch))
                os.replace(temporary, self.run.epoch)
                self._written_epoch = status.epoch
        report = self._doors.report
        return msgspec.structs.replace(
            status, workload=report.workload, meters=report.meters, stored=self._stored, leaving=self._leaving
        )


def _outside(outside: int, inside: int) -> int:
    """The port that others dial; 0 while nothing listens inside."""
    return outside if inside and outside else inside


def main(arguments: list[str]) -> int:
    """Run until killed. The one argument is the run directory."""
    run = RunDir(Path(arguments[0]))
    asyncio.run(Engine(run, read_boot(run), SystemClock()).serve())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
