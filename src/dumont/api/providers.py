"""Providers: who machines are rented from, whether their accounts are in order, and a trial that costs a few cents."""

from fastapi import APIRouter

from dumont.api.site import Here, Site
from dumont.client.results import Checked, ProviderShown, Tried
from dumont.errors import BadInput, NotPossibleHere
from dumont.provider.base import Provider
from dumont.provider.check import Checkable, Triable

router = APIRouter()


@router.get("/providers")
async def list_providers(site: Here) -> list[ProviderShown]:
    """Those of this installation, with what they have for rent now and what is rented there."""
    rented = await site.parts.database.instances()
    listing = site.parts.acts.listing
    return [
        ProviderShown(
            name=name,
            server_host=provider.server_host,
            offers=len(listing.offers.get(name, ())),
            instances=sum(1 for instance in rented if instance.provider == name),
            spend_micros_per_hour=sum(row.price_micros_per_hour for row in rented if row.provider == name),
        )
        for name, provider in site.parts.acts.providers.items()
    ]


@router.post("/providers/{name}/check")
async def check(site: Here, name: str) -> list[Checked]:
    """Rents nothing."""
    provider = _provider(site, name)
    if not isinstance(provider, Checkable):
        raise NotPossibleHere(f"{name} has no account to check; `dumont doctor` looks at this machine")
    return [
        Checked(name=found.name, ok=found.ok, detail=found.detail, remedy=found.remedy)
        for found in await provider.check()
    ]


@router.post("/providers/{name}/probe")
async def probe(site: Here, name: str) -> list[Tried]:
    """Rents the cheapest machine for a short time and ends it, whatever happens on the way."""
    provider = _provider(site, name)
    if not isinstance(provider, Triable):
        raise NotPossibleHere(f"{name} makes no assumptions that a trial could confirm")
    return [
        Tried(name=step.name, assumption=step.assumption, outcome=step.outcome.value, detail=step.detail)
        for step in await provider.probe()
    ]


def _provider(site: Site, name: str) -> Provider:
    found = site.parts.acts.providers.get(name)
    if found is None:
        known = ", ".join(sorted(site.parts.acts.providers))
        raise BadInput(f"there is no provider {name!r} here, only {known}; `dumont provider add` adds one")
    return found
