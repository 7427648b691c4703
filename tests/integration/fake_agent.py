"""A pretended agent: `python -m tests.integration.fake_agent RUN_DIR`. Real TLS, real sockets, no files.

It joins, keeps both links, and plays the role it is given. A primary counts commits up; its standby follows them over a
TCP connection, whose end is what a standby notices of a primary's death. Its meters are real, but for the GPUs, which a
test writes down.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec

from dumont.agent.gpus import UNREADABLE, Reading, Use
from dumont.agent.meters import MachineGauges, Meter
from dumont.errors import LinkClosed
from dumont.model.commit import CommitId
from dumont.model.instance import Role
from dumont.wire.control import (
    VERSION,
    AgentHello,
    Assignment,
    Beat,
    BeatReply,
    Endpoints,
    FromServer,
    PeerStatus,
    Risk,
    Status,
    Sync,
    Synced,
)
from dumont.wire.identity import client_context, make_key_and_csr, write_private
from dumont.wire.join import Join, Joined, JoinRefused
from dumont.wire.link import dial

EVERY_S = 0.1
GPUS = "gpus.json"
"""In the run directory: a list of objects with the fields of `Use`."""


def write_gpus(run_dir: Path, *cards: Use) -> None:
    """What the machine's cards hold from now on."""
    new = run_dir / f"{GPUS}.new"
    new.write_text(json.dumps([card._asdict() for card in cards]))
    new.replace(run_dir / GPUS)


class WrittenGpus:
    """A driver of the port `Gpus` that reads a file, as NVIDIA's reads its cards. Without one there is no card yet."""

    def __init__(self, run_dir: Path) -> None:
        self._file = run_dir / GPUS

    def percent(self) -> float | None:
        return None

    def memory(self, own: Callable[[], Collection[int]]) -> Reading:
        try:
            return Reading(tuple(Use(**card) for card in json.loads(self._file.read_text())))
        except FileNotFoundError:
            return Reading()
        except (OSError, ValueError):
            return Reading(lacks=UNREADABLE)


