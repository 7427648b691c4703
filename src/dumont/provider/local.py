"""The local provider: instances are real processes on this machine, each with a disk of its own, apart as `jail` says.

    provider = await LocalProvider.open(home, mode, capacity={Machine.GPU: 1})

Its records are the directories `home/instances/<label>/`: `machine.json` (the intent, written before anything starts),
`started` (written by the machine's first process about itself), `ended` (why, for one that was taken away), `lock`,
`log` and `root/`, the disk. So what is true
survives the server, and a server that was killed between starting a machine and noting it finds the machine again:
the lock is handed to the machine's first process, so whoever gets the lock knows that none was started.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from dumont.errors import NoCapacity, NoSuchInstance, NotPossibleHere, ProviderError
from dumont.model.instance import Machine
from dumont.provider.base import Boot, Machinery, Need, Offer, Phase, Why
from dumont.provider.command import handing_down
from dumont.provider.jail import RUN, Disk, Mode, argv, environment
from dumont.provider.market import Boots
from dumont.provider.network import NUMBERS, Cable, Network, cloud_key
from dumont.provider.process import Process, end, launch, terminate

NAME = "local"
GONE = ".gone-"  # no label starts like this: what is being removed is not listed
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
STARTED_SECONDS_MAX = 10.0
LOCK_SECONDS_MAX = 10.0
POLL_SECONDS = 0.005

OFFERS = (
    Offer(id="local-gpu", provider=NAME, machine=Machine.GPU, name="local pretend GPU", price_micros_per_hour=400_000),
    Offer(
        id="local-gpu-large",
        provider=NAME,
        machine=Machine.GPU,
        name="local pretend GPU, large",
        price_micros_per_hour=900_000,
    ),
    Offer(id="local-cpu", provider=NAME, machine=Machine.CPU, name="local small CPU", price_micros_per_hour=20_000),
)
"""Invented machines at invented prices: this provider bills nothing."""


DUDS = {Boots.FAIL.value: ("sh", "-c", "exit 1"), Boots.NEVER.value: ("sh", "-c", "exec sleep infinity")}
"""What runs instead of the agent in a machine that is to come to nothing."""
SLOW_DISK = (sys.executable, "-m", "dumont.provider.slow_disk")
SLOW_DISK_NEEDS = "pyseccomp"

Equip = Callable[[Disk, Boot, Machine, Cable | None], None]
"""Puts on a new machine's disk what its first process starts from."""


@dataclass(frozen=True)
class Directory:
    """The records of one machine on disk."""

    path: Path

    @property
    def label(self) -> str:
        return self.path.name

    @property
    def root(self) -> Path:
        return self.path / "root"

    @property
    def started(self) -> Path:
        return self.path / "started"

    def intent(self) -> dict[str, Any]:
        """What `machine.json` holds; empty when it was not written (a server died there) or is being removed."""
        try:
            return dict(json.loads((self.path / "machine.json").read_text()))
        except FileNotFoundError:
            return {}

    def why(self) -> Why:
        """Why the machine does not run, as far as that was written down."""
        try:
            return Why((self.path / "ended").read_text())
        except FileNotFoundError:
            return Why.FAILED if self.intent().get("boots") == Boots.FAIL.value else Why.UNTOLD

    def intend(self, content: dict[str, Any]) -> None:
        """Write `machine.json`, whole or not at all, and durably."""
        draft = self.path / "machine.new"
        with draft.open("w") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self.path / "machine.json")

    def process(self) -> Process | None:
        """The machine's outermost process; None while none has started."""
        try:
            return Process.parse(self.started.read_text())
        except FileNotFoundError:
            return None

    def phase(self) -> Phase:
        process = self.process()
        if process is None:
            return Phase.STARTING
        if not process.alive():
            return Phase.STOPPED
        delay_s = float(self.intent().get("boot_delay_s", 0))
        return Phase.STARTING if process.age_s() < delay_s else Phase.RUNNING


