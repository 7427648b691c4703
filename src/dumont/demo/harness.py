"""The harness: sets the stage, plays the rounds, and takes everything down again, whatever happened."""

import asyncio
import contextlib
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from rich.console import Console

from dumont.demo import faults
from dumont.demo.acklog import AckReader, rates
from dumont.demo.base import base_tree
from dumont.demo.cloud import Cloud, is_healthy
from dumont.demo.emulated import emulated
from dumont.demo.planned import play_planned
from dumont.demo.report import CUT_OFF, KILLED, KINDS, PLANNED, Report, Round, print_round
from dumont.demo.rounds import BASE, Stage, calm, play
from dumont.demo.witness import Errand, Outside, write_errand
from dumont.errors import BadInput, DumontError, NotPossibleHere
from dumont.i18n import _

NAME = "demo"
BEACON = Path(__file__).with_name("beacon.py")
WORKLOAD = Path(__file__).with_name("workload.py")  # importing it would need NumPy, which only a workspace needs
BOTH = "both"
LOCAL, EMULATED = "local", "emulated"
LAUNCH_TIMEOUT_S = 60.0
IN_STEP_TIMEOUT_S = 120.0
WITNESS_END_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for. `home` None: a home of the demo's own, removed at the end.

    `cloud` LOCAL: this machine is rented out by Dumont itself. EMULATED: by Vast.ai and Google, emulated here.
    """

    rounds: int = 4
    kind: str = BOTH
    seed: int = 0
    fast: bool = False
    home: Path | None = None
    cloud: str = LOCAL


async def rehearse(options: Options, console: Console) -> Report:
    """The main job: a workspace, a real workload in it, and `options.rounds` faults. Raises DumontError.

    Nothing that was started here is left when it returns, raises, or is cancelled.
    """
    if options.kind not in (*KINDS, PLANNED, BOTH):
        raise BadInput(_("{kind} is no kind of round: killed, cut_off, both or planned").format(kind=options.kind))
    if options.cloud not in (LOCAL, EMULATED):
        raise BadInput(_("{cloud} is no kind of cloud: local or emulated").format(cloud=options.cloud))
    if options.rounds < 1:
        raise BadInput(_("A demo needs at least one round."))
    async with contextlib.AsyncExitStack() as exits:
        cloud = await exits.enter_async_context(_cloud(options, console))
        outside = Outside(Path(tempfile.mkdtemp(prefix="demo-witness-", dir=cloud.home)))
        exits.callback(shutil.rmtree, outside.path, ignore_errors=True)
        stage = await _set(cloud, outside, options, console)
        await exits.enter_async_context(_witness(outside))
        kinds = await _kinds(stage, options, console)
        return await _play_all(stage, kinds, console)


@contextlib.asynccontextmanager
async def _cloud(options: Options, console: Console) -> AsyncIterator[Cloud]:
    """A running cloud. One that was there before is left running, without our workspace."""
    home = options.home or Path(tempfile.mkdtemp(prefix="dumont-demo-"))
    cloud = await Cloud.at(home.resolve(), NAME)
    emulators = contextlib.AsyncExitStack()
    try:
        home.mkdir(parents=True, exist_ok=True)
        if options.cloud == EMULATED:
            await emulators.enter_async_context(emulated(home.resolve()))
            console.print(_("Vast.ai and Google Compute Engine are emulated here; machines are rented from them."))
        await cloud.up()
        console.print(
            _("Server and gateway are up; their home is {home}.").format(home=home), highlight=False, soft_wrap=True
        )
        yield cloud
    finally:
        console.print(_("Letting every machine go …"))
        try:
            await cloud.close()
        finally:
            await emulators.aclose()
            await _end_leftovers(cloud.home)
            if options.home is None:
                shutil.rmtree(home, ignore_errors=True)


async def _end_leftovers(home: Path) -> None:
    """Instances that the server could not let go, for example because it crashed, end here."""
    for record in (home / "instances").glob("*/machine.json"):
        with contextlib.suppress(DumontError):
            await faults.kill(home, record.parent.name)


async def _set(cloud: Cloud, outside: Outside, options: Options, console: Console) -> Stage:
    """Launch the workspace and fill it, over its address like everything else here."""
    await cloud.launch(_command(), return_to_gpu=options.kind == PLANNED or not options.fast)
    await cloud.until(
        _("a primary"), lambda shown: any(r.id == shown.primary and r.ready for r in shown.replicas), LAUNCH_TIMEOUT_S
    )
    address = await cloud.address()
    console.print(
        _("The workspace answers: ssh -F {config} {alias}").format(config=address.config, alias=address.alias)
    )
    tree = base_tree(fast=options.fast)
    await address.copy(tree.source, f"{BASE}/", tree.filters)
    await address.copy(BEACON, "beacon.py")
    await address.copy(WORKLOAD, "train.py")
    shown = await cloud.until(_("a primary and a standby in step"), is_healthy, IN_STEP_TIMEOUT_S)
    hand = f"PYTHONDONTWRITEBYTECODE=1 {shlex.quote(sys.executable)} beacon.py"
    url = f"http://{shown.address.host}:{shown.address.http_port}/.dumont/probe"
    write_errand(outside, Errand(str(address.config), address.alias, f"{hand} run", url))
    return Stage(cloud, address, AckReader(outside.acks), outside, Random(options.seed), hand, not options.fast)


def _command() -> str:
    """What runs in the workspace, on a GPU and on a CPU: one thread, so that two cores are enough for a whole cloud."""
    settings = "OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1"
    return f"until [ -f train.py ]; do sleep 0.1; done; exec env {settings} {shlex.quote(sys.executable)} train.py"


@contextlib.asynccontextmanager
async def _witness(outside: Outside) -> AsyncIterator[None]:
    """The witness, in a process and a session of its own: Ctrl-C reaches it only through us."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dumont.demo.witness", str(outside.path), start_new_session=True
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(WITNESS_END_S):
                await process.wait()
        except TimeoutError:
            process.kill()


async def _kinds(stage: Stage, options: Options, console: Console) -> list[str]:
    """The kind of each round. Without network namespaces there is no cable to cut, and that is said."""
    shown = await calm(stage)
    kinds = [options.kind] if options.kind != BOTH else [KILLED, CUT_OFF]
    if CUT_OFF in kinds:
        try:
            await faults.heal(stage.cloud.home, shown.primary)
        except NotPossibleHere as error:
            if options.kind == CUT_OFF:
                raise
            console.print(_("Killed rounds only. {why}").format(why=error), highlight=False, soft_wrap=True)
            kinds = [KILLED]
    return [kinds[number % len(kinds)] for number in range(options.rounds)]


async def _play_all(stage: Stage, kinds: list[str], console: Console) -> Report:
    """All rounds. One that can't be finished ends the demo, and is reported as far as it went."""
    rounds: list[Round] = []
    for number, kind in enumerate(kinds, start=1):
        rounds.append(Round(number=number, kind=kind))
        try:
            await (play_planned if kind == PLANNED else play)(stage, rounds[-1])
        except DumontError as error:
            rounds[-1].notes.append(str(error))
            rounds[-1].finished = False
        print_round(console, rounds[-1])
        if not rounds[-1].finished:
            break
    return Report(tuple(rounds), len(kinds), rates(stage.acks.all))
