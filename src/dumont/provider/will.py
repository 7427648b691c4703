"""A last will: the shell text by which a rented machine ends itself, when it has no server to do it (ADR 14)."""

import shlex

POWER_OFF = (
    """if [ "${DUMONT_POWEROFF:-}" ]; then eval "$DUMONT_POWEROFF"; elif [ -z "${DUMONT_RUN:-}" ]; then poweroff; fi"""
)
"""For a machine at Google, which has no rights in the project: its price ends, its disk's doesn't (contract §2).

`DUMONT_POWEROFF` is what stands for it where machines are processes. `DUMONT_RUN` is set on no real machine, and the
power of what such processes share is never turned off.
"""


def destroy(url: str) -> str:
    """For a container at Vast.ai, with the key that may destroy its own contract and nothing else (contract §7, §11).

    `url` is the service's. The request is sent by whichever of curl and Python there is.
    """
    key, kind = "Bearer $CONTAINER_API_KEY", "application/json"
    asked = f"u.Request('$u',b'{{}}',{{'Authorization':'{key}','Content-Type':'{kind}'}},method='DELETE')"
    return (
        f"u={shlex.quote(url)}/api/v0/instances/$CONTAINER_ID/\n"
        f'curl -fsm60 -XDELETE -H "Authorization: {key}" -H "Content-Type: {kind}" -d {{}} $u||'
        f'python3 -c "import urllib.request as u;u.urlopen({asked},None,60)"'
    )
