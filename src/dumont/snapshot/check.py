"""Checks on what another machine says: whether a commit message makes a tree that a disk can hold, and which one."""

from collections.abc import Callable

from dumont.errors import BadInput, Corrupt
from dumont.model.commit import HOLE, Change, Entry, Kind, block_count
from dumont.snapshot.chunk import ID_BYTES
from dumont.snapshot.tree import TOP, Tree, checked, parent_of
from dumont.wire.stream import CommitMessage

_MODE_MAX = 0o7777
_TARGET_BYTES_MAX = 4095
_NAME_BYTES_MAX = 255


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
    checked(entry.link)
    kind = entry.kind
    if any(len(part) > _NAME_BYTES_MAX for part in path.split(b"/")):
        raise BadInput(f"{path!r} holds a name that is too long")
    if path == TOP and kind is not Kind.DIRECTORY:
        raise BadInput("the top of a workspace is a directory")
    if not 0 <= entry.mode <= _MODE_MAX or min(entry.uid, entry.gid, entry.size) < 0:
        raise BadInput(f"{path!r} has attributes that make no sense")
    if len(entry.chunks) != (block_count(entry.size) if kind is Kind.FILE else 0):
        raise BadInput(f"{path!r} has {len(entry.chunks)} chunks, which does not fit its {entry.size} bytes")
    if any(len(chunk) != ID_BYTES and not (chunk == HOLE and entry.sparse) for chunk in entry.chunks):
        raise BadInput(f"{path!r} names what is no chunk")
    is_target = 0 < len(entry.target) <= _TARGET_BYTES_MAX and b"\0" not in entry.target
    if (kind is Kind.SYMLINK and not is_target) or (kind is not Kind.SYMLINK and entry.target):
        raise BadInput(f"{path!r} points to what no symlink can")
    if any(not name.startswith(b"user.") or b"\0" in name for name, _ in entry.xattrs):
        raise BadInput(f"{path!r} has attributes that are not a user's")


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
