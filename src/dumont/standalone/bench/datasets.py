"""The bench's datasets: what an ML workspace holds, made anew from seeds, so that every run saves the same bytes.

| part | what | how it differs from tile to tile, so that deduplication cannot win the contest |
|---|---|---|
| mix/weights | bf16 weights of a trained model as sharded safetensors | each tile: rows and columns of every matrix permuted, rows' signs flipped, the tensor scaled by a power of two; no rounding, no noise |
| mix/random | incompressible bytes | – |
| mix/site-packages | files of this Python's site-packages and library | copies beyond the first: letters permuted among themselves |
| checkpoints | two steps: fp32 weights (safetensors), Adam's m and v (torch's zip) | tiles as above, the same at both steps; lower layers frozen |
| small | files of log-normal size, median 2 KiB, in 1,000 directories | slices at random places, letters permuted |
| text | Python's and the packages' sources, a quarter as files, the rest in shards of 32 MiB | each pass in another order, letters permuted |
"""  # noqa: E501  # a table's rows can't be broken

import itertools
import math
import os
import random
import shutil
import string
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from dumont.standalone.bench.tensorfile import Array, Shape, write_safetensors, write_torch_zip
from dumont.standalone.bench.training import Floats, Moment, Trained, as_bf16, trained

SEED = 20_261
WEIGHTS_BYTES = 2**30
RANDOM_BYTES = 2**29
PACKAGES_FILES, PACKAGES_BYTES = 12_500, 430_000_000
FEW_BYTES, MANY_BYTES = 8 * 2**10, 64 * 2**10
SMALL_FILES, SMALL_DIRECTORIES = 100_000, 1_000
SMALL_MEDIAN_BYTES, SMALL_SIGMA, SMALL_BYTES_MAX = 2_048, 1.0, 128 * 2**10
TEXT_BYTES, TEXT_SHARD_BYTES = 2 * 2**30, 32 * 2**20
CHECKPOINT_TILES = 8
SHARDS = 4
NEWEST_S = 1_750_000_000
"""Files get times before this instant (June 2025, UTC): a tool that distrusts fresh files should not suffer."""

SOURCE_SUFFIXES = frozenset({".py", ".pyi", ".h", ".c", ".cc", ".hpp", ".pyx", ".pxd", ".txt", ".md", ".rst"})


@dataclass(frozen=True)
class Dataset:
    """A tree on disk, and how much it holds."""

    name: str
    tree: Path
    bytes: int
    files: int
    made: str = ""


@dataclass(frozen=True)
class Maker:
    """What datasets are made from: the directory for them, the cache of the trained model, the scale (1 = full)."""

    work: Path
    cache: Path
    scale: float = 1.0

    def model(self) -> Trained:
        """The trained model, from the cache when it is there."""
        return trained(_sources(), self.cache)


def make_mix(maker: Maker) -> Dataset:
    """Weights, incompressible bytes and site-packages: 2 GB at scale 1."""

    def fill(tree: Path) -> None:
        _write_weights(tree / "weights", maker.model().second, int(WEIGHTS_BYTES * maker.scale))
        _write_random(tree / "random", int(RANDOM_BYTES * maker.scale))
        _write_packages(tree / "site-packages", maker.scale)

    return _made(maker, "mix", fill)


def make_checkpoints(maker: Maker) -> tuple[Dataset, Dataset]:
    """Two successive checkpoints of one run, each in a tree of its own: `checkpoint-<step>/`."""
    model = maker.model()
    tiles = max(1, round(CHECKPOINT_TILES * maker.scale))

    def made(moment: Moment) -> Dataset:
        return _made(maker, f"checkpoint-{moment.step}", lambda tree: _write_checkpoint(tree, moment, tiles))

    return made(model.first), made(model.second)


