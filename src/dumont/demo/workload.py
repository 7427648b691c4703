"""The demo's workload, copied into a workspace and run there as `train.py`: it trains, and writes all the time.

A small neural network learns the handwritten digits that scikit-learn ships, by mini-batch SGD with momentum. Every few
steps it saves a checkpoint and takes a barrier; only a step whose barrier returned OK is written to `acked.jsonl`.
Beside it, one thread writes an SQLite database in WAL mode, another small files, appends, changes in place and renames.
After a failover it goes on from the checkpoint that it finds, and says in `resume.jsonl` what it found.
"""

import argparse
import importlib.util
import json
import os
import random
import sqlite3
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import dumont

Floats = NDArray[np.float32]
Batch = tuple[Floats, NDArray[np.int64]]

HIDDEN = 32
BATCH = 32
LEARNING_RATE = 0.02
MOMENTUM = 0.9
STEP_PAUSE_S = 0.008
STEPS_PER_CHECKPOINT = 25
HOLD_S_MAX = 20.0
DATABASE_ROWS_MAX = 2000
TABLE_BYTES = 1 << 20
APPEND_BYTES_MAX = 1 << 20
SMALL_FILES = 100


@dataclass
class Written:
    """How much this run has written, by kind; `bytes` is what it asked the kernel to write."""

    bytes: int = 0
    small_files: int = 0
    appends: int = 0
    in_place: int = 0
    renames: int = 0
    transactions: int = 0


