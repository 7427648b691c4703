"""Progress: how far a save or a restore has come, for whoever wants to show it."""

from dataclasses import dataclass


@dataclass
class Progress:
    """Counts that only grow. `total_bytes` and `total_files` are None until they are known.

    `moved_bytes` went to or came from the store. `working_set_s` is the time, counted from `started_s` of the same
    clock, after which the tree and all small files were in place; None until then.
    """

    started_s: float = 0.0
    total_bytes: int | None = None
    total_files: int | None = None
    done_bytes: int = 0
    done_files: int = 0
    moved_bytes: int = 0
    working_set_s: float | None = None
