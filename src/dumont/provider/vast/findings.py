"""What a Vast.ai account is found to allow, for `dumont provider check`: nothing is rented, nothing changed."""

import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from dumont.errors import ProviderError
from dumont.model.instance import Machine
from dumont.provider.base import Need
from dumont.provider.check import Finding
from dumont.provider.vast.client import Call, KeyRefused, Unanswered
from dumont.provider.vast.driver import Driver

CREDIT_MICROS_LOW = 1_000_000
KEYS_PAGE = "Vast.ai, Keys"


async def findings(provider: Driver) -> list[Finding]:
    """In the order in which one repairs them; the rest is unknown when the service or the key fails."""
    found = [await _reachable(provider)]
    if not found[0].ok:
        return [*found, *_unknown(["key", "search", "instances", "credit", "ssh key"], "the service does not answer")]
    found.append(await _key(provider))
    if found[-1].ok is False:
        return [
            *found,
            *_unknown(["search", "instances", "credit", "ssh key"], "the key is refused"),
            _address(provider),
        ]
    found.append(await _search(provider))
    found.append(await _instances(provider))
    found.append(
        Finding(
            name="renting",
            ok=None,
            detail="Whether this key may create and destroy instances (instance_write) shows only when it does.",
            remedy="`dumont provider probe` tries it for a few cents.",
        )
    )
    found += [await _credit(provider), await _ssh_key(provider), _address(provider)]
    return found


async def _reachable(provider: Driver) -> Finding:
    """GPU names are answered to everybody, so this says nothing of the key."""
    call = Call(endpoint="names", method="GET", path="/api/v0/gpu_names/unique/")
    try:
        answer = await provider.client.call(call)
    except Unanswered as error:
        return Finding(
            name="reachable",
            ok=False,
            detail=str(error),
            remedy=f"Check that this server can reach {provider.settings.url} (proxy, firewall, name service).",
        )
    except ProviderError as error:
        return Finding(name="reachable", ok=True, detail=f"{provider.settings.url} answers: {error}")
    names = answer.get("gpu_names")
    count = len(names) if isinstance(names, list) else 0
    return Finding(name="reachable", ok=True, detail=f"{provider.settings.url} answers and knows {count} GPU models.")


async def _key(provider: Driver) -> Finding:
    """A key without `user_read` is a good key all the same: another refusal than auth_error says so."""
    remedy = f"Make a new key at {KEYS_PAGE}, and give it to `dumont provider add vast`."
    try:
        await provider.credit_micros()
    except KeyRefused as error:
        if error.code == "auth_error":
            return Finding(name="key", ok=False, detail=str(error), remedy=remedy)
    except ProviderError as error:
        return Finding(name="key", ok=None, detail=str(error), remedy="Try again in a minute.")
    return Finding(name="key", ok=True, detail="The API key is known.")


async def _search(provider: Driver) -> Finding:
    async def search() -> str:
        offers = await provider.offers(Need(machine=Machine.GPU))
        return f"{len(offers)} offers of one GPU that fit the driver's own checks."

    return await _scope(search, "search", "misc")


async def _instances(provider: Driver) -> Finding:
    async def read() -> str:
        return f"{len(await provider.machines())} machines of this installation."

    return await _scope(read, "instances", "instance_read")


async def _credit(provider: Driver) -> Finding:
    try:
        micros = await provider.credit_micros()
    except ProviderError as error:
        return Finding(
            name="credit", ok=None, detail=str(error), remedy=f"Give the key the permission user_read at {KEYS_PAGE}."
        )
    detail = f"${micros / 1_000_000:.2f} left to spend."
    if micros <= 0:
        remedy = "Add credit at Vast.ai, Billing: without it every machine is stopped, and none can be rented."
        return Finding(name="credit", ok=False, detail=detail, remedy=remedy)
    low = micros < CREDIT_MICROS_LOW
    remedy = "Less than a dollar: add some at Vast.ai, Billing, or machines may be stopped." if low else ""
    return Finding(name="credit", ok=True, detail=detail, remedy=remedy)


async def _ssh_key(provider: Driver) -> Finding:
    """Dumont needs none: it is for a person who wants to look at a machine himself."""
    try:
        keys = await provider.keys.all()
    except ProviderError as error:
        return Finding(name="ssh key", ok=None, detail=str(error), remedy="Needed only to log in by hand.")
    if not keys:
        return Finding(
            name="ssh key",
            ok=None,
            detail="The account has no SSH key. Dumont needs none; you need one to log in by hand.",
            remedy="Add your public key at Vast.ai, Keys, before the machine is rented.",
        )
    return Finding(name="ssh key", ok=True, detail=f"{len(keys)} SSH keys.")


def _address(provider: Driver) -> Finding:
    """Machines are strangers' and far away: an address of this house's network leads them nowhere."""
    host, name = provider.server_host, "server address"
    local = _is_private(urlsplit(provider.settings.url).hostname or "")  # an emulator, whose machines are here too
    if _is_private(host) and not local:
        return Finding(
            name=name,
            ok=False,
            detail=f"Machines at Vast.ai would look for this server at {host}, which is not on the internet.",
            remedy="Give the server a public address or name, and set it as the provider's server host.",
        )
    detail = f"Machines look for this server at {host}."
    return Finding(name=name, ok=True if local else None, detail=detail, remedy="" if local else "A probe confirms it.")


def _is_private(host: str) -> bool:
    """Whether nobody out there finds that host."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".local", ".internal", ".lan"))


async def _scope(try_it: Callable[[], Awaitable[str]], name: str, permission: str) -> Finding:
    try:
        return Finding(name=name, ok=True, detail=await try_it())
    except KeyRefused as error:
        remedy = f"Give the key the permission {permission} at {KEYS_PAGE}."
        return Finding(name=name, ok=False, detail=str(error), remedy=remedy)
    except ProviderError as error:
        return Finding(name=name, ok=None, detail=str(error), remedy="Try again in a minute.")


def _unknown(names: list[str], why: str) -> list[Finding]:
    return [Finding(name=name, ok=None, detail=f"Not looked at: {why}.") for name in names]