@dataclass
class Network:
    """Two layers and their momentum; `step` counts mini-batches since the very first start."""

    weights: list[Floats]
    momentum: list[Floats]
    rng: np.random.Generator
    step: int = 0
    loss: float = field(default=float("nan"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=40.0, help="operations a second of the background load")
    parser.add_argument("--steps", type=int, default=0, help="stop after so many steps; 0: never")
    options = parser.parse_args()
    root = Path(__file__).resolve().parent
    os.chdir(root)
    hold(root / "hold")
    resumed_at = time.time()
    images, labels = digits(root / "digits.npz")
    test: Batch = (images[:200], labels[:200])
    network = resume(root, test, resumed_at)
    written = Written()
    stop = threading.Event()
    threads = [
        threading.Thread(target=keep_database, args=(root / "state.db", written, stop), daemon=True),
        threading.Thread(target=keep_writing, args=(root / "load", options.rate, written, stop), daemon=True),
    ]
    for thread in threads:
        thread.start()
    train(network, (images[200:], labels[200:]), test, written, options.steps)
    stop.set()
    for thread in threads:
        thread.join()


def hold(flag: Path) -> None:
    """Write nothing while the file is there, for a bounded time: somebody outside compares the tree with its commit."""
    until = time.monotonic() + HOLD_S_MAX
    while flag.exists() and time.monotonic() < until:
        time.sleep(0.02)


def digits(cache: Path) -> Batch:
    """1,797 images of 8 by 8 grey values, and what they show, from the file inside scikit-learn's package."""
    if not cache.exists():
        package = importlib.util.find_spec("sklearn")
        if package is None or not package.submodule_search_locations:
            raise SystemExit("train.py needs scikit-learn's digits: install the `demo` extra")
        table = np.loadtxt(Path(package.submodule_search_locations[0], "datasets/data/digits.csv.gz"), delimiter=",")
        save(cache, images=(table[:, :-1] / 16).astype(np.float32), labels=table[:, -1].astype(np.int64))
    with np.load(cache) as data:
        return data["images"], data["labels"]


def fresh(seed: int = 0) -> Network:
    rng = np.random.default_rng(seed)
    shapes = [(64, HIDDEN), (1, HIDDEN), (HIDDEN, 10), (1, 10)]
    weights = [(rng.standard_normal(shape) / np.sqrt(shape[0] + 8)).astype(np.float32) for shape in shapes]
    return Network(weights, [np.zeros_like(weight) for weight in weights], rng)


def resume(root: Path, test: Batch, resumed_at: float) -> Network:
    """Go on from the checkpoint, if there is one, and append to `resume.jsonl` what was found."""
    checkpoint, network = root / "checkpoint.npz", fresh()
    if checkpoint.exists():
        with np.load(checkpoint, allow_pickle=False) as data:
            network.weights = [data[f"weight{i}"] for i in range(4)]
            network.momentum = [data[f"momentum{i}"] for i in range(4)]
            network.rng.bit_generator.state = json.loads(str(data["rng"]))
            network.step, network.loss = int(data["step"]), float(data["loss"])
    found = {
        "at": resumed_at,
        "role": os.environ.get("DUMONT_ROLE", ""),
        "step": network.step,
        "loss": network.loss,
        "loss_again": evaluate(network, test),
        "integrity": integrity(root / "state.db"),
    }
    append(root / "resume.jsonl", json.dumps(found))
    return network


def integrity(database: Path) -> str:
    """What `PRAGMA integrity_check` answers, and whether every transfer in the database is whole; "ok" if both hold."""
    if not database.exists():
        return "none"
    try:
        with sqlite3.connect(database, timeout=10) as connection:
            answer = str(connection.execute("PRAGMA integrity_check").fetchone()[0])
            total = connection.execute("SELECT coalesce(sum(amount), 0) FROM entry").fetchone()[0]
    except sqlite3.DatabaseError as error:
        return f"broken: {error}"
    return answer if answer != "ok" or total == 0 else f"half a transaction: the books are off by {total}"


def train(network: Network, data: Batch, test: Batch, written: Written, steps_max: int) -> None:
    """Step for step; a checkpoint and a barrier every STEPS_PER_CHECKPOINT."""
    run = uuid.uuid4().hex[:8]
    with open("train.log", "a", buffering=1) as log:
        while not steps_max or network.step < steps_max:
            step(network, data)
            line = f"{network.step} {time.time():.6f} {network.loss:.6f}\n"
            written.bytes += log.write(line)
            if network.step % STEPS_PER_CHECKPOINT == 0:
                checkpoint(network, test, written, run)
            time.sleep(STEP_PAUSE_S)


def step(network: Network, data: Batch) -> None:
    """One mini-batch of softmax regression on one hidden layer of rectified units."""
    chosen = network.rng.integers(0, len(data[0]), BATCH)
    x, y = data[0][chosen], data[1][chosen]
    hidden, probability = forward(network.weights, x)
    network.loss = float(-np.log(probability[np.arange(BATCH), y] + 1e-9).mean())
    slope = probability.copy()
    slope[np.arange(BATCH), y] -= 1
    slope /= BATCH
    back = (slope @ network.weights[2].T) * (hidden > 0)
    gradients = [x.T @ back, back.sum(0, keepdims=True), hidden.T @ slope, slope.sum(0, keepdims=True)]
    for i, gradient in enumerate(gradients):
        network.momentum[i] = MOMENTUM * network.momentum[i] - LEARNING_RATE * gradient
        network.weights[i] = network.weights[i] + network.momentum[i]
    network.step += 1


def forward(weights: list[Floats], x: Floats) -> tuple[Floats, Floats]:
    hidden = np.maximum(x @ weights[0] + weights[1], 0)
    scores = hidden @ weights[2] + weights[3]
    exponents = np.exp(scores - scores.max(1, keepdims=True))
    return hidden, exponents / exponents.sum(1, keepdims=True)


def evaluate(network: Network, test: Batch) -> float:
    """The loss on images that training never sees; the same weights give the same figure."""
    _, probability = forward(network.weights, test[0])
    return round(float(-np.log(probability[np.arange(len(test[1])), test[1]] + 1e-9).mean()), 9)


def checkpoint(network: Network, test: Batch, written: Written, run: str) -> None:
    """Save everything that training needs to go on; acknowledge the step once the barrier returned OK."""
    loss = evaluate(network, test)
    arrays: dict[str, Any] = {f"weight{i}": weight for i, weight in enumerate(network.weights)}
    arrays |= {f"momentum{i}": momentum for i, momentum in enumerate(network.momentum)}
    rng = json.dumps(network.rng.bit_generator.state)
    save(Path("checkpoint.npz"), **arrays, rng=np.array(rng), step=network.step, loss=loss)
    written.bytes += Path("checkpoint.npz").stat().st_size
    before = vars(written).copy()
    answer = dumont.barrier()
    if answer.ok:
        record = {"step": network.step, "loss": loss, "token": answer.token, "commit": answer.commit}
        record |= {"root": answer.root, "run": run, "at": time.time(), "written": before}
        append(Path("acked.jsonl"), json.dumps(record))


def save(path: Path, **arrays: Any) -> None:
    """Write beside, then rename: a reader sees the old file or the new one. No fsync: that is the barrier's work."""
    beside = path.with_suffix(".tmp")
    with beside.open("wb") as out:
        np.savez(out, **arrays)
    beside.rename(path)


def append(path: Path, line: str) -> None:
    with path.open("a") as out:
        out.write(line + "\n")


def keep_database(path: Path, written: Written, stop: threading.Event) -> None:
    """Bookkeeping: each transaction moves an amount between two accounts, so the sum of all entries is always 0."""
    connection = sqlite3.connect(path, timeout=30)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, account INT, amount INT, note TEXT)")
    chance = random.Random(time.time_ns())
    while not stop.is_set():
        amount, note = chance.randrange(1, 10_000), uuid.UUID(int=chance.getrandbits(128)).hex * 4
        with connection:
            for signed in (amount, -amount):
                connection.execute(
                    "INSERT INTO entry (account, amount, note) VALUES (?, ?, ?)", (chance.randrange(50), signed, note)
                )
            newest = connection.execute("SELECT max(id) FROM entry").fetchone()[0]
            connection.execute("DELETE FROM entry WHERE id <= ?", ((newest - DATABASE_ROWS_MAX) // 2 * 2,))
        written.transactions += 1
        written.bytes += 2 * len(note)
        stop.wait(0.02)
    connection.close()


def keep_writing(root: Path, rate: float, written: Written, stop: threading.Event) -> None:
    """Small files, appends, changes in place and renames in turn, `rate` operations a second altogether."""
    (root / "small").mkdir(parents=True, exist_ok=True)
    table = root / "table.bin"
    if not table.exists():
        table.write_bytes(random.Random(0).randbytes(TABLE_BYTES))
    chance = random.Random(time.time_ns())
    operations = (small_file, append_some, change_in_place, rename)
    turn = 0
    while not stop.is_set():
        written.bytes += operations[turn % len(operations)](root, chance, written)
        turn += 1
        stop.wait(chance.expovariate(rate))


def small_file(root: Path, chance: random.Random, written: Written) -> int:
    path = root / "small" / f"{chance.randrange(SMALL_FILES):03}.txt"
    path.unlink(missing_ok=True)
    written.small_files += 1
    return path.write_bytes(chance.randbytes(chance.randrange(0, 8192)))


def append_some(root: Path, chance: random.Random, written: Written) -> int:
    path = root / "append.log"
    with path.open("ab") as out:
        count = out.write(chance.randbytes(chance.randrange(16, 2048)))
        full = out.tell() > APPEND_BYTES_MAX
    if full:
        path.rename(root / "append.1.log")
    written.appends += 1
    return count


def change_in_place(root: Path, chance: random.Random, written: Written) -> int:
    with (root / "table.bin").open("r+b") as table:
        table.seek(chance.randrange(TABLE_BYTES - 4096))
        written.in_place += 1
        return table.write(chance.randbytes(chance.randrange(1, 4096)))


def rename(root: Path, chance: random.Random, written: Written) -> int:
    names = sorted((root / "small").iterdir())
    if names:
        name = chance.choice(names)
        name.rename(name.with_suffix(".old" if name.suffix == ".txt" else ".txt"))
        written.renames += 1
    return 0


if __name__ == "__main__":
    main()
