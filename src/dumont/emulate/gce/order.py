"""An order: the body of an insert, checked as Google checks it, and the resources that it makes."""

import copy
import re
import uuid
from typing import Any

from dumont.emulate.gce.refusal import invalid, not_found
from dumont.emulate.gce.vm import Status, Vm, fingerprint
from dumont.emulate.gce.world import KINDS, World

NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_KEY = re.compile(r"[a-z][-_a-z0-9]{0,62}")
LABEL_VALUE = re.compile(r"[-_a-z0-9]{0,63}")
METADATA_KEY = re.compile(r"[a-zA-Z0-9_-]{1,128}")
LABELS_MAX = 64
METADATA_VALUE_BYTES_MAX = 256 * 2**10
METADATA_BYTES_MAX = 512 * 10**3
IMAGE_GB = 10
RUN_SECONDS = (30, 120 * 86400)
DISK_TYPES = ("pd-balanced", "pd-standard", "pd-ssd")
IMAGE_FAMILY = re.compile(r"projects/debian-cloud/global/images/(family/debian-1[23]|debian-1[23]-.*)$")


def checked_request_id(text: str) -> str:
    """A requestId: "" or a UUID that is not zero. Raises Refusal."""
    if not text:
        return ""
    try:
        number = uuid.UUID(text)
    except ValueError as error:
        raise invalid(f"Invalid value for field 'requestId': '{text}'. It must be a UUID.") from error
    if number.int == 0:
        raise invalid("Invalid value for field 'requestId': the zero UUID is not supported.")
    return text


def check_labels(labels: Any) -> dict[str, str]:
    """Labels as they must be. Raises Refusal."""
    labels = labels or {}
    if len(labels) > LABELS_MAX:
        raise invalid("Invalid value for field 'resource.labels': at most 64 labels.")
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            raise invalid(f"Invalid value for field 'resource.labels': '{key}': '{value}'.")
    return dict(labels)


def check_metadata(metadata: Any) -> dict[str, Any]:
    """Metadata within its bounds. Raises Refusal."""
    items = (metadata or {}).get("items", [])
    total = 0
    for item in items:
        key, value = item.get("key", ""), item.get("value", "")
        size = len(value.encode())
        total += size + len(key)
        if not METADATA_KEY.fullmatch(key):
            raise invalid(f"Invalid value for field 'resource.metadata': key '{key}'.")
        if size > METADATA_VALUE_BYTES_MAX or total > METADATA_BYTES_MAX:
            raise invalid("Invalid value for field 'resource.metadata': too large.")
    if len({item["key"] for item in items}) != len(items):
        raise invalid("Invalid value for field 'resource.metadata': a key occurs twice.")
    return {"kind": "compute#metadata", "fingerprint": fingerprint(items), "items": items}


def check_scheduling(scheduling: dict[str, Any]) -> dict[str, Any]:
    """The scheduling as it reads back: a spot machine says `preemptible`. Raises Refusal."""
    read = dict(scheduling)
    spot = read.setdefault("provisioningModel", "STANDARD") == "SPOT"
    limited = "maxRunDuration" in read or "terminationTime" in read
    if spot and (read.get("automaticRestart") or read.get("onHostMaintenance", "TERMINATE") != "TERMINATE"):
        raise invalid("Invalid value for field 'resource.scheduling': spot machines neither restart nor migrate.")
    if "instanceTerminationAction" in read and not (spot or limited):
        raise invalid("Invalid value for field 'resource.scheduling.instanceTerminationAction'.")
    if "preemptionNoticeDuration" in read and not spot:
        raise invalid("Invalid value for field 'resource.scheduling.preemptionNoticeDuration'.")
    if "maxRunDuration" in read:
        seconds = int(read["maxRunDuration"].get("seconds", 0))
        if not RUN_SECONDS[0] <= seconds <= RUN_SECONDS[1]:
            raise invalid(f"Invalid value for field 'resource.scheduling.maxRunDuration': '{seconds}'.")
    if spot or limited:
        read.setdefault("instanceTerminationAction", "STOP")
    read["preemptible"] = spot
    read.setdefault("automaticRestart", not spot)
    read.setdefault("onHostMaintenance", "TERMINATE" if spot else "MIGRATE")
    return read


