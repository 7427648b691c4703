"""A branch: the divergent files of a fenced primary, kept under a name to browse and copy from."""

from dataclasses import dataclass
from datetime import datetime

from dumont.model.commit import CommitId


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Never merged over the workspace. `forked_from` is the last commit that both sides share."""

    workspace: str
    name: str
    commit: CommitId
    root: str
    created_at: datetime
    forked_from: CommitId | None = None
    paths: tuple[str, ...] = ()