class LocalProvider:
    """Rents out this machine, piece by piece. Make one with `open`."""

    name = NAME

    def __init__(
        self,
        home: Path,
        mode: Mode,
        command: Sequence[str],
        capacity: Mapping[Machine, int],
        boot_delay_s: float,
    ) -> None:
        self.equip: Equip = Disk.boot
        self.home = home.resolve()
        self.mode = mode
        self.capacity = dict(capacity)
        self.boots = Boots.WELL
        self.server_host = "127.0.0.1"
        self._fsync_s = 0.0
        self._command = tuple(command)
        self._boot_delay_s = boot_delay_s
        self._network: Network | None = None
        self._instances = self.home / "instances"

    @classmethod
    async def open(
        cls,
        home: Path,
        mode: Mode,
        command: Sequence[str] = (),
        capacity: Mapping[Machine, int] | None = None,
        boot_delay_s: float = 0.0,
    ) -> "LocalProvider":
        """The provider of this home, its network ready.

        `command` runs in each machine instead of the watchdog, followed by the run directory. `capacity` bounds how
        many machines of a kind run at a time (none given: no bound) and may be changed later, as may `boots`, how the
        machines come up that are rented from then on. A machine is STARTING for `boot_delay_s`. Raises NotPossibleHere
        or ProviderError when `mode` is NETNS and no network can be made.
        """
        watchdog = (sys.executable, "-m", "dumont.agent.watchdog")
        provider = cls(home, mode, command or watchdog, capacity or {}, boot_delay_s)
        provider._instances.mkdir(parents=True, exist_ok=True)
        for gone in provider._instances.glob(f"{GONE}*"):
            with contextlib.suppress(OSError):  # somebody else is at it
                await asyncio.to_thread(_remove, gone)
        if mode is Mode.NETNS:
            provider._network = await Network.open(provider.home)
            provider.server_host = provider._network.host
            await provider._unplug_leftovers(provider._network)
        return provider

    async def offers(self, need: Need) -> list[Offer]:
        """What is for rent now: nothing once the capacity is used up. Of a need, only kind and price are looked at."""
        fits = [offer for offer in OFFERS if offer.machine is need.machine and self._has_room(need.machine)]
        most = need.price_micros_per_hour_max
        return [offer for offer in fits if most is None or offer.price_micros_per_hour <= most]

    async def rent(self, offer: Offer, label: str, boot: Boot) -> Machinery:
        """The machine under this label, started if there was none yet. `label` names its directory.

        Raises NoCapacity; ProviderError when the label is unusable or the machine can't be started.
        """
        if not LABEL.fullmatch(label):
            raise ProviderError(f"{label!r} can't name a directory. Use letters, digits, dots and dashes, at most 63.")
        directory = Directory(self._instances / label)
        try:
            self._intend(directory, offer, boot)
            async with _locked(directory, until=lambda: directory.process() is not None) as lock:
                if directory.process() is None:
                    await self._start(directory, offer.machine, boot, lock)
        except OSError as error:  # such as a full disk, or a release in the same instant
            raise ProviderError(f"The local machine {label} can't be started: {error}") from error
        return self._listed(directory)

    async def machines(self) -> list[Machinery]:
        """Every machine of this home, those that ended by themselves included, until they are released."""
        with self._census() as directories:
            return [self._listed(directory) for directory in directories]

    async def machine(self, ref: str) -> Machinery:
        """One machine. Raises NoSuchInstance when it was never rented, or released."""
        directory = Directory(self._instances / ref)
        if not LABEL.fullmatch(ref) or not directory.path.is_dir():
            raise NoSuchInstance(f"There is no local machine {ref!r}.")
        return self._listed(directory)

    async def release(self, ref: str) -> None:
        """End all its processes, then remove its cable and its files. Raises ProviderError when any is left."""
        directory = Directory(self._instances / ref)
        if not LABEL.fullmatch(ref) or not directory.path.is_dir():
            return
        await end(self._marks(ref))
        try:
            async with _locked(directory) as lock:  # held by a `rent` under way, then by the machine itself
                if not _is_lock_of(lock, directory):
                    return  # another release was faster, and the label may even be in use again
                await end(self._marks(ref))
                if number := _number(directory):
                    network = self._network or await Network.open(self.home)
                    with handing_down(lock):
                        await network.unplug(number)
                gone = directory.path.with_name(f"{GONE}{ref}-{directory.path.stat().st_ino}")
                directory.path.rename(gone)
            await asyncio.to_thread(_remove, gone)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ProviderError(f"The files of the local machine {ref} can't be removed: {error}") from error

    async def kill(self, ref: str, grace_s: float = 0.0) -> None:
        """End a machine the hard way, for drills: it stays listed as STOPPED. Raises NoSuchInstance.

        With a grace its processes get SIGTERM first, and so many seconds.
        """
        await self.machine(ref)
        if grace_s > 0:
            await terminate(self._marks(ref), grace_s)
        await end(self._marks(ref))

    async def preempt(self, ref: str, why: Why = Why.PREEMPTED, grace_s: float = 0.0) -> None:
        """The market takes a machine away, or another bid does (OUTBID): it ends, and says why. Raises NoSuchInstance.

        With a grace its processes get SIGTERM first, and so many seconds.
        """
        await self.machine(ref)
        (self._instances / ref / "ended").write_text(why.value)
        await self.kill(ref, grace_s)

    async def resume(self, ref: str) -> None:
        """A machine that was taken away starts again by itself, on its old disk; harmless for one that runs.

        Raises NoSuchInstance, or ProviderError when it can't be started.
        """
        await self.machine(ref)
        directory = Directory(self._instances / ref)
        self.restart(ref)
        try:
            async with _locked(directory, until=lambda: directory.process() is not None) as lock:
                if directory.process() is None:
                    await self._start(directory, Machine(directory.intent()["machine"]), None, lock)
        except OSError as error:
            raise ProviderError(f"The local machine {ref} can't be started again: {error}") from error

    async def slow_link(self, ref: str, mbps: float) -> None:
        """Let a machine's link carry only so many Mbit/s each way. Raises NotPossibleHere, NoSuchInstance."""
        await self.machine(ref)
        number = _number(Directory(self._instances / ref))
        if self._network is None or not number:
            raise NotPossibleHere("Only machines with a network of their own have a link to slow. That needs root.")
        await self._network.slow(number, mbps)

    def slow_disks(self, fsync_s: float) -> None:
        """Let each fsync in machines rented from now on take so much longer, in seconds, by `provider.slow_disk`.

        0 lets them be. Raises NotPossibleHere.
        """
        if fsync_s and importlib.util.find_spec(SLOW_DISK_NEEDS) is None:
            raise NotPossibleHere("Slow disks need a package more. Install it with: pip install 'dumont[drills]'")
        self._fsync_s = fsync_s

    def reserve(self, label: str, offer: Offer, boot: Boot) -> str:
        """Write down that this machine is to be rented, and answer the address that it will have. Raises NoCapacity."""
        directory = Directory(self._instances / label)
        self._intend(directory, offer, boot)
        return self._listed(directory).host

    def phase(self, label: str) -> Phase:
        """What this machine does, GONE when there is none; STARTING too while it is only reserved."""
        directory = Directory(self._instances / label)
        return directory.phase() if directory.path.is_dir() else Phase.GONE

    def restart(self, label: str) -> None:
        """Let the next `rent` of this label start a machine that stopped again, on its old disk; harmless otherwise."""
        directory = Directory(self._instances / label)
        if directory.phase() is Phase.STOPPED:
            (directory.path / "ended").unlink(missing_ok=True)
            directory.started.unlink(missing_ok=True)

    async def dismantle(self) -> None:
        """Release every machine and remove the home's network."""
        for machine in await self.machines():
            await self.release(machine.ref)
        if self._network is not None:
            await self._network.close()

    async def _unplug_leftovers(self, network: Network) -> None:
        """Remove the cables of machines that are no more. A number is written down before it is plugged in, so what is
        plugged in at first and not written down afterwards belongs to nobody.
        """
        plugged = await network.plugged()
        with self._census() as directories:
            known = {_number(directory) for directory in directories}
        for number in sorted(plugged - known):
            await network.unplug(number)

    def _intend(self, directory: Directory, offer: Offer, boot: Boot) -> None:
        """Write down what is to be rented, unless it already is. Raises NoCapacity."""
        with self._census() as directories:
            if directory.intent():
                return
            if not self._has_room(offer.machine):
                raise NoCapacity("Every local machine of this kind is rented. Let one go, or raise the capacity.")
            cable = self._network.cable(self._free_number(directories)) if self._network else None
            directory.path.mkdir(exist_ok=True)
            directory.intend(
                {
                    "label": directory.label,
                    "instance_id": boot.instance_id,
                    "offer": offer.id,
                    "machine": offer.machine.value,
                    "mode": self.mode.value,
                    "marks": self._marks(directory.label),
                    "tree": "root/workspace",
                    "run_dir": f"root/{RUN}",
                    "boot_delay_s": self._boot_delay_s,
                    "boots": self.boots.value,
                    "fsync_s": self._fsync_s,
                    "cable": asdict(cable) if cable else None,
                }
            )

    async def _start(self, directory: Directory, machine: Machine, boot: Boot | None, lock: int) -> None:
        """Start its processes; without `boot` on what its disk holds of an earlier start."""
        intent = directory.intent()
        if not intent:
            raise ProviderError(f"The local machine {directory.label} was released while it was being rented.")
        disk = Disk(directory.root, Mode(intent["mode"]))
        cable = None
        if self._network is not None and intent["cable"]:
            with handing_down(lock):
                cable = await self._network.plug(intent["cable"]["number"])
        disk.prepare()
        if boot is not None:
            self.equip(disk, boot, machine, cable)
        first = DUDS.get(intent.get("boots", ""), (*self._command, str(disk.inside(RUN))))
        command = argv(disk, self.home, directory.label, cable, first)
        if fsync_s := intent.get("fsync_s"):
            command = [*SLOW_DISK, str(fsync_s), *command]
        with (directory.path / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *launch(directory.started, float(intent["boot_delay_s"]), command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=disk.outside("workspace"),
                env=environment(disk, intent["marks"]),
                pass_fds=(lock,),
            )
            if await process.wait():
                raise ProviderError(f"The local machine {directory.label} can't be started; see {log.name}.")
        await _until(lambda: directory.process() is not None, STARTED_SECONDS_MAX, f"{directory.label} did not start")

    def _listed(self, directory: Directory) -> Machinery:
        intent = directory.intent()
        facts = {"mode": intent.get("mode", ""), "offer": intent.get("offer", ""), "log": str(directory.path / "log")}
        host = (intent.get("cable") or {}).get("address", "127.0.0.1")
        phase = directory.phase()
        why = directory.why() if phase is Phase.STOPPED else Why.UNTOLD
        return Machinery(ref=directory.label, label=directory.label, phase=phase, host=host, facts=facts, why=why)

    def _has_room(self, machine: Machine) -> bool:
        bound = self.capacity.get(machine)
        if bound is None:
            return True
        kinds = [d.intent().get("machine") for d in self._directories() if d.phase() is not Phase.STOPPED]
        return kinds.count(machine.value) < bound

    def _free_number(self, directories: list[Directory]) -> int:
        """A cable's number, used again as late as possible: others may still dial the machine that had it."""
        used = {_number(directory) for directory in directories}
        last = self._instances / ".last-number"
        written = last.read_text() if last.exists() else ""
        start = int(written) if written.isdigit() else 0  # a server that died as it wrote leaves nothing
        for number in chain(range(max(start + 1, NUMBERS.start), NUMBERS.stop), NUMBERS):
            if number not in used:
                last.write_text(str(number))
                return number
        raise NoCapacity("All addresses of the local network are in use. Let some machines go.")

    def _marks(self, label: str) -> list[str]:
        return [f"DUMONT_INSTANCE={label}", f"DUMONT_CLOUD={cloud_key(self.home)}"]

    def _directories(self) -> list[Directory]:
        return [Directory(path) for path in sorted(self._instances.iterdir()) if LABEL.fullmatch(path.name)]

    @contextlib.contextmanager
    def _census(self) -> Iterator[list[Directory]]:
        """All machines' directories, while nobody in any process adds one."""
        with (self._instances / ".census").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield self._directories()


def _number(directory: Directory) -> int:
    """The number of the machine's cable; 0 when it has none."""
    cable = directory.intent().get("cable") or {}
    return int(cable.get("number", 0))


@contextlib.asynccontextmanager
async def _locked(directory: Directory, until: Callable[[], bool] = lambda: False) -> AsyncIterator[int]:
    """Hold the machine's lock, or wait until `until`. Yields the descriptor. Raises ProviderError after 10 s."""
    lock = os.open(directory.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        await _until(lambda: until() or _try_lock(lock), LOCK_SECONDS_MAX, f"{directory.label} is held by another")
        yield lock
    finally:
        os.close(lock)


def _is_lock_of(lock: int, directory: Directory) -> bool:
    """Whether this descriptor is of the lock that lies there now."""
    return os.fstat(lock).st_ino == (directory.path / "lock").stat().st_ino


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _until(true: Callable[[], bool], seconds_max: float, otherwise: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds_max
    while not true():
        if loop.time() > deadline:
            raise ProviderError(f"{otherwise} within {seconds_max:.0f} s. Look at the provider again.")
        await asyncio.sleep(POLL_SECONDS)


def _remove(path: Path) -> None:
    """Remove a directory tree, also one that holds directories its owner may not write to; harmless when gone."""
    if not path.exists():
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        for folder, names, _ in os.walk(path):
            for name in names:
                if not (inner := Path(folder) / name).is_symlink():
                    inner.chmod(stat.S_IRWXU)
        shutil.rmtree(path)