def changed_bytes(maker: Maker) -> int:
    """Bytes of those tensors of the second checkpoint that differ from the first, weights and means together."""
    model = maker.model()
    old, new = model.first, model.second
    pairs = ((old.weights, new.weights), (old.m, new.m), (old.v, new.v))
    changed = sum(
        value.nbytes
        for before, after in pairs
        for name, value in after.items()
        if not np.array_equal(before[name], value)
    )
    return changed * max(1, round(CHECKPOINT_TILES * maker.scale))


def make_small(maker: Maker) -> Dataset:
    """Small files: half text, a quarter fp32 weights, a quarter random."""
    return _made(maker, "small", lambda tree: _write_small(tree, maker.model(), round(SMALL_FILES * maker.scale)))


def make_text(maker: Maker) -> Dataset:
    """Text and code."""
    return _made(maker, "text", lambda tree: _write_text(tree, int(TEXT_BYTES * maker.scale)))


def samples(maker: Maker, size: int) -> tuple[bytes, bytes]:
    """`size` bytes of bf16 weights and of source code, for measuring codecs."""
    weights = b"".join(as_bf16(value).tobytes() for value in maker.model().second.weights.values())
    text = bytearray()
    for source in _sources():
        text += source.read_bytes()
        if len(text) >= size:
            break
    return _as_long_as(weights, size), _as_long_as(bytes(text), size)


def measured(name: str, tree: Path, made: str = "") -> Dataset:
    """`tree` as a dataset, its files counted."""
    sizes = [os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(tree) for name in names]
    return Dataset(name, tree, sum(sizes), len(sizes), made)


def _made(maker: Maker, name: str, fill: Callable[[Path], None]) -> Dataset:
    """Make the tree unless a finished one of the same scale is there (`--keep`)."""
    tree, mark = maker.work / name, maker.work / f"{name}.made"
    wanted = f"{SEED} {maker.scale}"
    if not (mark.exists() and mark.read_text() == wanted and tree.is_dir()):
        mark.unlink(missing_ok=True)
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        fill(tree)
        mark.write_text(wanted)
    return measured(name, tree, f"seed {SEED}, scale {maker.scale:g}")


def _as_long_as(data: bytes, size: int) -> bytes:
    return (data * math.ceil(size / len(data)))[:size]


# --- weights


@dataclass(frozen=True)
class Variation:
    """How one tile differs from the trained tensors: exactly undoable, the same for weights and optimizer state."""

    rows: Array
    columns: Array
    flips: Array
    power: int

    @classmethod
    def of(cls, tile: int, name: str, shape: tuple[int, ...]) -> "Variation":
        """The variation of tensor `name` in tile `tile`."""
        rng = random.Random(f"{SEED}/{tile}/{name}")
        lots = np.random.default_rng(rng.getrandbits(64))
        rows, columns = lots.permutation(shape[0]), lots.permutation(shape[-1])
        return cls(rows, columns, lots.integers(0, 2, shape[0], dtype=np.uint16), rng.randint(-3, 3))

    def arranged(self, values: Array) -> Array:
        """`values` with rows and columns permuted."""
        return values[self.rows] if values.ndim == 1 else values.take(self.columns, axis=1)[self.rows]

    def bits(self, bf16: Array) -> Array:
        """A bf16 tensor varied: signs in bit 15, the exponent in bits 7 to 14 (left alone where it is tiny)."""
        scaled = np.where((bf16 & 0x7F80) > 0x0400, bf16 + np.uint16(self.power * 128 & 0xFFFF), bf16)
        return self.arranged(scaled) ^ _along(self.flips << 15, bf16)

    def floats(self, values: Floats, degree: int = 1) -> Floats:
        """An fp32 tensor varied; `degree` 2 for Adam's v, which is a mean of squares."""
        signs = np.where(self.flips == 1, np.float32(-1), np.float32(1))
        arranged = np.ldexp(self.arranged(values), self.power * degree)
        return arranged * _along(signs, values) if degree == 1 else arranged


def _along(row_values: Array, like: Array) -> Array:
    return row_values if like.ndim == 1 else row_values[:, None]


