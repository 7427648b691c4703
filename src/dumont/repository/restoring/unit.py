"""A unit of restoring: a run of neighbouring frames of one pack, and where on disk each of their chunks belongs.

These are the messages between whoever restores and the hands that do it. They are compact, for there is one `Item` and
one `Piece` for each small file.
"""

import msgspec

from dumont.model.commit import Entry
from dumont.repository.keys import Keys

RUN_BYTES = 6 * 2**20
"""How much of a pack is read for one unit: enough to make a request worth its way, little enough to share work out."""
SMALL_BYTES_MAX = 2**20
"""Files up to this size are part of the working set."""
GAP_BYTES = 64 * 2**10
"""What nobody needs between two frames is read along with them up to this length."""
FRAME_BYTES_MAX = 32 * 2**20
"""No frame of files is larger, sealed or plain: a block is at most half of it."""
NOT_HELD = -1
HAND_BYTES_MAX = max(RUN_BYTES, FRAME_BYTES_MAX) + 2 * FRAME_BYTES_MAX
"""What one hand holds at most, besides names: what was read for a unit, and one frame twice while it is decoded."""


class Job(msgspec.Struct, frozen=True):
    """What a hand is told first: the top of the tree with its `(st_dev, st_ino)`, and where files are built.

    `grows`: the target is empty, and the small files of the first batch are built aside at their places in a tree.
    """

    target: bytes
    inode: tuple[int, int]
    aside: bytes
    keys: Keys
    grows: bool


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One inode to be made for the name `path`, and linked to `names`; `entry` lacks most chunks.

    With `pieces` ≥ 0 a unit holds all of its content, in that many pieces: the hand finishes it. With -1 it is put
    together from several units under its number, and what else is here comes when it is finished.
    """

    number: int
    pieces: int
    entry: Entry
    path: bytes = b""
    names: tuple[bytes, ...] = ()


class Piece(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The chunk `id`: `length` bytes from `start` of a frame's plain bytes. It goes to offset `at` of item `item`.

    `more` holds further pairs of item and offset, one after the other.
    """

    start: int
    length: int
    id: bytes
    item: int
    at: int
    more: tuple[int, ...] = ()


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One frame of a pack and which of its chunks are wanted."""

    number: int
    offset: int
    length: int
    codec: int
    kind: int
    plain_bytes: int
    pieces: list[Piece]


class Source(msgspec.Struct, frozen=True, array_like=True):
    """A file of the target as it is: at `path`, or held aside under the number `held`."""

    path: bytes
    held: int = NOT_HELD


class Unit(msgspec.Struct, frozen=True, array_like=True, tag="unit"):
    """Frames of the pack `pack`; or, with `sources`, blocks of those files: each has its part, of the same place.

    Pieces name items by their place in `items`. What is finished counts to `batch`.
    """

    batch: int
    pack: str
    writer: str
    ephemeral: bytes
    sources: list[Source]
    items: list[Item]
    parts: list[Part]


class Finish(msgspec.Struct, frozen=True, array_like=True, tag="finish"):
    """Items whose pieces are all written: dress them. Those that are `large` are made durable and put in place now."""

    batch: int
    large: bool
    items: list[Item]


class Settle(msgspec.Struct, frozen=True, array_like=True, tag="settle"):
    """Everything of `batch` is durable: put it in place."""

    batch: int


class Examine(msgspec.Struct, frozen=True, array_like=True, tag="examine"):
    """Files of the target that may hold what is wanted at those paths."""

    files: list[tuple[bytes, Entry]]


class Search(msgspec.Struct, frozen=True, array_like=True, tag="search"):
    """Files of the target that may hold blocks of those entries, which belong elsewhere."""

    files: list[tuple[bytes, Entry]]


Message = Unit | Finish | Settle | Examine | Search


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """`bad` are ids of chunks that were not whole there, and `why`; items of the numbers `dropped` are not made.

    `wrong` answers Examine: for each file None when it is right with its xattrs and holes, or the numbers of the blocks
    that it lacks. `found` answers Search: the numbers of the blocks that each file holds.
    """

    fetched_bytes: int = 0
    bad: tuple[bytes, ...] = ()
    why: str = ""
    dropped: tuple[int, ...] = ()
    wrong: tuple[tuple[int, ...] | None, ...] = ()
    found: tuple[tuple[int, ...], ...] = ()
