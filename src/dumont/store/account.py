"""The account behind a bucket: endpoint, region and keys, from the usual environment variables."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dumont.errors import BadInput
from dumont.store.address import Address, Scheme

_S3_WITHOUT_KEYS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


@dataclass(frozen=True)
class Account:
    """What a driver needs to reach `address`: `config` in obstore's words, whether plain HTTP is fine (on loopback it
    is), and `keys`, the names of the variables that hold the credentials, for messages."""

    address: Address
    config: dict[str, str] = field(repr=False)
    allow_http: bool
    keys: str


def read_account(address: Address, environment: Mapping[str, str]) -> Account:
    """The account for a bucket. Raises BadInput, which names the variable that is missing or makes no sense."""
    match address.scheme:
        case Scheme.S3:
            return _s3(address, environment)
        case Scheme.R2:
            return _r2(address, environment)
        case Scheme.B2:
            return _b2(address, environment)
        case Scheme.GS:
            return _gs(address, environment)
        case Scheme.AZ:
            return _az(address, environment)
        case Scheme.FILE:
            raise BadInput(f"{address} is a directory and needs no account")


def _s3(address: Address, environment: Mapping[str, str]) -> Account:
    endpoint = _first(environment, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    config = {"region": _first(environment, "AWS_REGION", "AWS_DEFAULT_REGION") or "us-east-1"}
    key, secret = environment.get("AWS_ACCESS_KEY_ID", ""), environment.get("AWS_SECRET_ACCESS_KEY", "")
    if bool(key) != bool(secret) or (endpoint and not key and not _first(environment, *_S3_WITHOUT_KEYS)):
        raise BadInput(f"{address} needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, both")
    if key:
        config |= {"access_key_id": key, "secret_access_key": secret}
        if token := _first(environment, "AWS_SESSION_TOKEN"):
            config["session_token"] = token
    return _with_endpoint(address, environment, config, endpoint)


def _r2(address: Address, environment: Mapping[str, str]) -> Account:
    account = _first(environment, "R2_ACCOUNT_ID", "CLOUDFLARE_ACCOUNT_ID")
    endpoint = _first(environment, "R2_ENDPOINT_URL") or (
        f"https://{account}.r2.cloudflarestorage.com" if account else _first(environment, "AWS_ENDPOINT_URL")
    )
    if not endpoint:
        raise BadInput(f"{address} needs R2_ACCOUNT_ID in the environment, or R2_ENDPOINT_URL")
    config = _keys(address, environment, ("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"))
    return _with_endpoint(address, environment, {**config, "region": "auto"}, endpoint)


def _b2(address: Address, environment: Mapping[str, str]) -> Account:
    region = _first(environment, "B2_REGION")
    endpoint = _first(environment, "B2_ENDPOINT_URL") or (
        f"https://s3.{region}.backblazeb2.com" if region else _first(environment, "AWS_ENDPOINT_URL")
    )
    if not endpoint:
        raise BadInput(f"{address} needs B2_REGION in the environment (like us-west-004), or B2_ENDPOINT_URL")
    host = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}").hostname or ""
    parts = host.split(".")  # s3.us-west-004.backblazeb2.com
    region = region or (parts[1] if len(parts) > 2 and parts[0] == "s3" else "us-west-001")
    config = _keys(address, environment, ("B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY"))
    return _with_endpoint(address, environment, {**config, "region": region}, endpoint)


def _gs(address: Address, environment: Mapping[str, str]) -> Account:
    name = "GOOGLE_APPLICATION_CREDENTIALS"
    file = environment.get(name, "")
    if file and not Path(file).is_file():
        raise BadInput(f"{name} names {file}, which is no file: give the path of the key file")
    config = {"application_credentials": file} if file else {}
    base = _first(environment, "GOOGLE_BASE_URL")
    if base:
        config["base_url"] = base
    return Account(
        address, config, _plain_http(base, environment), f"{name} (or `gcloud auth application-default login`)"
    )


def _az(address: Address, environment: Mapping[str, str]) -> Account:
    account = environment.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    if not account:
        raise BadInput(f"{address} needs AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY in the environment")
    config = {"account_name": account}
    if key := _first(environment, "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"):
        config["account_key"] = key
    endpoint = _first(environment, "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
    if endpoint:
        config["endpoint"] = endpoint
    return Account(address, config, _plain_http(endpoint, environment), "AZURE_STORAGE_ACCOUNT_KEY")


def _keys(address: Address, environment: Mapping[str, str], own: tuple[str, str]) -> dict[str, str]:
    """Key and secret under the service's own names, or both under Amazon's."""
    for names in (own, ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")):
        key, secret = (environment.get(name, "") for name in names)
        if key and secret:
            return {"access_key_id": key, "secret_access_key": secret}
    raise BadInput(f"{address} needs {own[0]} and {own[1]} in the environment, both")


def _with_endpoint(address: Address, environment: Mapping[str, str], config: dict[str, str], endpoint: str) -> Account:
    own = {
        Scheme.R2: "R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY",
        Scheme.B2: "B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY",
    }
    keys = own.get(address.scheme, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not endpoint:
        return Account(address, config | _signing("", environment), False, keys)
    endpoint = endpoint.rstrip("/") if "://" in endpoint else f"https://{endpoint}".rstrip("/")
    allow_http = _plain_http(endpoint, environment)
    # both, since obstore would prefer another service's endpoint that it finds in the environment by itself
    config |= {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
    return Account(address, config | _signing(endpoint, environment), allow_http, keys)


def _signing(endpoint: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Whether a signature covers a SHA-256 of the body too: it costs both ends as much as sealing does.

    Not where something else guards the bytes on their way, as TLS does, or where nobody stands between, as on loopback.
    What is stored is sealed in any case, so changed bytes never pass for true ones; but over plain HTTP only the
    signature tells at once that they were changed. AWS_UNSIGNED_PAYLOAD decides otherwise.
    """
    said = environment.get("AWS_UNSIGNED_PAYLOAD", "").strip().lower()
    if said:
        return {"unsigned_payload": "true" if said in ("1", "true", "t", "yes", "y", "on") else "false"}
    url = urlsplit(endpoint)
    guarded = url.scheme != "http" or _is_loopback(url.hostname or "")
    return {"unsigned_payload": "true" if guarded else "false"}


def _plain_http(endpoint: str, environment: Mapping[str, str]) -> bool:
    """Whether `endpoint` is plain HTTP and may be. Raises BadInput when it may not, or is no URL."""
    if not endpoint:
        return False
    try:
        url = urlsplit(endpoint)
        host = url.hostname or ""
    except ValueError as error:
        raise BadInput(f"{endpoint!r} is no endpoint of a store: {error}") from None
    if url.scheme not in ("http", "https") or not host:
        raise BadInput(f"{endpoint!r} is no endpoint of a store: write https://host or https://host:port")
    if url.scheme == "https":
        return False
    if not _is_loopback(host) and environment.get("AWS_ALLOW_HTTP", "").lower() not in ("1", "true"):
        raise BadInput(f"{endpoint} is not encrypted: use https://, or set AWS_ALLOW_HTTP=true on a network you trust")
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _first(environment: Mapping[str, str], *names: str) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")