def _write_weights(folder: Path, moment: Moment, wanted_bytes: int) -> None:
    tensors = {name: as_bf16(value) for name, value in moment.weights.items()}
    tile_bytes = sum(value.nbytes for value in tensors.values())
    per_shard = max(1, round(wanted_bytes / SHARDS / tile_bytes))
    folder.mkdir()
    for shard in range(SHARDS):
        tiles = range(shard * per_shard, (shard + 1) * per_shard)
        names = [(tile, name) for tile in tiles for name in tensors]
        shapes = [Shape.of(f"model.layers.{tile}.{name}", tensors[name]) for tile, name in names]
        values = (Variation.of(tile, name, tensors[name].shape).bits(tensors[name]) for tile, name in names)
        path = folder / f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        write_safetensors(path, shapes, values, {"format": "pt"})
        _age(path, shard)


def _write_checkpoint(tree: Path, moment: Moment, tiles: int) -> None:
    def varied(group: dict[str, Floats], prefix: str, degree: int) -> Iterator[tuple[str, Floats]]:
        for tile in range(tiles):
            for name, value in group.items():
                yield f"{prefix}.{tile}.{name}", Variation.of(tile, name, value.shape).floats(value, degree)

    def means() -> Iterator[tuple[str, Floats]]:
        yield from varied(moment.m, "exp_avg", 1)
        yield from varied(moment.v, "exp_avg_sq", 2)

    weights = list(varied(moment.weights, "model.layers", 1))
    shapes = [Shape.of(name, value) for name, value in weights]
    said = {"format": "pt", "step": str(moment.step), "rate": f"{1e-3 / moment.step:.17g}"}  # headers of odd lengths
    write_safetensors(tree / "model.safetensors", shapes, (value for _, value in weights), said)
    state = [Shape.of(name, value) for name, value in means()]
    write_torch_zip(tree / "optimizer.pt", means(), state, moment.step)
    for at, path in enumerate(sorted(tree.iterdir())):
        _age(path, moment.step + at)


