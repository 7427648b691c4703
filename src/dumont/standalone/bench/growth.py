"""Growth: how much a repository grows by the second of two checkpoints, of which a part of the tensors has changed."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dumont.standalone.bench.datasets import Dataset
from dumont.standalone.bench.likeness import differences
from dumont.standalone.bench.peers import OURS, Peer, Place, repository_bytes
from dumont.standalone.bench.race import RESTORE, SAVE, Race, Tally, fresh
from dumont.standalone.bench.timing import PeerFailed, run

SECOND = "second_save"


@dataclass
class GrowthRace(Race):
    """A race in which each bout saves a folder with one checkpoint, then the folder with a second one beside it.

    `newcomer` is the second. A tally's `sizes` hold what the repository grew by, in bytes.
    """

    newcomer: Dataset | None = None

    def bout(self, peer: Peer, dataset: Dataset, tally: Tally, *, verify: bool) -> None:
        """Save, add a checkpoint, save, restore, compare, and leave nothing behind."""
        assert self.newcomer is not None
        with fresh(self.work, peer.name) as root, _folder(self.work, dataset) as folder:
            place = Place(root)
            try:
                peer.prepare(place)
                tally.note(SAVE, run(peer.save(folder, place)))
                before = repository_bytes(place)
                with _moved(self.newcomer.tree, folder / self.newcomer.name):
                    tally.note(SECOND, run(peer.save(folder, place)))
                    tally.sizes.append(repository_bytes(place) - before)
                    tally.note(RESTORE, run(peer.restore(place)))
                    if verify:
                        tally.differences = differences(folder, place.target, dressed=peer.name == OURS)
            except PeerFailed as error:
                tally.failed = str(error)
                return
        if tally.differences:
            tally.failed = f"what {peer.name} restored is not what it saved: {'; '.join(tally.differences)}"


@contextlib.contextmanager
def _folder(work: Path, dataset: Dataset) -> Iterator[Path]:
    """A folder with the checkpoint in it, which goes back to its place at the end."""
    folder = work / "training-run"
    folder.mkdir()
    try:
        with _moved(dataset.tree, folder / dataset.name):
            yield folder
    finally:
        folder.rmdir()


@contextlib.contextmanager
def _moved(source: Path, target: Path) -> Iterator[None]:
    os.rename(source, target)
    try:
        yield
    finally:
        os.rename(target, source)
