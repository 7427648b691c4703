"""Parallelism: how weights, gradients, optimizer states and tokens are divided over the GPUs of a job."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parallel:
    """Divisors per GPU. ZeRO after arXiv:1910.02054: 1 shards states, 2 also gradients, 3 (FSDP) also weights."""

    gpus: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    stage: int = 0
    shards: int = 1
    offload: bool = False
    offload_model: bool = False
    stated: bool = True

    @property
    def weights(self) -> float:
        """What the weights held by one GPU are divided by."""
        return self.tensor * self.pipeline * (self.shards if self.stage >= 3 else 1)

    @property
    def gradients(self) -> float:
        """What the gradients held by one GPU are divided by."""
        return self.tensor * self.pipeline * (self.shards if self.stage >= 2 else 1)

    @property
    def states(self) -> float:
        """What the optimizer states held by one GPU are divided by."""
        return self.tensor * self.pipeline * (self.shards if self.stage >= 1 else 1)


def parallel(text: str, n_gpus: int | None, training: bool) -> Parallel:
    """The division a text and a GPU count mean; a training on several GPUs without a word is taken as plain data
    parallel.
    """
    low = text.lower().replace("_", "-")
    tensor, pipe, context = _degree(low, "tp"), _degree(low, "pp"), _degree(low, "cp")
    if re.search(r"layer-?split|device-?map|pipeline", low) and n_gpus and pipe == 1:
        pipe = n_gpus
    if "tensor" in low and tensor == 1 and n_gpus:
        tensor = n_gpus
    gpus = n_gpus or tensor * pipe * context
    if not training and tensor * pipe == 1 and gpus > 1 and not re.search(r"context|ulysses|ring|ddp|data|sp\b", low):
        tensor = gpus
    model = min(gpus, tensor * pipe) if tensor * pipe > 1 else 1
    stage = _stage(low)
    sharded = re.search(r"fsdp(\d+)", low.replace("fsdp2x", "fsdp").replace("fsdp2", "fsdp"))
    shards = int(sharded.group(1)) if sharded else max(1, gpus // model)
    offload = "offload" in low
    return Parallel(
        gpus, tensor, pipe, context, stage, shards, offload, "model" in low or "sequential" in low, stated=bool(low)
    )


def _degree(low: str, name: str) -> int:
    found = re.search(rf"(?<![a-wyz]){name}-?=?(\d+)", low)
    return max(1, int(found.group(1))) if found else 1


def _stage(low: str) -> int:
    if "no-shard" in low or ("ddp" in low and "fsdp" not in low and "zero" not in low):
        return 0
    if found := re.search(r"zero-?(\d)", low):
        return min(3, int(found.group(1)))
    if "shard-grad-op" in low:
        return 2
    return 3 if "fsdp" in low or "full-shard" in low or ("deepspeed" in low and "offload" in low) else 0
