"""The base tree: some thousand real files beside the workload, Python's own library."""

import sysconfig
from dataclasses import dataclass
from pathlib import Path

FAST_PACKAGES = ("asyncio", "email", "json")
FILES_ENOUGH = 1500
FILE_BYTES_MAX = 200_000


@dataclass(frozen=True)
class BaseTree:
    """A directory of this machine and rsync's filters that choose among its files."""

    source: Path
    filters: tuple[str, ...]


def base_tree(*, fast: bool) -> BaseTree:
    """Python's library as it is installed here, without what was added to it; `fast`: three packages of it.

    Where the library's own tests are missing (Debian packs them apart), compiled files make up the number.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    if fast:
        chosen = [f"--include=/{name}/***" for name in FAST_PACKAGES]
        return BaseTree(library, ("--exclude=__pycache__/", *chosen, "--exclude=*"))
    apart = ["--exclude=site-packages/", "--exclude=dist-packages/", "--exclude=*.a", f"--max-size={FILE_BYTES_MAX}"]
    if sum(1 for path in library.rglob("*.py") if "site-packages" not in path.parts) >= FILES_ENOUGH:
        apart.append("--exclude=__pycache__/")
    return BaseTree(library, tuple(apart))