class FakeAgent:
    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.boot: dict[str, Any] = json.loads((run_dir / "boot.json").read_text())
        self.told = Assignment("", 0, Role.NONE)
        self.seq = 0
        self.epoch = 0
        self.acked: dict[str, CommitId] = {}
        self.sealed: CommitId | None = None
        self.stream_up = False
        self.stream_was_up = False
        self.ports = Endpoints(self.boot["host"])
        ticks = itertools.count()  # how busy this computer is decides no reading
        self.meter = Meter(MachineGauges(run_dir, WrittenGpus(run_dir), set), lambda: next(ticks) * EVERY_S)

    async def run(self) -> None:
        service = await asyncio.start_server(self.greet, self.boot["host"], 0)
        stream = await asyncio.start_server(self.feed, self.boot["host"], 0)
        port = service.sockets[0].getsockname()[1]
        self.ports = Endpoints(self.boot["host"], port, port, stream.sockets[0].getsockname()[1])
        await self.join()
        async with asyncio.TaskGroup() as tasks:
            for work in (self.engine, self.pulse, self.follow):
                tasks.create_task(self.forever(work))

    async def forever(self, work: Any) -> None:
        while True:
            try:
                await work()
            except* (LinkClosed, OSError):
                await asyncio.sleep(EVERY_S)

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whatever serves here, it says who it is; and closes its doors to all when it does not lead."""
        if self.leads:
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-instance: {self.me}\r\n\r\n".encode())
            await reader.read(1 << 16)
        writer.close()

    @property
    def me(self) -> str:
        return str(self.boot["instance_id"])

    @property
    def leads(self) -> bool:
        return self.told.role is Role.PRIMARY and self.told.epoch == self.epoch

    async def join(self) -> None:
        authority = self.run_dir / "ca.crt"
        authority.write_text(self.boot["ca_pem"])
        key, csr = make_key_and_csr()
        host, port = self.boot["server_host"], self.boot["server_port"]
        link = await dial(host, port, Joined | JoinRefused, tls=client_context(None, None, authority))
        await link.send(Join(self.me, self.boot["join_token"], csr))
        answer = await link.receive()
        link.close()
        assert isinstance(answer, Joined), answer
        write_private(self.run_dir / "identity.key", key)
        write_private(self.run_dir / "identity.crt", answer.certificate)

    async def connect(self) -> Any:
        files = [self.run_dir / name for name in ("identity.crt", "identity.key", "ca.crt")]
        tls = client_context(*files)
        return await dial(self.boot["server_host"], self.boot["server_port"], FromServer, tls=tls)

    async def pulse(self) -> None:
        link = await self.connect()
        while True:
            await link.send(Beat(self.me, self.epoch, 1.0, 0))
            assert isinstance(await link.receive(), BeatReply)
            await asyncio.sleep(EVERY_S)

    async def engine(self) -> None:
        link = await self.connect()
        await link.send(AgentHello(VERSION, self.me))
        async with asyncio.TaskGroup() as both:
            both.create_task(self.tell(link))
            both.create_task(self.hear(link))

    async def tell(self, link: Any) -> None:
        while True:
            if self.leads and self.sealed is None:
                self.seq += 1
            await link.send(self.status())
            await asyncio.sleep(EVERY_S)

    def status(self) -> Status:
        head = CommitId(self.epoch, self.seq) if self.seq else None
        peers = tuple(PeerStatus(peer.instance_id, peer.instance_id in self.acked, self.acked.get(peer.instance_id))
                      for peer in self.told.peers)  # fmt: skip
        status = Status(
            self.me, self.epoch, self.told.role, self.ports, head=head, applied=head, root=b"\7" * 32, commits=self.seq
        )
        status = msgspec.structs.replace(status, meters=self.meter.read(self.epoch if self.leads else None))
        if self.leads:
            return msgspec.structs.replace(
                status,
                ready=True,
                ack_version=self.told.ack_version,
                peers=peers,
                sealed=self.sealed,
                risk=Risk(10, 20),
            )
        silent_ms = 50 if self.stream_was_up and not self.stream_up else 0
        return msgspec.structs.replace(
            status, stream_up=self.stream_up, stream_seen=self.stream_was_up, stream_silent_ms=silent_ms
        )

    async def hear(self, link: Any) -> None:
        while True:
            message = await link.receive()
            if isinstance(message, Sync):
                ok = bool(self.told.ack_set)
                id = CommitId(self.epoch, self.seq)
                answer = Synced(message.request, "ok", id, b"\7" * 32) if ok else Synced(message.request, "unknown")
                while ok and not all(self.acked.get(member, CommitId(0, 0)) >= id for member in self.told.ack_set):
                    await asyncio.sleep(0.01)
                await link.send(answer)
            elif isinstance(message, Assignment) and message.epoch >= self.epoch:
                self.stream_was_up = self.stream_was_up and message.epoch == self.epoch
                if message.epoch > self.epoch or not message.seal:
                    self.sealed = None
                self.told, self.epoch = message, message.epoch
                if message.seal and self.leads:
                    self.sealed = self.sealed or CommitId(self.epoch, self.seq)
                await link.send(self.status())

    async def feed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As primary: the newest commit to a standby, and its acknowledgement back."""
        name = (await reader.readline()).decode().strip()
        try:
            while self.leads:
                writer.write(f"{self.epoch} {self.seq}\n".encode())
                epoch, seq = map(int, (await reader.readline()).split())
                self.acked[name] = CommitId(epoch, seq)
                await asyncio.sleep(EVERY_S / 2)
        except (OSError, ValueError):
            pass
        finally:
            self.acked.pop(name, None)
            writer.close()

    async def follow(self) -> None:
        """As standby: what a primary feeds."""
        peers = self.told.peers
        if self.told.role is not Role.STANDBY or not peers or not peers[0].endpoints.stream_port:
            await asyncio.sleep(EVERY_S)
            return
        reader, writer = await asyncio.open_connection(peers[0].endpoints.host, peers[0].endpoints.stream_port)
        writer.write(f"{self.me}\n".encode())
        try:
            while line := await reader.readline():
                epoch, self.seq = map(int, line.split())
                self.stream_up = self.stream_was_up = True
                writer.write(f"{epoch} {self.seq}\n".encode())
        finally:
            self.stream_up = False
            writer.close()


if __name__ == "__main__":
    asyncio.run(FakeAgent(Path(sys.argv[1])).run())
