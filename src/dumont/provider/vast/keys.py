"""SSH keys of the account and of single machines: for a person who wants to look at one himself."""

import json

from dumont.errors import ProviderError
from dumont.provider.vast.client import Call, Client, Content, KeyRefused, Refusal


class Keys:
    """The account's SSH keys. They are installed in machines that are created afterwards."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def all(self) -> list[str]:
        """The public keys of the account. Raises ProviderError."""
        try:
            answer = await self._client.call(Call(endpoint="keys", method="GET", path="/api/v0/ssh/"))
        except KeyRefused:
            raise
        except Refusal as refusal:
            if refusal.status == 404:  # so it says "none"
                return []
            raise
        entries = answer.get("list", answer.get("ssh_keys"))
        if not isinstance(entries, list):
            raise ProviderError("Vast.ai answered without a list of SSH keys. Try again.")
        return _texts(entries)

    async def add(self, public_key: str) -> None:
        """Have the account know this key; harmless when it does."""
        if _material(public_key) not in map(_material, await self.all()):
            body: Content = {"ssh_key": public_key.strip()}
            await self._client.call(Call(endpoint="keys", method="POST", path="/api/v0/ssh/", body=body, repeats=False))

    async def attach(self, ref: str, public_key: str) -> None:
        """Let this key into a machine that exists already; harmless when it is. Raises ProviderError."""
        path = f"/api/v0/instances/{int(ref)}/ssh/"
        answer = await self._client.call(Call(endpoint="keys", method="GET", path=path))
        try:
            entries = json.loads(str(answer.get("ssh_keys") or "[]"))  # JSON within JSON
        except ValueError as error:
            raise ProviderError(f"Vast.ai's list of the SSH keys of instance {ref} can't be read.") from error
        if _material(public_key) in map(_material, _texts(entries if isinstance(entries, list) else [])):
            return
        body: Content = {"ssh_key": public_key.strip()}
        await self._client.call(Call(endpoint="keys", method="POST", path=path, body=body, repeats=False))


def _texts(entries: list[object]) -> list[str]:
    found = []
    for entry in entries:
        if isinstance(entry, dict):
            text = entry.get("public_key") or entry.get("key")
            if isinstance(text, str):
                found.append(text)
    return found


def _material(public_key: str) -> list[str]:
    """A key without its comment."""
    return public_key.split()[:2]