def _write_random(folder: Path, wanted_bytes: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(SEED)
    for number in range(2):
        path = folder / f"images-{number}.tar"
        with path.open("wb") as file:
            for at in range(0, wanted_bytes // 2, 8 * 2**20):
                file.write(rng.bytes(min(8 * 2**20, wanted_bytes // 2 - at)))
        _age(path, 100 + number)


# --- files of this Python


def _places() -> list[Path]:
    paths = sysconfig.get_paths()
    return list(dict.fromkeys(Path(paths[name]) for name in ("purelib", "platlib", "stdlib")))


@cache
def _installed() -> tuple[tuple[str, Path, int], ...]:
    """Every installed file: its name below its root, where it is, and its size, in order of names."""
    found: dict[str, tuple[Path, int]] = {}
    for place in _places():
        left = [str(place)]
        while left:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left += [] if entry.name.startswith(".") else [entry.path]
                    elif entry.is_file(follow_symlinks=False):
                        name = entry.path[len(str(place)) + 1 :]
                        found.setdefault(name, (Path(entry.path), entry.stat().st_size))
    return tuple((name, *found[name]) for name in sorted(found))


def _sources() -> list[Path]:
    """Text and code among the installed files, in a fixed order without meaning."""
    chosen = [path for _, path, size in _installed() if path.suffix in SOURCE_SUFFIXES and 256 < size < 2**20]
    random.Random(SEED).shuffle(chosen)
    return chosen


def _write_packages(folder: Path, scale: float) -> None:
    """Whole folders of what is installed, up to the wanted count and bytes; again with other letters while too few.

    When there are enough files, only large ones follow, so that the count is much the same on every machine.
    """
    files_left, bytes_left = round(PACKAGES_FILES * scale), round(PACKAGES_BYTES * scale)
    folders: dict[str, list[tuple[str, Path, int]]] = {}
    for one in _installed():
        if one[2] < 32 * 2**20:
            folders.setdefault(os.path.dirname(one[0]), []).append(one)
    order = list(folders.values())
    for copy in range(64):
        random.Random(SEED + copy).shuffle(order)
        for name, path, size in itertools.chain.from_iterable(order):
            if files_left <= 0 and bytes_left <= 0:
                return
            if size > max(bytes_left, FEW_BYTES) or (files_left <= 0 and size < MANY_BYTES):
                continue  # enough bytes and still too few files, or the other way round
            content = path.read_bytes()
            target = folder / name if copy == 0 else folder / f"copy-{copy}" / name
            _put(
                target, content if copy == 0 else content.translate(_letters(copy)), path.stat().st_mode & 0o755 | 0o600
            )
            _age(target, files_left)
            files_left, bytes_left = files_left - 1, bytes_left - size


def _write_text(tree: Path, wanted_bytes: int) -> None:
    sources = _sources()
    left = wanted_bytes // 4
    for number, source in enumerate(sources):
        if left <= 0:
            break
        content = source.read_bytes()
        target = tree / "code" / f"{number % 97:02}" / f"{number}{source.suffix}"
        _put(target, content, 0o644)
        _age(target, number)
        left -= len(content)
    left += wanted_bytes - wanted_bytes // 4
    (tree / "corpus").mkdir()
    contents = [source.read_bytes() for source in sources]
    shard, held, number = bytearray(), 0, 0
    for pass_ in range(1, 1 + math.ceil(wanted_bytes / max(1, sum(map(len, contents)))) + 1):
        random.Random(SEED + pass_).shuffle(contents)
        table = _letters(pass_)
        for content in contents:
            shard += content.translate(table)
            if len(shard) >= min(TEXT_SHARD_BYTES, left - held):
                path = tree / "corpus" / f"shard-{number:04}.txt"
                path.write_bytes(shard)
                _age(path, number)
                held, number = held + len(shard), number + 1
                shard.clear()
            if held >= left:
                return


def _write_small(tree: Path, model: Trained, count: int) -> None:
    rng = random.Random(SEED)
    text = b"".join(source.read_bytes() for source in _sources()[:1_000])
    texts = [text.translate(_letters(number)) for number in range(8)]
    floats = model.second.weights["upper.weight"].tobytes()
    noise = np.random.default_rng(SEED).bytes(8 * 2**20)
    kinds = [(".txt", texts[0]), (".json", texts[1]), (".npy", floats), (".png", noise)]
    folders = [tree / f"run-{number:04}" for number in range(max(1, round(SMALL_DIRECTORIES * count / SMALL_FILES)))]
    for folder in folders:
        folder.mkdir()
    for number in range(count):
        suffix, pool = kinds[number % 4]
        if number % 4 < 2:
            pool = texts[rng.randrange(8)]
        size = max(1, min(SMALL_BYTES_MAX, round(SMALL_MEDIAN_BYTES * math.exp(SMALL_SIGMA * rng.gauss(0, 1)))))
        at = rng.randrange(len(pool) - size)
        path = f"{folders[number % len(folders)]}/{number:06}{suffix}"
        with open(path, "wb", buffering=0) as file:
            file.write(memoryview(pool)[at : at + size])
        seconds = NEWEST_S - number
        os.utime(path, (seconds, seconds))


def _letters(number: int) -> bytes:
    """A table for bytes.translate: letters permuted among themselves, capitals alike. Number 0 changes nothing."""
    letters = list(string.ascii_lowercase)
    if number:
        random.Random(f"letters {number}").shuffle(letters)
    other = "".join(letters)
    plain = string.ascii_lowercase + string.ascii_uppercase
    return bytes.maketrans(plain.encode(), (other + other.upper()).encode())


def _put(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def _age(path: Path, number: int) -> None:
    """A time of change that is the same in each run, and differs from file to file."""
    seconds = NEWEST_S - number * 60
    os.utime(path, (seconds, seconds))
