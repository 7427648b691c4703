"""What the server tells the gateway, and what the gateway saw: routes and probes."""

import msgspec

from dumont.wire.control import Endpoints


class Route(msgspec.Struct, frozen=True):
    """Where a workspace's one address leads. `ssh_port` and `http_port` are the gateway's own, fixed for life.

    `endpoints` is None while nobody is known to serve: new connections wait. If `instance_id` is given all the same,
    the server can't say yet (it may just have started): a gateway that holds endpoints of that very instance at that
    epoch keeps them.
    """

    workspace: str
    epoch: int
    ssh_port: int
    http_port: int
    instance_id: str = ""
    endpoints: Endpoints | None = None


class Routes(msgspec.Struct, frozen=True, tag="routes"):
    """All routes; replaces what the gateway had. A workspace left out is removed."""

    routes: tuple[Route, ...]


class Probe(msgspec.Struct, frozen=True, tag="probe"):
    """What the gateway's probe of a primary shows. `up` False: its socket closed or was refused."""

    workspace: str
    instance_id: str
    up: bool
    silent_ms: int
    clients: int = 0


class GatewayHello(msgspec.Struct, frozen=True, tag="gateway_hello"):
    """First message of a gateway."""

    version: int


FromGateway = GatewayHello | Probe
ToGateway = Routes
