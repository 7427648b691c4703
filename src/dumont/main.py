"""The composition root: the command line's entry point, and the server put together from its drivers.

The only place that chooses drivers, and the only one where imports stand inside functions: `dumont ls` should not wait
for a database to be imported, nor `dumont snapshot` for anything.
"""

import contextlib
import functools
import gc
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from datetime import timedelta

    import httpx
    from fastapi import FastAPI

    from dumont.advisor.llm import LlmReader
    from dumont.api.site import Site
    from dumont.client.clouds import Clouds
    from dumont.client.home import Home
    from dumont.client.results import Check
    from dumont.clock import Clock
    from dumont.control.act import Acts, Landing
    from dumont.control.ask import Parts
    from dumont.control.handout import Handout
    from dumont.control.hub import Hub
    from dumont.db.base import Database
    from dumont.model.offer import Offer
    from dumont.provider.base import Boot, Provider
    from dumont.provider.local import LocalProvider
    from dumont.repository.record import Exclusion
    from dumont.repository.saving.walk import Walk
    from dumont.store.address import Address
    from dumont.store.base import Store
    from dumont.wire.identity import Authority

LOOPBACK = "127.0.0.1"
CLOUD_OFFERS_EVERY_S = 30.0
"""Vast.ai allows ten searches a minute."""


def main() -> None:
    """`dumont …`, or `python -m dumont.main server HOME` for the process that `dumont up` starts."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["server"] and len(arguments) == 2:
        import asyncio

        asyncio.run(serve(Path(arguments[1])))
        return
    from dumont.i18n import use, wished

    use(wished(os.environ, _option(arguments, "--lang")))  # before the verbs: their help texts are read when imported
    words = _without(arguments, "--lang")
    if words[:1] == ["snapshot"]:  # it must start quickly: the other verbs are not even imported
        try:
            _leave(_snapshot(words[1:]))
        except KeyboardInterrupt:
            sys.exit(130)  # so early that nothing had begun
    if words[:1] == ["emulate"]:
        from dumont.emulate.run import main as emulate

        sys.exit(emulate(words[1:]))
    if words[:1] == ["advise"]:
        from dumont.counsel.run import main as advise

        sys.exit(advise(words[1:], _open_reader))
    from dumont.cli.app import app

    app()


def _snapshot(arguments: list[str]) -> int:
    """`dumont snapshot …`: no server; one module per verb, imported when it is asked for."""
    gc.disable()  # it ends soon, and makes hundreds of thousands of objects that stay
    from importlib import import_module

    if arguments[:1] == ["bench"]:
        return int(import_module("dumont.standalone.bench.run").main(arguments[1:]))
    from dumont.standalone.entry import Verb
    from dumont.standalone.entry import main as run

    def find_verb(name: str) -> Verb:
        verb: Verb = import_module(f"dumont.standalone.{name}").run
        return verb

    def begin_walk(directory: Path, excluded: "Exclusion") -> "Walk":
        from dumont.repository.saving.walk import Walk

        return Walk(directory, excluded)

    try:
        return run(arguments, find_verb, begin_walk, _open_cloud)
    finally:
        gc.freeze()  # or all of it would be looked through once more at the end


def _leave(status: int) -> None:
    """End at once: to take hundreds of thousands of objects apart first would be time for nothing."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or 1  # nobody reads what was said
    os._exit(status)


def _open_reader(home: "Home | None" = None) -> "LlmReader | None":
    """The reader with a language model, where a key for one is set: `OPENROUTER_API_KEY`, or `keys/openrouter`."""
    from dumont.client.home import find_home
    from dumont.client.model_key import find_model_key

    found = find_model_key(home or find_home(os.environ), os.environ)
    if found is None:
        return None
    from dumont.advisor.llm import Limits, LlmReader
    from dumont.advisor.openrouter import OpenRouter, Service
    from dumont.advisor.spendfile import FileSpending
    from dumont.clock import SystemClock

    service = Service(key=found.key, url=found.url)
    spending = FileSpending(found.spent, found.limit_micros_per_month)
    return LlmReader(OpenRouter(service), spending, SystemClock(), Limits(models=found.models))


