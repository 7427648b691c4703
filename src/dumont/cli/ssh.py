"""`dumont ssh`: OpenSSH's own client, with our key and the workspace's host key."""

import os
import shutil
import sys
from typing import Annotated

import typer

from dumont.cli.call import Name, call, fail
from dumont.cli.known import find_address, ssh_options
from dumont.client import find_home
from dumont.errors import NotPossibleHere
from dumont.i18n import _


def ssh(
    name: Name,
    command: Annotated[list[str] | None, typer.Argument(metavar="[-- CMD]", help=_("Command to run there."))] = None,
) -> None:
    """Becomes `ssh`, so that the exit status is that of the command."""
    address = call(lambda dumont: find_address(dumont, name), as_json=False)
    program = shutil.which("ssh")
    if program is None:
        error = NotPossibleHere(_("There is no OpenSSH client here."))
        error.add_note(_("Install it: `apt-get install openssh-client`."))
        fail(error, as_json=False)
    options = [f"-o{key}={value}" for key, value in ssh_options(find_home(), name, address).items()]
    words = command[1:] if command and command[0] == "--" else command or []
    target = f"{address.user}@{address.host}"
    sys.stdout.flush()
    os.execv(
        program,
        ["ssh", "-F", "none", "-p", str(address.ssh_port), *options, target, *(["--"] if words else []), *words],
    )
