"""Regions: whether an offer lies in a country or in a provider's region that somebody named. Pure."""

from collections.abc import Set

from dumont.model.offer import Offer

COUNTRIES = {
    "africa-south1": "ZA", "af-south-1": "ZA", "asia-east1": "TW", "asia-east2": "HK", "ap-east-1": "HK",
    "asia-northeast1": "JP", "asia-northeast2": "JP", "ap-northeast-1": "JP", "ap-northeast-3": "JP",
    "asia-northeast3": "KR", "ap-northeast-2": "KR", "asia-south1": "IN", "asia-south2": "IN", "ap-south-1": "IN",
    "ap-south-2": "IN", "asia-southeast1": "SG", "ap-southeast-1": "SG", "asia-southeast2": "ID",
    "ap-southeast-3": "ID", "australia-southeast1": "AU", "australia-southeast2": "AU", "ap-southeast-2": "AU",
    "europe-central2": "PL", "europe-north1": "FI", "europe-north2": "SE", "eu-north-1": "SE",
    "europe-southwest1": "ES", "eu-south-2": "ES", "europe-west1": "BE", "europe-west2": "GB", "eu-west-2": "GB",
    "eu-west-1": "IE", "europe-west3": "DE", "europe-west10": "DE", "eu-central-1": "DE", "europe-west4": "NL",
    "europe-west6": "CH", "eu-central-2": "CH", "europe-west8": "IT", "europe-west12": "IT", "eu-south-1": "IT",
    "europe-west9": "FR", "eu-west-3": "FR", "me-central1": "QA", "me-central2": "SA", "me-west1": "IL",
    "il-central-1": "IL", "me-south-1": "BH", "northamerica-northeast1": "CA", "northamerica-northeast2": "CA",
    "ca-central-1": "CA", "ca-west-1": "CA", "northamerica-south1": "MX", "mx-central-1": "MX",
    "southamerica-east1": "BR", "sa-east-1": "BR", "southamerica-west1": "CL",
}  # fmt: skip
"""Country codes (ISO 3166-1 alpha-2) of the regions of Google and AWS; those that begin with `us-` lie in the US."""


def country(region: str) -> str:
    """The country of a provider's region or of a country code itself; "" if unknown."""
    known = region.strip().lower()
    if len(known) == 2:
        return known.upper()
    return "US" if known.startswith("us-") else COUNTRIES.get(known, "")


def lies_in(offer: Offer, wanted: Set[str]) -> bool:
    """Whether one of `wanted` (country codes, regions, zones; in any case) names where this offer is."""
    here = {offer.region.lower(), offer.zone.lower(), country(offer.region).lower()} - {""}
    return any(name.lower() in here for name in wanted)
