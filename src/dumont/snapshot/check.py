"""Checks on what another machine says: whether a commit message makes a tree that a disk can hold, and which one."""

from collections.abc import Callable
from itertools import pairwise

from dumont.errors import BadInput, Corrupt
from dumont.model.commit import HOLE, Change, Entry, Kind, block_count
from dumont.snapshot.chunk import ID_BYTES
from dumont.snapshot.tree import TOP, Tree, checked, parent_of
from dumont.wire.stream import CommitMessage

_MODE_MAX = 0o7777
_OWNER_MAX = 2**32 - 2
_SIZE_MAX = 2**63 - 1
_PLAIN_BYTES_MAX = 64 * 2**10
_TARGET_BYTES_MAX = 4095
NAME_BYTES_MAX = 255


def admit(tree: Tree, message: CommitMessage, has_blob: Callable[[bytes], bool]) -> tuple[Change, ...]:
    """Make `tree` the one of `message`; the changes that would undo it.

    Raises Corrupt, with `tree` as it was, when the message does not follow from it, names a chunk that nobody has,
    leads out of the workspace, or does not make the tree that it claims.
    """
    if len({change.path for change in message.changes}) != len(message.changes):
        raise Corrupt(f"commit {message.commit.id} names a path twice")
    if message.parent_root != tree.root():
        raise Corrupt(f"commit {message.commit.id} does not follow from the tree here")
    try:
        for change in message.changes:
            _check_change(change)
    except BadInput as error:
        raise Corrupt(f"commit {message.commit.id}: {error}") from error
    missing = _missing_chunk(tree, message.changes, has_blob)
    if missing:
        raise Corrupt(f"commit {message.commit.id} needs chunk {missing.hex()}, which was not sent")
    undo = tuple(Change(change.path, tree.get(change.path)) for change in reversed(message.changes))
    tree.apply(message.changes)
    try:
        check_shape(tree, message.changes)
        if tree.root() != message.commit.root:
            raise Corrupt(f"commit {message.commit.id} does not make the tree that it claims")
    except Corrupt:
        tree.apply(undo)
        raise
    return undo


def check_shape(tree: Tree, changes: tuple[Change, ...]) -> None:
    """Raises Corrupt when something in `tree`, after `changes`, lies in what is no directory."""
    for change in changes:
        entry = tree.get(change.path)
        if (entry is None or entry.kind is not Kind.DIRECTORY) and tree.children(change.path):
            raise Corrupt(f"{change.path!r} is no directory, and yet has names in it")
        if entry is not None and change.path != TOP:
            above = tree.get(parent_of(change.path))
            if above is None or above.kind is not Kind.DIRECTORY:
                raise Corrupt(f"{change.path!r} lies in what is no directory")


def check_entry(path: bytes, entry: Entry) -> None:
    """Raises BadInput for an entry that no file system could hold, or that would lead out of the workspace."""
    checked(path)
    if any(len(part) > NAME_BYTES_MAX for part in path.split(b"/")):
        raise BadInput(f"{path!r} holds a name that is too long")
    if path == TOP and entry.kind is not Kind.DIRECTORY:
        raise BadInput("the top of a workspace is a directory")
    check_attributes(path, entry)


def check_attributes(path: bytes, entry: Entry) -> None:
    """As `check_entry`, for a path that was checked. Raises BadInput."""
    if is_plain_file(entry) or is_plain_directory(entry):
        return
    checked(entry.link)
    kind = entry.kind
    owners_fit = 0 <= entry.uid <= _OWNER_MAX and 0 <= entry.gid <= _OWNER_MAX
    if not 0 <= entry.mode <= _MODE_MAX or not owners_fit or not 0 <= entry.size <= _SIZE_MAX:
        raise BadInput(f"{path!r} has attributes that make no sense")
    offsets = (0, *entry.bounds, entry.size)
    if entry.bounds and (
        kind is not Kind.FILE or entry.sparse or any(end <= begin for begin, end in pairwise(offsets))
    ):
        raise BadInput(f"{path!r} is cut where it can't be")
    if len(entry.chunks) != (block_count(entry.size, entry.bounds) if kind is Kind.FILE else 0):
        raise BadInput(f"{path!r} has {len(entry.chunks)} chunks, which does not fit its {entry.size} bytes")
    if any(len(chunk) != ID_BYTES and not (chunk == HOLE and entry.sparse) for chunk in entry.chunks):
        raise BadInput(f"{path!r} names what is no chunk")
    is_target = 0 < len(entry.target) <= _TARGET_BYTES_MAX and b"\0" not in entry.target
    if (kind is Kind.SYMLINK and not is_target) or (kind is not Kind.SYMLINK and entry.target):
        raise BadInput(f"{path!r} points to what no symlink can")
    if any(not name.startswith(b"user.") or b"\0" in name for name, _ in entry.xattrs):
        raise BadInput(f"{path!r} has attributes that are not a user's")


def is_plain_file(entry: Entry) -> bool:
    """Whether it is a small ordinary file, as most are, with nothing wrong: for trees of a million of them."""
    return (
        entry.kind is Kind.FILE
        and 0 < entry.size <= _PLAIN_BYTES_MAX
        and len(entry.chunks) == 1
        and len(entry.chunks[0]) == ID_BYTES
        and 0 <= entry.mode <= _MODE_MAX
        and 0 <= entry.uid <= _OWNER_MAX
        and 0 <= entry.gid <= _OWNER_MAX
        and not (entry.target or entry.link or entry.xattrs or entry.bounds)
    )


def is_plain_directory(entry: Entry) -> bool:
    """Whether it is a directory with mode and owner alone, as most are, with nothing wrong."""
    return (
        entry.kind is Kind.DIRECTORY
        and 0 <= entry.mode <= _MODE_MAX
        and 0 <= entry.uid <= _OWNER_MAX
        and 0 <= entry.gid <= _OWNER_MAX
        and not (entry.size or entry.chunks or entry.target or entry.link)
        and not (entry.xattrs or entry.sparse or entry.bounds)
    )


def _check_change(change: Change) -> None:
    checked(change.path)
    if change.entry is not None:
        check_entry(change.path, change.entry)


def _missing_chunk(tree: Tree, changes: tuple[Change, ...], has_blob: Callable[[bytes], bool]) -> bytes | None:
    for change in changes:
        for chunk in change.entry.chunks if change.entry else ():
            if chunk != HOLE and not tree.has_chunk(chunk) and not has_blob(chunk):
                return chunk
    return None
