"""A small model that is really trained: a language model over bytes, in numpy, with Adam, on Python source code.

Weights as training leaves them compress otherwise than random numbers do, so the bench takes no random ones. The model
predicts the next byte from the sixteen before it: an embedding, three ReLU layers (two with a residual) and a softmax,
5.9 million parameters. Adam as in Kingma & Ba 2015, algorithm 1. The first steps train all of it; the last ones, which
lead to the second checkpoint, train only the upper layers, as fine-tuning does: the lower tensors stay as they were.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

CONTEXT = 16
EMBEDDING = 32
WIDTH = 1536
BATCH = 128
STEPS_FIRST = 60
STEPS_MORE = 4
SEED = 2026
FROZEN = frozenset({"embed.weight", "lower.weight", "lower.bias", "middle.weight", "middle.bias"})
"""What the last steps leave alone."""

RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
CORPUS_BYTES = 8 * 2**20
KEPT_AS = "trained-1.npz"


@dataclass(frozen=True)
class Moment:
    """A checkpoint: fp32 weights by name, and Adam's two means (m, v) of those that are trained."""

    step: int
    weights: dict[str, Floats]
    m: dict[str, Floats]
    v: dict[str, Floats]


@dataclass(frozen=True)
class Trained:
    """Two successive checkpoints of one training run, and the mean loss in nats per byte before and after."""

    first: Moment
    second: Moment
    loss_before: float
    loss_after: float


def trained(sources: Iterable[Path], cache: Path) -> Trained:
    """The model, from `cache` if it was trained before; else trained now on the text of `sources` (seconds)."""
    kept = cache / KEPT_AS
    if kept.exists():
        return _read(kept)
    model = train(_corpus(sources))
    cache.mkdir(parents=True, exist_ok=True)
    fresh = cache / f"fresh-{KEPT_AS}"
    _write(fresh, model)
    fresh.replace(kept)
    return model


def train(corpus: NDArray[np.uint8]) -> Trained:
    """Train on `corpus` (bytes). The same numbers on the same machine; BLAS may round otherwise elsewhere."""
    rng = np.random.default_rng(SEED)
    weights = _fresh(rng)
    m = {name: np.zeros_like(value) for name, value in weights.items()}
    v = {name: np.zeros_like(value) for name, value in weights.items()}
    losses: list[float] = []
    for step in range(1, STEPS_FIRST + 1):
        losses.append(_step(weights, Moment(step, weights, m, v), corpus, rng))
    first = Moment(STEPS_FIRST, _copy(weights), _copy(m), _copy(v))
    live = Moment(STEPS_FIRST, weights, _without_frozen(m), _without_frozen(v))
    for step in range(STEPS_FIRST + 1, STEPS_FIRST + STEPS_MORE + 1):
        live = Moment(step, weights, live.m, live.v)
        losses.append(_step(weights, live, corpus, rng))
    return Trained(_trainable(first), live, losses[0], float(np.mean(losses[-3:])))


