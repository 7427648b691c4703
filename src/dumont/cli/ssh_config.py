"""`dumont ssh-config`: what to put into ~/.ssh/config, so that ssh, scp, sftp and rsync know the workspaces."""

from typing import Annotated

import typer

from dumont.cli.call import Json, call
from dumont.cli.known import find_address, ssh_options
from dumont.cli.output import print_json
from dumont.client import Dumont, find_home
from dumont.client.results import Address
from dumont.i18n import _


def ssh_config(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help=_("One workspace; default: all."))] = "",
    as_json: Json = False,
) -> None:
    """Prints one Host block for each workspace."""
    found = call(lambda dumont: _find(dumont, name), as_json=as_json)
    blocks = {address.alias: _block(one, address) for one, address in found.items()}
    if as_json:
        print_json(blocks)
        return
    for alias, options in blocks.items():
        print(f"Host {alias}")
        for key, value in options.items():
            print(f"    {key} {value}")


async def _find(dumont: Dumont, name: str) -> dict[str, Address]:
    names = [name] if name else [shown.name for shown in await dumont.workspaces()]
    return {one: await find_address(dumont, one) for one in names}


def _block(name: str, address: Address) -> dict[str, str]:
    host = {"HostName": address.host, "Port": str(address.ssh_port), "User": address.user}
    return host | ssh_options(find_home(), name, address)
