"""An order: the machine that is asked of Google for an offer, with our marks on it and on its disk."""

from dataclasses import dataclass

from google.cloud import compute_v1

from dumont.errors import ProviderError
from dumont.model.offer import Offer
from dumont.provider.bootstrap import SHUTDOWN
from dumont.provider.gce.account import INSTALLATION_KEY, LABEL_KEY, TAG, Account, safe_value
from dumont.provider.gce.prices import disk_gib

SCRIPT_BYTES_MAX = 256 * 2**10
"""What one value of the metadata may hold (documented)."""


@dataclass(frozen=True)
class Order:
    """What is asked for, in any zone of the offer's region. `type` is the machine type, `disk_gib` its disk."""

    name: str
    label: str
    type: str
    spot: bool
    disk_gib: int
    script: str


def order(account: Account, offer: Offer, label: str, script: str) -> Order:
    """The order for an offer of ours. Raises ProviderError when the script is too large for the metadata."""
    if len(script.encode()) > SCRIPT_BYTES_MAX:
        raise ProviderError(f"The startup script of {label} has more than {SCRIPT_BYTES_MAX} bytes. Shorten it.")
    return Order(account.name(label), label, offer.name, offer.spot, disk_gib(offer), script)


def resource(account: Account, zone: str, what: Order) -> compute_v1.Instance:
    """The body of the insert. No service account goes along: a host gets no right to the project (I7)."""
    marks = {INSTALLATION_KEY: safe_value(account.installation), LABEL_KEY: safe_value(what.label)}
    items = {
        INSTALLATION_KEY: account.installation,
        LABEL_KEY: what.label,
        "startup-script": what.script,
        "shutdown-script": SHUTDOWN,
        "block-project-ssh-keys": "TRUE",
    }
    return compute_v1.Instance(
        name=what.name,
        machine_type=f"zones/{zone}/machineTypes/{what.type}",
        labels=marks,
        tags=compute_v1.Tags(items=[TAG]),
        scheduling=_scheduling(account, what.spot),
        disks=[
            compute_v1.AttachedDisk(
                boot=True,
                auto_delete=True,
                initialize_params=compute_v1.AttachedDiskInitializeParams(
                    source_image=account.image,
                    disk_size_gb=what.disk_gib,
                    disk_type=f"zones/{zone}/diskTypes/{account.disk_type}",
                    labels=marks,
                ),
            )
        ],
        network_interfaces=[
            compute_v1.NetworkInterface(
                network=account.network,
                access_configs=[compute_v1.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")],
            )
        ],
        metadata=compute_v1.Metadata(items=[compute_v1.Items(key=key, value=value) for key, value in items.items()]),
        service_accounts=[],
    )


def _scheduling(account: Account, spot: bool) -> compute_v1.Scheduling:
    """A machine that ends stays, stopped, until it is released: a label means one machine, dead or alive."""
    scheduling = compute_v1.Scheduling(
        provisioning_model="SPOT" if spot else "STANDARD",
        on_host_maintenance="TERMINATE" if spot else "MIGRATE",
        automatic_restart=False,
    )
    if spot or account.run_s_max:
        scheduling.instance_termination_action = "STOP"
    if account.run_s_max:
        scheduling.max_run_duration = compute_v1.Duration(seconds=account.run_s_max)
    return scheduling