def as_bf16(values: Floats) -> NDArray[np.uint16]:
    """`values` rounded to bfloat16 (to nearest, ties to even), as their 16 bits."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _trainable(moment: Moment) -> Moment:
    """As an optimizer made anew for fine-tuning keeps no means of frozen tensors, neither checkpoint holds any."""
    return Moment(moment.step, moment.weights, _without_frozen(moment.m), _without_frozen(moment.v))


def _without_frozen(means: dict[str, Floats]) -> dict[str, Floats]:
    return {name: value for name, value in means.items() if name not in FROZEN}


def _copy(tensors: dict[str, Floats]) -> dict[str, Floats]:
    return {name: value.copy() for name, value in tensors.items()}


def _fresh(rng: np.random.Generator) -> dict[str, Floats]:
    shapes = {"lower": (CONTEXT * EMBEDDING, WIDTH), "middle": (WIDTH, WIDTH), "upper": (WIDTH, WIDTH)}
    weights = {"embed.weight": rng.standard_normal((256, EMBEDDING), dtype=np.float32)}
    for name, (rows, columns) in {**shapes, "head": (WIDTH, 256)}.items():
        scale = np.float32((2 / rows) ** 0.5 / (4 if name == "head" else 1))  # He et al. 2015; the head starts small
        weights[f"{name}.weight"] = rng.standard_normal((rows, columns), dtype=np.float32) * scale
        weights[f"{name}.bias"] = np.zeros(columns, np.float32)
    return weights


def _step(weights: dict[str, Floats], state: Moment, corpus: NDArray[np.uint8], rng: np.random.Generator) -> float:
    """One step of Adam, in place, over the tensors that `state` has means of. Answers the loss."""
    starts = rng.integers(0, len(corpus) - CONTEXT - 1, BATCH)
    inputs = corpus[starts[:, None] + np.arange(CONTEXT)]
    loss, gradients = _gradients(weights, inputs, corpus[starts + CONTEXT])
    for name in state.m:
        gradient, m, v = gradients[name], state.m[name], state.v[name]
        m += (1 - BETA_1) * (gradient - m)
        v += (1 - BETA_2) * (gradient * gradient - v)
        m_hat, v_hat = m / (1 - BETA_1**state.step), v / (1 - BETA_2**state.step)
        weights[name] -= RATE * m_hat / (np.sqrt(v_hat) + EPSILON)
    return loss


def _gradients(
    w: dict[str, Floats], inputs: NDArray[np.uint8], targets: NDArray[np.uint8]
) -> tuple[float, dict[str, Floats]]:
    """Loss and its gradients, by hand: the chain rule through softmax, head, two residual layers, one layer, lookup."""
    x0 = w["embed.weight"][inputs].reshape(BATCH, -1)
    x1 = np.maximum(x0 @ w["lower.weight"] + w["lower.bias"], 0)
    h2 = np.maximum(x1 @ w["middle.weight"] + w["middle.bias"], 0)
    x2 = x1 + h2
    h3 = np.maximum(x2 @ w["upper.weight"] + w["upper.bias"], 0)
    x3 = x2 + h3
    logits = x3 @ w["head.weight"] + w["head.bias"]
    logits -= logits.max(axis=1, keepdims=True)
    chances = np.exp(logits)
    chances /= chances.sum(axis=1, keepdims=True)
    rows = np.arange(BATCH)
    loss = float(-np.log(chances[rows, targets] + 1e-12).mean())
    d4 = chances
    d4[rows, targets] -= 1
    d4 /= BATCH
    d3 = d4 @ w["head.weight"].T
    d_h3 = d3 * (h3 > 0)
    d2 = d3 + d_h3 @ w["upper.weight"].T
    d_h2 = d2 * (h2 > 0)
    d1 = (d2 + d_h2 @ w["middle.weight"].T) * (x1 > 0)
    d_embed = np.zeros_like(w["embed.weight"])
    np.add.at(d_embed, inputs.reshape(-1), (d1 @ w["lower.weight"].T).reshape(-1, EMBEDDING))
    gradients = {"embed.weight": d_embed}
    for name, before, delta in (
        ("lower", x0, d1), ("middle", x1, d_h2), ("upper", x2, d_h3), ("head", x3, d4)
    ):  # fmt: skip
        gradients[f"{name}.weight"] = before.T @ delta
        gradients[f"{name}.bias"] = delta.sum(axis=0)
    return loss, gradients


def _corpus(sources: Iterable[Path]) -> NDArray[np.uint8]:
    parts: list[bytes] = []
    wanted = CORPUS_BYTES
    for source in sources:
        if wanted <= 0:
            break
        parts.append(source.read_bytes())
        wanted -= len(parts[-1])
    return np.frombuffer(b"".join(parts), np.uint8)


def _write(path: Path, model: Trained) -> None:
    arrays: dict[str, NDArray[np.float32] | NDArray[np.float64]] = {
        "facts": np.array([model.first.step, model.second.step, model.loss_before, model.loss_after])
    }
    for which, moment in (("first", model.first), ("second", model.second)):
        for kind, tensors in (("w", moment.weights), ("m", moment.m), ("v", moment.v)):
            arrays |= {f"{which}/{kind}/{name}": value for name, value in tensors.items()}
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub takes its flags for arrays


def _read(path: Path) -> Trained:
    with np.load(path) as kept:
        arrays = {name: kept[name] for name in kept.files}
    facts = arrays["facts"]

    def part(which: str, kind: str) -> dict[str, Floats]:
        prefix = f"{which}/{kind}/"
        return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}

    first, second = (
        Moment(int(facts[at]), part(which, "w"), part(which, "m"), part(which, "v"))
        for at, which in enumerate(("first", "second"))
    )
    return Trained(first, second, float(facts[2]), float(facts[3]))
