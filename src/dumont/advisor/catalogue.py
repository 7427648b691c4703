"""The catalogue: GPUs, models, diffusion pipelines, vision networks and render scores, read from dated data files."""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from typing import TypeVar

from dumont.advisor.notation import gigabytes_in, number, params_in_name
from dumont.advisor.shape import Shape

GIB = float(2**30)
_NOISE = re.compile(r"\b(nvidia|geforce|tesla|amd|instinct|graphics|gpu|card|mod|\d+w|vram|class)\b")
_FORMS = {"pcie", "sxm", "sxm2", "sxm4", "sxm5", "sxm3", "nvl", "oam"}
_STACKED = re.compile(r"(Tesla )?(P100|V100|A100|A800|A30|H100|H200|H20|H800|GH200|B200|B300|MI\d+X?)\b")
_INLINE_ECC = re.compile(r"(A10G?|A16|A2|A40|L2|L4|L20|L40S?|Tesla T4|Tesla P40)\b")
_DISTINGUISHING = {"ti", "super", "laptop", "ada", "maxq", "pro", "quadro"}
_MODEL_SUFFIX = re.compile(
    r"(-|\b)(instruct|chat|hf|base|it|pt|sft|dpo|gguf|awq|gptq|int4|int8|4bit|bnb|fp8|fp16|bf16|preview|thinking|"
    r"v0\.\d|v1\.\d|\d{4}|4k|8k|16k|32k|128k|uncased|cased|unsloth)(?=-|$|\b)"
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU's data sheet. Bandwidths in GB/s (1e9), rates in dense TFLOPS, memory in GiB as sold; 0 = none or
    unknown.
    """

    name: str
    arch: str
    vram_gb: float
    bandwidth: float
    bf16_tflops: float
    fp16_tflops: float
    fp8_tflops: float
    fp32_tflops: float
    reachable_tflops: float
    nvlink: float
    rt_cores: bool
    tdp_w: float
    note: str = ""
    source: str = ""
    as_of: str = ""

    @property
    def half_tflops(self) -> float:
        """The dense 16-bit rate a training uses: bf16 where the chip has it, else fp16, else fp32."""
        return self.bf16_tflops or self.fp16_tflops or self.fp32_tflops

    @property
    def stacked(self) -> bool:
        """Whether its memory is stacked (HBM), as on the large data-centre cards."""
        return _STACKED.match(self.name) is not None

    @property
    def usable_bytes(self) -> float:
        """Bytes a process can take. Inline ECC, on by default on GDDR server cards, takes one sixteenth (nvidia-smi
        shows 22.5 of 24 GiB on A10G and L4, 45.0 of 48 on A40 and L40S); driver and tables keep about 0.4 GiB on
        any card.
        """
        inline_ecc = _INLINE_ECC.match(self.name) is not None
        return (self.vram_gb * (15 / 16 if inline_ecc else 1.0) - 0.4) * GIB


@dataclass(frozen=True, slots=True)
class Model:
    """A known model: its shape when it is a transformer; `family` is llm, vlm, encoder, asr, diffusion, video or cv."""

    name: str
    family: str
    params_b: float
    shape: Shape | None
    max_context: int = 0
    license: str = ""
    gated: str = ""
    source: str = ""
    as_of: str = ""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A diffusion pipeline's parts, in billions of parameters, and its work per denoising step at its native size."""

    name: str
    kind: str
    denoiser_b: float
    text_encoder_b: float
    vae_b: float
    hidden: int
    patch: int
    latent_down: int
    frame_down: int
    tflop_per_step: float
    native: tuple[int, int, int]
    steps: int
    passes: int
    frames_decoded: int
    unet: bool
    source: str = ""


@dataclass(frozen=True, slots=True)
class Vision:
    """A vision network: billions of parameters, GFLOP (2 × MAC) and kept activations per image in 16 bit at its
    native size.
    """

    name: str
    kind: str
    params_b: float
    gflops: float
    native_px: int
    act_mb: float
    layers: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything known before a user says anything; immutable, looked up by the names people write."""

    gpus: tuple[Gpu, ...]
    models: tuple[Model, ...]
    pipelines: tuple[Pipeline, ...]
    visions: tuple[Vision, ...]
    renders: Mapping[str, float]
    gpu_words: tuple[tuple[frozenset[str], frozenset[str], Gpu], ...]
    model_keys: Mapping[str, Model]
    pipeline_keys: Mapping[str, Pipeline]
    vision_keys: Mapping[str, Vision]
    _gpu_cache: dict[str, tuple[Gpu, ...]] = field(default_factory=dict, compare=False, repr=False)

    def gpus_named(self, text: str) -> tuple[Gpu, ...]:
        """All parts a text may mean: "A100" → 40 and 80 GB; "H100 96GB" → that one; () for an unknown name."""
        if text not in self._gpu_cache:
            if len(self._gpu_cache) > 4096:
                self._gpu_cache.clear()
            self._gpu_cache[text] = self._matching(text)
        return self._gpu_cache[text]

    def _matching(self, text: str) -> tuple[Gpu, ...]:
        words, forms = _gpu_words(text)
        memory = gigabytes_in(text)
        if not words:
            return (_card_of(memory),) if memory else ()
        told = words & _DISTINGUISHING
        found = [(len(own), own, own_forms, gpu) for own, own_forms, gpu in self.gpu_words if told <= own <= words]
        if not found:
            return ()
        most = max(count for count, *_ in found)
        best = [(own_forms, gpu) for count, _, own_forms, gpu in found if count == most]
        if forms and any(own_forms & forms for own_forms, _ in best):
            best = [(own_forms, gpu) for own_forms, gpu in best if own_forms & forms]
        parts = list(dict.fromkeys(gpu for _, gpu in best))
        if memory is None:
            return tuple(parts)
        exact = [gpu for gpu in parts if abs(gpu.vram_gb - memory) <= 0.07 * memory]
        return tuple(exact) or (replace(parts[0], vram_gb=memory),)

    def gpu(self, text: str) -> Gpu | None:
        """The likeliest part a text means: the best measured, then the largest; None for an unknown name."""
        parts = self.gpus_named(text)
        return max(parts, key=lambda gpu: (gpu.reachable_tflops, gpu.vram_gb, gpu.bandwidth), default=None)

    def model(self, name: str) -> Model | None:
        """The model a name means, whoever published it and however it was tuned; None when unknown."""
        key = model_key(name)
        if not key:
            return None
        found = self.model_keys.get(key) or self.model_keys.get(_MODEL_SUFFIX.sub("", key).strip("-"))
        if found is not None:
            return found
        return self._relative(key)

    def _relative(self, key: str) -> Model | None:
        """A model of the same family and about the same size: a fine-tune keeps its parent's shape."""
        billions = params_in_name(key)
        words = set(key.split("-"))
        close = [
            (len(words & set(other.split("-"))), -abs(model.params_b - billions), model)
            for other, model in self.model_keys.items()
            if billions and 0.9 < model.params_b / billions < 1.2 and _family(other) == _family(key)
        ]
        return max(close, key=lambda item: item[:2])[2] if close else None

    def pipeline(self, name: str) -> Pipeline | None:
        """The diffusion pipeline a name means; None when unknown."""
        return _by_containment(name, self.pipeline_keys)

    def vision(self, name: str) -> Vision | None:
        """The vision network a name means; None when unknown."""
        return _by_containment(name, self.vision_keys)


def model_key(name: str) -> str:
    """A name's comparable form: lower case, no publisher, words joined by "-"."""
    low = name.lower().rsplit("/", 1)[-1] if name.count("/") == 1 and " " not in name else name.lower()
    return re.sub(r"[^a-z0-9.]+", "-", low).strip("-")


def _family(key: str) -> str:
    found = re.match(r"[a-z]+", key)
    return found.group() if found else key


def _gpu_words(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """The words that name a part, and those that name its form; "RTX3090Ti" and "RTX_3090_Ti" read alike."""
    low = _NOISE.sub(" ", re.sub(r"[_\-/(),]+", " ", text.lower()))
    low = re.sub(r"\d+(?:\.\d+)?\s*gi?b\b", " ", low)
    low = re.sub(r"\b(rtx|gtx)(?=\d)", r"\1 ", low)
    low = re.sub(r"(?<=\d)(ti|super|ada|mobile|laptop)\b", r" \1", low)
    low = re.sub(r"\b(\d{4})s\b", r"\1 super", low)
    words = low.replace("super super", "super").replace("max q", "maxq").replace("mobile", "laptop").split()
    forms = {form for word in words for form in _FORMS if word == form}
    plain = {"sxm" if form.startswith("sxm") else form for form in forms}
    return frozenset(
        word for word in words if word not in _FORMS and word not in {"rtx", "x", "of", "per", "q"}
    ), frozenset(plain)


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("dumont.advisor").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _value(row: Mapping[str, str], name: str) -> float:
    return number(row.get(name)) or 0.0


def _gpu_of(row: Mapping[str, str]) -> Gpu:
    return Gpu(
        name=row["gpu"],
        arch=row["arch"],
        vram_gb=_value(row, "vram_gb"),
        bandwidth=_value(row, "mem_bw_gbs"),
        bf16_tflops=_value(row, "bf16_dense_tflops"),
        fp16_tflops=_value(row, "fp16_dense_tflops"),
        fp8_tflops=_value(row, "fp8_dense_tflops"),
        fp32_tflops=_value(row, "fp32_tflops"),
        reachable_tflops=_value(row, "max_achievable_matmul_bf16_tflops"),
        nvlink=_value(row, "nvlink_gbs"),
        rt_cores=row["rt_cores"] == "y",
        tdp_w=_value(row, "tdp_w"),
        note=row["note"],
        source=row["source"],
        as_of=row["as_of"],
    )


def _model_of(row: Mapping[str, str]) -> Model:
    params, family = _value(row, "params_b"), row["family"]
    shape = None
    if _value(row, "layers"):
        layers, window = int(_value(row, "layers")), int(_value(row, "sliding_window"))
        kv = _value(row, "kv_kib_per_token_bf16") * 1024
        plain_kv = 4.0 * layers * _value(row, "kv_heads") * _value(row, "head_dim")
        shape = Shape(
            params=params * 1e9,
            active=_value(row, "active_params_b") * 1e9,
            layers=layers,
            hidden=int(_value(row, "hidden")),
            heads=int(_value(row, "heads")),
            kv_heads=int(_value(row, "kv_heads")),
            head_dim=int(_value(row, "head_dim")),
            ffn=int(_value(row, "ffn")),
            vocab=int(_value(row, "vocab")),
            experts=int(_value(row, "n_experts")),
            experts_active=int(_value(row, "experts_per_token")),
            tied=row["tied_embeddings"] == "y",
            window=window,
            window_share=_WINDOW_SHARE.get(window, 0.5) if window else 0.0,
            kv_bytes=kv if kv and kv < 0.9 * plain_kv else 0.0,
            encoder=family == "encoder",
            two_stacks=family in {"encoder-decoder", "asr"},
        )
    return Model(
        name=row["model"],
        family=family,
        params_b=params,
        shape=shape,
        max_context=int(_value(row, "max_context")),
        license=row["license"],
        gated=row["gated"],
        source=row["source"],
        as_of=row["as_of"],
    )


_WINDOW_SHARE = {512: 5 / 6, 1024: 5 / 6, 4096: 0.5, 128: 0.5, 8192: 0.75, 2048: 1.0, 262145: 0.0}


def _aliases(row: Mapping[str, str]) -> list[str]:
    return [alias for alias in row.get("aliases", "").split(";") if alias]


_Entry = TypeVar("_Entry")


def _by_containment(name: str, keyed: Mapping[str, _Entry]) -> _Entry | None:
    """The entry whose key is the name, or the longest key that the name begins with, or that it holds."""
    key = model_key(name)
    if key in keyed:
        return keyed[key]
    held = [own for own in keyed if key and re.search(rf"(?:^|-){re.escape(own)}(?:-|$)", key)]
    return keyed[max(held, key=len)] if held else None


def _card_of(gigabytes: float) -> Gpu:
    """A card of which only the memory is known ("24GB class"): it can be too small, but has no speed."""
    return Gpu(f"{gigabytes:g} GB card", "", gigabytes, 0, 0, 0, 0, 0, 0, 0, rt_cores=False, tdp_w=0)


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """The catalogue that ships with Dumont, read once."""
    gpu_rows, model_rows = _rows("gpus.csv"), _rows("models.csv")
    pipeline_rows, vision_rows = _rows("pipelines.csv"), _rows("vision.csv")
    gpus = tuple(_gpu_of(row) for row in gpu_rows)
    models = tuple(_model_of(row) for row in model_rows)
    pipelines = tuple(_pipeline_of(row) for row in pipeline_rows)
    visions = tuple(_vision_of(row) for row in vision_rows)
    names = [
        (name, gpu)
        for row, gpu in zip(gpu_rows, gpus, strict=True)
        for name in (gpu.name, *row["aliases"].split(","))
        if name
    ]
    return Catalogue(
        gpus=gpus,
        models=models,
        pipelines=pipelines,
        visions=visions,
        renders={
            row["gpu"]: _value(row, "samples_per_min")
            for row in _rows("render_scores.csv")
            if row["backend"] == "OptiX"
        },
        gpu_words=_distinct_words(names),
        model_keys=_keys(zip(model_rows, models, strict=True)),
        pipeline_keys=_keys(zip(pipeline_rows, pipelines, strict=True)),
        vision_keys=_keys(zip(vision_rows, visions, strict=True)),
    )


def _distinct_words(names: Iterable[tuple[str, Gpu]]) -> tuple[tuple[frozenset[str], frozenset[str], Gpu], ...]:
    return tuple({(*_gpu_words(name), gpu) for name, gpu in names if _gpu_words(name)[0]})


def _keys(rows: Iterable[tuple[Mapping[str, str], _Entry]]) -> dict[str, _Entry]:
    """Entries by every name they have; the entry that comes first in the file keeps a contested name."""
    keyed: dict[str, _Entry] = {}
    for row, entry in rows:
        own = model_key(row["model"])
        names = [own, _MODEL_SUFFIX.sub("", own).strip("-"), *map(model_key, _aliases(row))]
        if row.get("hf_id"):
            names.append(model_key(row["hf_id"]))
        for name in names:
            keyed.setdefault(name, entry)
    return keyed


def _pipeline_of(row: Mapping[str, str]) -> Pipeline:
    return Pipeline(
        name=row["model"],
        kind=row["kind"],
        denoiser_b=_value(row, "denoiser_b"),
        text_encoder_b=_value(row, "text_encoder_b"),
        vae_b=_value(row, "vae_b"),
        hidden=int(_value(row, "hidden")),
        patch=int(_value(row, "patch")),
        latent_down=int(_value(row, "latent_down")),
        frame_down=int(_value(row, "frame_down")),
        tflop_per_step=_value(row, "tflop_per_step"),
        steps=int(_value(row, "steps")),
        passes=int(_value(row, "passes_per_step")),
        native=(int(_value(row, "native_width")), int(_value(row, "native_height")), int(_value(row, "native_frames"))),
        frames_decoded=int(_value(row, "frames_decoded")),
        unet=row["unet"] == "y",
        source=row["source"],
    )


def _vision_of(row: Mapping[str, str]) -> Vision:
    return Vision(
        name=row["model"],
        kind=row["kind"],
        params_b=_value(row, "params_b"),
        gflops=_value(row, "gflops"),
        native_px=int(_value(row, "native_px")),
        act_mb=_value(row, "act_mb_fp16"),
        layers=int(_value(row, "layers")),
        source=row["source"],
    )
