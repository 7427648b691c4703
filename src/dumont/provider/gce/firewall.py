"""The firewall rules of a network, as far as machines of ours need them: may anybody reach these ports? Mostly pure."""

from collections.abc import Iterable

from google.cloud import compute_v1

from dumont.provider.gce.account import PORTS, TAG, Account

RULE = "dumont"
ANYWHERE = "0.0.0.0/0"


def closed_ports(rules: Iterable[compute_v1.Firewall], network: str) -> list[int]:
    """Which of our ports nobody outside reaches. What no rule names is closed, as Google's implied rule has it."""
    here = [rule for rule in rules if _concerns_us(rule, network)]
    return [port for port in PORTS if not _is_open(here, port)]


def _is_open(rules: list[compute_v1.Firewall], port: int) -> bool:
    """The rule of the lowest priority number decides; among equals one that denies wins (documented)."""
    verdicts = [(rule.priority, allows) for rule in rules if (allows := _says(rule, port)) is not None]
    return min(verdicts, default=(0, False))[1]


def _concerns_us(rule: compute_v1.Firewall, network: str) -> bool:
    name = network.rpartition("/")[2]
    tagged = not rule.target_tags or TAG in rule.target_tags
    return (
        rule.direction != "EGRESS"
        and not rule.disabled
        and rule.network.rpartition("/")[2] == name
        and tagged
        and not rule.target_service_accounts
    )


def _says(rule: compute_v1.Firewall, port: int) -> bool | None:
    """Whether it allows or denies this port to anybody; None when it says nothing about it."""
    if any(_covers(each.I_p_protocol, each.ports, port) for each in rule.denied):
        return False
    from_anywhere = ANYWHERE in rule.source_ranges or not (rule.source_ranges or rule.source_tags)
    if from_anywhere and any(_covers(each.I_p_protocol, each.ports, port) for each in rule.allowed):
        return True
    return None


def _covers(protocol: str, ports: Iterable[str], port: int) -> bool:
    if protocol not in ("tcp", "all", "6"):
        return False
    listed = list(ports)
    if not listed:
        return True
    for span in listed:
        low, _, high = span.partition("-")
        if int(low) <= port <= int(high or low):
            return True
    return False


def command(account: Account) -> str:
    """What a person types to open our ports to machines with our tag."""
    allow = ",".join(f"tcp:{port}" for port in PORTS)
    return (
        f"gcloud compute firewall-rules create {RULE} --project={account.project} "
        f"--network={account.network.rpartition('/')[2]} --direction=INGRESS --allow={allow} "
        f"--target-tags={TAG} --source-ranges={ANYWHERE}"
    )


def rule(account: Account) -> compute_v1.Firewall:
    """The same as a request."""
    return compute_v1.Firewall(
        name=RULE,
        network=account.network,
        direction="INGRESS",
        allowed=[compute_v1.Allowed(I_p_protocol="tcp", ports=[str(port) for port in PORTS])],
        source_ranges=[ANYWHERE],
        target_tags=[TAG],
        description="Dumont: machines with this tag are reached by SSH, HTTP and the replication stream",
    )
