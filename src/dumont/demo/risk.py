"""Bytes at risk: what a dead primary's tree held that the promoted one does not. Reads files; shares no engine code."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 64 * 1024


def at_risk_bytes(dead: Path, promoted: Path) -> int:
    """How many bytes of the dead tree stand in 64 KiB blocks whose content is nowhere in the promoted tree.

    Where a block stands does not matter, so a file that was renamed meanwhile is not at risk. Zeros are no content.
    """
    safe = {digest for digest, _ in _blocks(promoted)}
    return sum(length for digest, length in _blocks(dead) if digest not in safe)


def _blocks(tree: Path) -> Iterator[tuple[bytes, int]]:
    for folder, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(folder, name)
            try:
                if stat.S_ISREG(os.lstat(path).st_mode):
                    yield from _blocks_of(path)
            except FileNotFoundError:
                continue  # a live tree moves while it is read


def _blocks_of(path: str) -> Iterator[tuple[bytes, int]]:
    with open(path, "rb", buffering=0) as source:
        while block := source.read(BLOCK_BYTES):
            if block.count(0) != len(block):
                yield hashlib.blake2b(block, digest_size=16).digest(), len(block)


def take(tree: Path, into: Path) -> Path:
    """Take a dead machine's tree out of it, as one takes the disk out, so that letting the machine go doesn't end it.

    At one stroke, and nothing in the tree changes by it. Only for trees whose every process is dead.
    """
    return tree.rename(into)