def make(world: World, zone: str, body: dict[str, Any]) -> Vm:
    """The machine and its disk that `body` orders, not yet known to the world. Raises Refusal."""
    body = copy.deepcopy(body)
    name = body.get("name", "")
    if not NAME.fullmatch(name):
        raise invalid(f"Invalid value for field 'resource.name': '{name}'. Must be a match of regex '{NAME.pattern}'")
    kind = str(body.get("machineType", "")).rpartition("/")[2]
    if kind not in KINDS:
        raise not_found(f"{world.setting.project}/zones/{zone}/machineTypes/{kind}")
    labels = check_labels(body.get("labels"))
    path = f"zones/{zone}/instances/{name}"
    resource = {
        "kind": "compute#instance",
        "id": world.number(),
        "name": name,
        "status": Status.PROVISIONING.value,
        "creationTimestamp": world.stamp(),
        "machineType": world.link(f"zones/{zone}/machineTypes/{kind}"),
        "zone": world.link(f"zones/{zone}"),
        "selfLink": world.link(path),
        "labels": labels,
        "labelFingerprint": fingerprint(labels),
        "fingerprint": fingerprint(world.number()),
        "metadata": check_metadata(body.get("metadata")),
        "tags": {"items": body.get("tags", {}).get("items", []), "fingerprint": fingerprint(body.get("tags"))},
        "scheduling": check_scheduling(body.get("scheduling", {})),
        "serviceAccounts": body.get("serviceAccounts", []),
        "disks": [_disk(world, zone, body)],
        "networkInterfaces": [_interface(world, body)],
        "startRestricted": False,
        "deletionProtection": bool(body.get("deletionProtection", False)),
        "cpuPlatform": "Unknown CPU Platform",
    }
    return Vm(zone, name, resource, world.timeline.now)


def disk_of(world: World, vm: Vm, order: dict[str, Any]) -> dict[str, Any]:
    """The boot disk's own resource. `order` is the insert's `initializeParams`."""
    disk_type = str(order.get("diskType", "pd-standard")).rpartition("/")[2]
    return {
        "kind": "compute#disk",
        "id": world.number(),
        "name": vm.name,
        "status": "READY",
        "sizeGb": vm.resource["disks"][0]["diskSizeGb"],
        "type": world.link(f"zones/{vm.zone}/diskTypes/{disk_type}"),
        "zone": world.link(f"zones/{vm.zone}"),
        "selfLink": world.link(f"zones/{vm.zone}/disks/{vm.name}"),
        "creationTimestamp": world.stamp(),
        "labels": check_labels(order.get("labels")),
        "users": [vm.resource["selfLink"]],
    }


def _disk(world: World, zone: str, body: dict[str, Any]) -> dict[str, Any]:
    disks = body.get("disks") or [{}]
    disk, order = disks[0], disks[0].get("initializeParams", {})
    image, size_gb = str(order.get("sourceImage", "")), int(order.get("diskSizeGb", IMAGE_GB))
    if not disk.get("boot") or not image:
        raise invalid("Invalid value for field 'resource.disks': a boot disk with a source image is needed.")
    if not IMAGE_FAMILY.search(image):
        raise not_found(image.partition("projects/")[2])
    if size_gb < IMAGE_GB:
        raise invalid(f"Invalid value for field 'resource.disks[0]': {size_gb} GB is smaller than the image.")
    if str(order.get("diskType", "pd-standard")).rpartition("/")[2] not in DISK_TYPES:
        raise invalid("Invalid value for field 'resource.disks[0].initializeParams.diskType'.")
    return {
        "kind": "compute#attachedDisk",
        "type": "PERSISTENT",
        "mode": "READ_WRITE",
        "source": world.link(f"zones/{zone}/disks/{body['name']}"),
        "deviceName": "persistent-disk-0",
        "index": 0,
        "boot": True,
        "autoDelete": bool(disk.get("autoDelete", False)),
        "diskSizeGb": str(size_gb),
    }


def _interface(world: World, body: dict[str, Any]) -> dict[str, Any]:
    asked = (body.get("networkInterfaces") or [{}])[0]
    network = str(asked.get("network", "global/networks/default")).rpartition("/")[2]
    interface: dict[str, Any] = {
        "kind": "compute#networkInterface",
        "name": "nic0",
        "network": world.link(f"global/networks/{network}"),
        "networkIP": f"10.128.{world.rng.randrange(256)}.{world.rng.randrange(2, 254)}",
    }
    if asked.get("accessConfigs"):
        access = asked["accessConfigs"][0]
        name, kind = access.get("name", "External NAT"), access.get("type", "ONE_TO_ONE_NAT")
        interface["accessConfigs"] = [{"kind": "compute#accessConfig", "name": name, "type": kind}]
    return interface
