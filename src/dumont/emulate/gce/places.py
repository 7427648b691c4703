"""The emulated API beside the machines: disks, addresses, machine types, images, regions, firewall rules, advice."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dumont.emulate.gce.advice import capacity, capacity_history
from dumont.emulate.gce.filter import page
from dumont.emulate.gce.order import NAME, checked_request_id
from dumont.emulate.gce.refusal import Refusal, invalid, not_found, taken
from dumont.emulate.gce.world import KINDS, Operation, World
from dumont.emulate.gce.zonal import envelope

IMAGE = "debian-12-bookworm-v20261103"


class Places:
    """The calls that are not about machines."""

    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> list[Route]:
        """Paths below a project."""
        region = "/regions/{region}"
        return [
            Route("/zones/{zone}/disks", self.disks, methods=["GET"]),
            Route("/zones/{zone}/disks/{name}", self.disk, methods=["GET"]),
            Route("/zones/{zone}/disks/{name}", self.delete_disk, methods=["DELETE"]),
            Route("/zones/{zone}/machineTypes", self.machine_types, methods=["GET"]),
            Route("/zones/{zone}/machineTypes/{name}", self.machine_type, methods=["GET"]),
            Route("/zones", self.zones, methods=["GET"]),
            Route("/zones/{zone}", self.zone, methods=["GET"]),
            Route(region, self.region, methods=["GET"]),
            Route(f"{region}/addresses", self.addresses, methods=["GET"]),
            Route(f"{region}/addresses/{{name}}", self.delete_address, methods=["DELETE"]),
            Route(f"{region}/advice/capacityHistory", self.history, methods=["POST"]),
            Route(f"{region}/advice/capacity", self.capacity, methods=["POST"]),
            Route("/global/firewalls", self.firewalls, methods=["GET"]),
            Route("/global/firewalls", self.insert_firewall, methods=["POST"]),
            Route("/global/firewalls/{name}", self.firewall, methods=["GET"]),
            Route("/global/operations/{name}", self.global_operation, methods=["GET"]),
            Route("/global/images/family/{name}", self.image, methods=["GET"]),
        ]

    # --- disks and addresses

    async def disks(self, request: Request) -> Response:
        zone = request.path_params["zone"]
        self.world.region_of(zone)
        found, token = page([d for (z, _), d in self.world.disks.items() if z == zone], request.query_params)
        return JSONResponse(envelope("diskList", f"zones/{zone}/disks", found, token, self.world))

    async def disk(self, request: Request) -> Response:
        return JSONResponse(self._disk(request))

    async def delete_disk(self, request: Request) -> Response:
        """Deletes what no machine uses."""
        world, disk = self.world, self._disk(request)
        zone, name = request.path_params["zone"], request.path_params["name"]
        request_id = checked_request_id(request.query_params.get("requestId", ""))
        if disk.get("users"):
            message = f"The disk resource '{name}' is already being used by '{disk['users'][0]}'"
            raise Refusal(400, "resourceInUseByAnotherResource", message)
        operation = world.begin_on("delete", f"zones/{zone}/disks/{name}", disk["id"], request_id)

        async def remove() -> None:
            world.disks.pop((zone, name), None)
            world.finish(operation)

        world.timeline.after(world.setting.quick_s, remove)
        return JSONResponse(operation.resource)

    def _disk(self, request: Request) -> dict[str, Any]:
        zone, name = request.path_params["zone"], request.path_params["name"]
        disk = self.world.disks.get((zone, name))
        if disk is None:
            raise not_found(f"{self.world.setting.project}/zones/{zone}/disks/{name}")
        return disk

    async def addresses(self, request: Request) -> Response:
        region = self._region(request)
        found, token = page([a for (r, _), a in self.world.addresses.items() if r == region], request.query_params)
        return JSONResponse(envelope("addressList", f"regions/{region}/addresses", found, token, self.world))

    async def delete_address(self, request: Request) -> Response:
        region, name = self._region(request), request.path_params["name"]
        address = self.world.addresses.pop((region, name), None)
        if address is None:
            raise not_found(f"{self.world.setting.project}/regions/{region}/addresses/{name}")
        operation = self.world.begin_on("delete", f"regions/{region}/addresses/{name}", address["id"])
        self.world.finish(operation)
        return JSONResponse(operation.resource)

    # --- what is for rent, and where

    async def machine_types(self, request: Request) -> Response:
        zone = request.path_params["zone"]
        self.world.region_of(zone)
        found, token = page([self._machine_type(zone, name) for name in KINDS], request.query_params)
        return JSONResponse(envelope("machineTypeList", f"zones/{zone}/machineTypes", found, token, self.world))

    async def machine_type(self, request: Request) -> Response:
        zone, name = request.path_params["zone"], request.path_params["name"]
        self.world.region_of(zone)
        if name not in KINDS:
            raise not_found(f"{self.world.setting.project}/zones/{zone}/machineTypes/{name}")
        return JSONResponse(self._machine_type(zone, name))

    def _machine_type(self, zone: str, name: str) -> dict[str, Any]:
        kind = KINDS[name]
        return {
            "kind": "compute#machineType",
            "id": str(1000 + sorted(KINDS).index(name)),
            "name": name,
            "guestCpus": kind.vcpus,
            "memoryMb": kind.memory_mib,
            "isSharedCpu": kind.shared,
            "architecture": "X86_64",
            "maximumPersistentDisks": 16,
            "maximumPersistentDisksSizeGb": "3072",
            "zone": zone,
            "selfLink": self.world.link(f"zones/{zone}/machineTypes/{name}"),
        }

    async def zones(self, request: Request) -> Response:
        found, token = page([self._zone(zone) for zone in self.world.zones], request.query_params)
        return JSONResponse(envelope("zoneList", "zones", found, token, self.world))

    async def zone(self, request: Request) -> Response:
        zone = request.path_params["zone"]
        self.world.region_of(zone)
        return JSONResponse(self._zone(zone))

    def _zone(self, zone: str) -> dict[str, Any]:
        return {
            "kind": "compute#zone",
            "id": str(2000 + self.world.zones.index(zone)),
            "name": zone,
            "status": "UP",
            "region": self.world.link(f"regions/{self.world.region_of(zone)}"),
            "selfLink": self.world.link(f"zones/{zone}"),
        }

    async def region(self, request: Request) -> Response:
        region = self._region(request)
        zones = self.world.setting.regions[region]
        return JSONResponse(
            {
                "kind": "compute#region",
                "id": str(3000 + sorted(self.world.setting.regions).index(region)),
                "name": region,
                "status": "UP",
                "quotas": self.world.quotas(region),
                "zones": [self.world.link(f"zones/{zone}") for zone in zones],
                "selfLink": self.world.link(f"regions/{region}"),
            }
        )

    def _region(self, request: Request) -> str:
        region = str(request.path_params["region"])
        if region not in self.world.setting.regions:
            raise not_found(f"{self.world.setting.project}/regions/{region}")
        return region

    async def image(self, request: Request) -> Response:
        if request.path_params["name"] != "debian-12":
            project, family = request.path_params["project"], request.path_params["name"]
            raise not_found(f"{project}/global/images/family/{family}")
        link = f"https://www.googleapis.com/compute/v1/projects/{request.path_params['project']}/global/images/{IMAGE}"
        return JSONResponse(
            {
                "kind": "compute#image",
                "id": "5001",
                "name": IMAGE,
                "family": "debian-12",
                "status": "READY",
                "diskSizeGb": "10",
                "archiveSizeBytes": "1234567890",
                "architecture": "X86_64",
                "selfLink": link,
            }
        )

    async def project(self, request: Request) -> Response:
        name = self.world.setting.project
        quotas = [{"metric": "CPUS_ALL_REGIONS", "limit": 96.0, "usage": 0.0}]
        answer = {"kind": "compute#project", "id": "1", "name": name, "quotas": quotas, "selfLink": self.world.link("")}
        return JSONResponse(answer)

    # --- firewall rules

    async def firewalls(self, request: Request) -> Response:
        found, token = page(list(self.world.firewalls.values()), request.query_params)
        return JSONResponse(envelope("firewallList", "global/firewalls", found, token, self.world))

    async def firewall(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.world.firewalls:
            raise not_found(f"{self.world.setting.project}/global/firewalls/{name}")
        return JSONResponse(self.world.firewalls[name])

    async def insert_firewall(self, request: Request) -> Response:
        body: dict[str, Any] = await request.json()
        request_id = checked_request_id(request.query_params.get("requestId", ""))
        if known := self.world.requests.get(request_id):
            return JSONResponse(known.resource)
        name = str(body.get("name", ""))
        if not NAME.fullmatch(name):
            raise invalid(f"Invalid value for field 'resource.name': '{name}'.")
        if name in self.world.firewalls:
            raise taken(f"{self.world.setting.project}/global/firewalls/{name}")
        rule = firewall(self.world, name, body)
        self.world.firewalls[name] = rule
        operation: Operation = self.world.begin_on("insert", f"global/firewalls/{name}", rule["id"], request_id)

        async def done() -> None:
            self.world.finish(operation)

        self.world.timeline.after(self.world.setting.quick_s, done)
        return JSONResponse(operation.resource)

    async def global_operation(self, request: Request) -> Response:
        name = request.path_params["name"]
        for operation in self.world.remembered():
            if not operation.zone and operation.resource["name"] == name:
                return JSONResponse(operation.resource)
        raise not_found(f"{self.world.setting.project}/global/operations/{name}")

    # --- advice

    async def history(self, request: Request) -> Response:
        self._allow_advice()
        return JSONResponse(capacity_history(self.world, self._region(request), await request.json()))

    async def capacity(self, request: Request) -> Response:
        self._allow_advice()
        return JSONResponse(capacity(self.world, self._region(request), await request.json()))

    def _allow_advice(self) -> None:
        if self.world.faults.advice_off:
            raise Refusal(403, "forbidden", "Required 'compute.advice.capacityHistory' permission")


def firewall(world: World, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """A rule as it reads back."""
    defaults = {"direction": "INGRESS", "priority": 1000, "sourceRanges": ["0.0.0.0/0"], "disabled": False}
    made = {"kind": "compute#firewall", "id": world.number(), "creationTimestamp": world.stamp()}
    network = str(body.get("network", "global/networks/default")).rpartition("/")[2]
    links = {"selfLink": world.link(f"global/firewalls/{name}"), "network": world.link(f"global/networks/{network}")}
    return {**defaults, **body, **made, **links}
