"""A repository and a directory that is saved or restored must not lie in each other."""

import os
from pathlib import Path

from dumont.errors import BadInput
from dumont.i18n import _
from dumont.store.address import Address, Scheme


def keep_apart(directory: Path, repo: Address) -> None:
    """Raises BadInput when the repository's own directory is `directory`, or one lies in the other."""
    if repo.scheme is not Scheme.FILE:
        return
    store = Path(os.path.realpath(repo.path))
    if store == directory or directory in store.parents:
        raise BadInput(_("the repository {repo} lies in {path}: put it elsewhere").format(repo=store, path=directory))
    if store in directory.parents:
        raise BadInput(_("{path} lies in the repository {repo}: put that elsewhere").format(path=directory, repo=store))
