"""Whether this Python has all that the agent needs: exit code 0, or 1 with the name of what is missing.

    python -m dumont.agent.ready

Standard library only; the bootstrap asks it before it installs anything.
"""

import importlib.util
import sys
from collections.abc import Iterable

PACKAGES = {
    "asyncssh": "asyncssh",
    "blake3": "blake3",
    "blosc2": "blosc2",
    "cryptography": "cryptography",
    "lz4": "lz4",
    "msgspec": "msgspec",
    "nvidia-ml-py": "pynvml",
    "psutil": "psutil",
    "zstandard": "zstandard",
}
"""Names of distributions, and the module that each brings."""


def missing(modules: Iterable[str]) -> list[str]:
    """Those of `modules` that can't be imported here."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


def main() -> int:
    lacking = missing(PACKAGES.values())
    if lacking:
        print("missing: " + ", ".join(lacking), file=sys.stderr)  # noqa: T201  # into the bootstrap's log
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
