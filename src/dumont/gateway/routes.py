"""The route table: where each workspace's address leads, fenced by epoch, and kept in a file over restarts."""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from dumont.errors import BadInput, Fenced
from dumont.wire.route import Route, Routes

PORT_MAX = 65535


class Table:
    """The routes that the gateway holds, by workspace."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self.held: dict[str, Route] = {route.workspace: route for route in routes}

    def take(self, offered: Routes) -> list[str]:
        """Hold what was offered, except routes that must not be followed. Answers why not, in words, one line each.

        A workspace that is left out is removed.
        """
        complaints: list[str] = []
        taken: dict[str, Route] = {}
        for route in offered.routes:
            held = self.held.get(route.workspace)
            try:
                taken[route.workspace] = follow(held, route)
            except (BadInput, Fenced) as error:
                complaints.append(str(error))
                if held is not None:
                    taken.setdefault(route.workspace, held)
        self.held = taken
        return complaints

    def whole(self) -> Routes:
        """All held routes as one message."""
        return Routes(tuple(self.held.values()))


def follow(held: Route | None, offered: Route) -> Route:
    """The route to hold once `offered` came in over `held`.

    Raises Fenced when the offered one is of a past epoch, or names a second primary in the present one: a server
    process that was frozen may still believe in it. Raises BadInput when it makes no sense. An address that leaves
    its ports is another workspace under an old name, whose epochs begin anew.
    """
    _check(offered)
    if held is None or (held.ssh_port, held.http_port) != (offered.ssh_port, offered.http_port):
        return offered
    if offered.epoch < held.epoch:
        raise Fenced(f"{held.workspace}: a route of epoch {offered.epoch} came after one of {held.epoch}; ignored")
    if (offered.epoch, offered.instance_id) == (held.epoch, held.instance_id) and offered.endpoints is None:
        return held  # a server that just started can't say yet; whoever was reached is reached still
    if offered.epoch > held.epoch or offered.instance_id == held.instance_id or not held.instance_id:
        return offered
    if not offered.instance_id and offered.endpoints is None:
        return msgspec.structs.replace(held, endpoints=None)  # the name stays, to fence others off in this epoch
    raise Fenced(
        f"{held.workspace}: epoch {held.epoch} belongs to {held.instance_id}; "
        f"a route to {offered.instance_id or 'somebody nameless'} in the same epoch is ignored"
    )


def load(path: Path) -> Table:
    """The table that `save` wrote, an empty one if there is no file. Raises BadInput when it can't be read."""
    try:
        written = path.read_bytes()
    except FileNotFoundError:
        return Table()
    except OSError as error:
        raise BadInput(f"the routes in {path} can't be read: {error}") from error
    try:
        routes = msgspec.json.decode(written, type=Routes).routes
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"the routes in {path} are damaged: {error}. The server sends new ones at connect") from error
    for route in routes:
        _check(route)
    return Table(routes)


def save(path: Path, routes: Routes) -> None:
    """Replace the file, whole or not at all, and durably. Raises OSError."""
    unfinished = path.with_name(path.name + ".new")
    with unfinished.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(routes)))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _check(route: Route) -> None:
    ports = [route.ssh_port, route.http_port]
    if route.endpoints is not None:
        ports += [route.endpoints.ssh_port, route.endpoints.http_port]
        if "\0" in route.endpoints.host or not 0 < len(route.endpoints.host) <= 253:
            raise BadInput(f"{route.workspace}: {route.endpoints.host[:300]!r} is no host")
    for port in ports:
        if not 0 <= port <= PORT_MAX:
            raise BadInput(f"{route.workspace}: {port} is no TCP port")
