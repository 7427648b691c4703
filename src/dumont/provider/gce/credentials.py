"""Credentials for Google: a key file, nobody's for an emulator, or None for the application's default ones."""

from google.auth.credentials import AnonymousCredentials, Credentials
from google.oauth2 import service_account

from dumont.errors import BadInput

SCOPE = "https://www.googleapis.com/auth/compute"


def credentials_of(file: str, endpoint: str = "") -> Credentials | None:
    """Those of a service account's key file. Raises BadInput when it can't be read."""
    if not file:
        return AnonymousCredentials() if endpoint else None  # type: ignore[no-untyped-call]
    try:
        read = service_account.Credentials.from_service_account_file
        found: Credentials = read(file, scopes=[SCOPE])  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} is no service account's key file: {error}") from error
    return found