def _open_cloud(address: "Address") -> "Store":
    """The driver of buckets; a directory needs none of its weight."""
    from dumont.store.cloud import open_cloud

    return open_cloud(address, os.environ)


async def open_local(home: Path) -> "LocalProvider":
    """The provider that rents this machine out, held apart as far as it allows."""
    from dumont.provider.capabilities import best_mode
    from dumont.provider.local import LocalProvider

    return await LocalProvider.open(home, await best_mode(home))


async def serve(path: Path, open_provider: "Callable[[Path], Awaitable[LocalProvider]]" = open_local) -> None:
    """Put one server process together and keep it running, until SIGTERM or the API's stop."""
    import asyncio
    import fcntl
    import signal

    from dumont.cli.process import gateway_of
    from dumont.client.home import Home
    from dumont.errors import NotPossibleHere
    from dumont.server import founding

    home = Home(path.absolute())
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.run.mkdir(mode=0o700, exist_ok=True)
    _log_to_stderr()
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)
    with (home.run / "server.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NotPossibleHere(f"another server runs in {home.path}; `dumont down` stops it") from error
        founding.write(home.run / "server.pid", str(os.getpid()))
        ports = founding.ports(home)
        authority = founding.authority(home, ports["hub"])  # the gateway waits for it; the imports below take longer
        from dumont.api.app import create_app

        landing = _limited(home, founding.landing(home, ports, authority, _packed(home)))
        async with _site(home, landing, authority, open_provider) as site:
            await _answer(create_app(site, founding.token(home)), home, ports, [signalled, site.stop])
        if site.stop.is_set():
            await asyncio.to_thread(gateway_of(home).end)
        home.server.unlink(missing_ok=True)  # last: it is what whoever stopped us waits for


@contextlib.asynccontextmanager
async def _site(
    home: "Home",
    landing: "Landing",
    authority: "Authority",
    open_provider: "Callable[[Path], Awaitable[LocalProvider]]",
) -> "AsyncIterator[Site]":
    """Every part of a server, running. Here the drivers are chosen."""
    import random

    from dumont.api.site import Site
    from dumont.clock import SystemClock
    from dumont.control.act import Acts
    from dumont.control.ask import Parts
    from dumont.control.hub import Hub
    from dumont.control.keys import Keyring
    from dumont.control.observe import Observatory
    from dumont.control.shell import Shell
    from dumont.control.vault import Vault, placed_by
    from dumont.errors import ProviderError
    from dumont.server import founding
    from dumont.store.directory import DirectoryStore

    clock = SystemClock()
    keyring = Keyring(home.keys)
    keyring.prepare()
    home.store.mkdir(mode=0o700, exist_ok=True)
    database = await _open_database(home)
    vault = Vault(DirectoryStore(home.store), founding.store_key(home), os.urandom, placed_by(database))
    rented = await _open_providers(home, clock, open_provider)
    acts = Acts(database, {one.name: one for one in rented.providers}, landing, clock, random.SystemRandom())
    await acts.listing.learner.load()
    observatory = Observatory(clock)
    hub = Hub(database, observatory, authority, vault, clock)
    shell = Shell(acts, hub, observatory, clock)
    parts = Parts(acts, hub, observatory, shell, vault, keyring, random.SystemRandom(), _history_term(home))
    loops: list[asyncio.Task[None]] = []

    async def release() -> int:
        await _stop(loops, acts)
        try:
            return await _release(parts, rented)
        except ProviderError:
            loops[:] = _loops(parts, rented)  # this server stays, and goes on looking after what is left
            raise

    async def examine() -> "list[Check]":
        return await _examine(home)

    site = Site(parts, home.path, landing.server_port, examine, release, _open_reader(home))
    listeners = await _listen(home, hub, rented, landing)
    loops += _loops(parts, rented)
    try:
        yield site
    finally:
        await _stop(loops, acts)
        for listener in listeners:
            listener.close()
        hub.close()
        await database.close()


async def _open_database(home: "Home") -> "Database":
    from dumont.db.sql import open_database

    home.database.touch(mode=0o600)
    return await open_database(f"sqlite:///{home.database}")


@dataclass(frozen=True)
class Rented:
    """Whom this server rents from, and the addresses that it listens at for their machines. `local` is one of them."""

    providers: "list[Provider]"
    hosts: list[str]
    local: "LocalProvider | None" = None
    http: "httpx.AsyncClient | None" = None


async def _open_providers(
    home: "Home", clock: "Clock", open_provider: "Callable[[Path], Awaitable[LocalProvider]]"
) -> Rented:
    """Those of `providers.toml`; without any, this machine itself."""
    from dumont.client.clouds import read_clouds

    clouds = read_clouds(home.path)
    if clouds.server is None or not (clouds.vast or clouds.gce):
        local = await open_provider(home.path)
        return Rented([local], sorted({LOOPBACK, local.server_host}), local)
    everywhere = [host for host in clouds.server.listen if host in ("0.0.0.0", "::")]  # they cover loopback
    hosts = everywhere or sorted({LOOPBACK, *clouds.server.listen})
    http = _http()
    providers = [
        *([_open_vast(home, clouds, http, clock)] if clouds.vast else []),
        *([_open_gce(home, clouds, clock)] if clouds.gce else []),
    ]
    return Rented(providers, hosts, http=http)


def _http() -> "httpx.AsyncClient":
    import httpx

    return httpx.AsyncClient(timeout=60.0)


def _open_vast(home: "Home", clouds: "Clouds", http: "httpx.AsyncClient", clock: "Clock") -> "Provider":
    import random

    from dumont.client.clouds import read_secret
    from dumont.market.names import gpu_name
    from dumont.provider import will
    from dumont.provider.vast.driver import Settings
    from dumont.provider.vast.provider import VastProvider
    from dumont.server import founding

    assert clouds.server is not None and clouds.vast is not None
    settings = Settings(
        key=read_secret(home.path, clouds.vast.key_file),
        installation=founding.installation(home),
        server_host=clouds.server.host,
        script_for=functools.partial(_script, will.destroy(clouds.vast.url)),
        url=clouds.vast.url,
        image=clouds.vast.image,
        name_of=gpu_name,
    )
    return VastProvider(settings, http, clock, random.SystemRandom())


def _open_gce(home: "Home", clouds: "Clouds", clock: "Clock") -> "Provider":
    import random

    from dumont.errors import NotPossibleHere

    try:
        from dumont.provider.gce.account import ENDPOINT, Account
        from dumont.provider.gce.credentials import credentials_of
        from dumont.provider.gce.gce import GceProvider
    except ModuleNotFoundError as error:
        raise NotPossibleHere(
            f"Google's client is missing ({error.name}); install it with: pip install 'dumont[gce]'"
        ) from error
    from dumont.provider import will
    from dumont.server import founding

    assert clouds.server is not None and clouds.gce is not None
    wanted = clouds.gce
    account = Account(
        project=wanted.project,
        zones=wanted.zones,
        installation=founding.installation(home),
        server_host=clouds.server.host,
        credentials=credentials_of(wanted.credentials_file, wanted.endpoint),
        api_endpoint=wanted.endpoint or ENDPOINT,
    )
    return GceProvider(account, functools.partial(_script, will.POWER_OFF), clock, random.SystemRandom())


def _script(last_will: str, boot: "Boot", offer: "Offer") -> str:
    from dumont.provider.bootstrap import script

    return script(boot, offer.machine, last_will)


def _loops(parts: "Parts", rented: Rented) -> "list[asyncio.Task[None]]":
    import asyncio

    from dumont.control.peaks import Peaks
    from dumont.control.sweep import Sweeper
    from dumont.control.upkeep import Upkeep

    every_s = 0.0 if rented.local else CLOUD_OFFERS_EVERY_S
    sweeper = Sweeper(parts.acts, parts.observatory, parts.clock, every_s)
    sweeps = [asyncio.create_task(sweeper.run(provider)) for provider in rented.providers]
    upkeep = Upkeep(parts.acts, parts.observatory, parts.vault, due=parts.upkeep_due)
    peaks = Peaks(parts.acts, parts.observatory)
    return [*map(asyncio.create_task, (parts.shell.run(), upkeep.run(), peaks.run())), *sweeps]


async def _stop(loops: "list[asyncio.Task[None]]", acts: "Acts") -> None:
    import asyncio

    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    await acts.close()


async def _release(parts: "Parts", rented: Rented) -> int:
    from dumont.control.ask import release_everything

    released = await release_everything(parts)
    if rented.local:
        await rented.local.dismantle()
    return released


async def _listen(home: "Home", hub: "Hub", rented: Rented, landing: "Landing") -> "list[asyncio.Server]":
    """The hub's door; and for machines that bring nothing along, the one where they fetch the agent."""
    from dumont.control.handout import hand_out
    from dumont.control.listen import listen
    from dumont.wire.identity import SERVER, ClientCertificate, server_context

    own = home.authority / "server"
    tls = server_context(own / f"{SERVER}.crt", own / f"{SERVER}.key", own / "ca.crt", ClientCertificate.OPTIONAL)
    doors = [await listen(hub, rented.hosts, landing.server_port, tls)]
    if rented.local is None:
        doors.append(await hand_out(_handout(), rented.hosts, landing.agent_port, tls))
    return doors


def _packed(home: "Home") -> str:
    """The digest of the agent's code; empty where machines have it already."""
    from dumont.client.clouds import read_clouds

    clouds = read_clouds(home.path)
    return _handout().sha256 if clouds.vast or clouds.gce else ""


def _limited(home: "Home", landing: "Landing") -> "Landing":
    """With the times after which rented machines end themselves; none on this machine, where they cost nothing."""
    from dumont.client.clouds import read_clouds

    server = read_clouds(home.path).server
    if server is None:
        return landing
    return replace(landing, join_within_s=server.join_within_min * 60, orphan_after_s=server.orphan_after_h * 3600)


def _history_term(home: "Home") -> "timedelta":
    from dumont.client.clouds import HistoryTerms, read_clouds
    from dumont.model.past import read_term

    return read_term(str((read_clouds(home.path).history or HistoryTerms()).keep_days))


@functools.cache
def _handout() -> "Handout":
    from dumont.agent.ready import PACKAGES
    from dumont.control.handout import Handout

    return Handout.pack(PACKAGES)


async def _answer(app: "FastAPI", home: "Home", ports: dict[str, int], ends: "list[asyncio.Event]") -> None:
    """Serve the API, and say where, until one of `ends` is set."""
    import asyncio
    import json

    import uvicorn

    from dumont import __version__
    from dumont.server import founding

    config = uvicorn.Config(
        app, LOOPBACK, ports["api"], lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=2
    )
    api = uvicorn.Server(config)
    serving = asyncio.create_task(api.serve())
    while not (api.started or serving.done()):
        await asyncio.sleep(0.005)
    told = {"pid": os.getpid(), "api_port": ports["api"], "hub_port": ports["hub"], "version": __version__}
    founding.write(home.server, json.dumps(told) + "\n")
    waits = [asyncio.create_task(end.wait()) for end in ends]
    await asyncio.wait([serving, *waits], return_when=asyncio.FIRST_COMPLETED)
    api.should_exit = True
    for wait in waits:
        wait.cancel()
    await serving


async def _examine(home: "Home") -> "list[Check]":
    """What the local provider finds of this machine. Only Python and room on the disk are needed by all means."""
    from dumont.client.results import Check
    from dumont.provider.capabilities import examine

    return [
        Check(name=one.name, ok=one.ok, detail=one.detail, fix=one.remedy, needed=one.name in ("python", "ssh", "disk"))
        for one in await examine(home.path)
    ]


def _log_to_stderr() -> None:
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _option(arguments: list[str], name: str) -> str:
    """The value of an option that stands before or after the verb; "" when it is missing."""
    for at, word in enumerate(arguments):
        if word == "--":
            break
        if word == name:
            return arguments[at + 1] if at + 1 < len(arguments) else ""
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


def _without(arguments: list[str], name: str) -> list[str]:
    """`arguments` without an option, and its value, that stand before the verb."""
    if arguments[:1] == [name]:
        return arguments[2:]
    return arguments[1:] if arguments and arguments[0].startswith(f"{name}=") else arguments


if __name__ == "__main__":
    main()
