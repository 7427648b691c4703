"""Pace of pictures, videos, speech, vision networks and rendering."""

import re
from collections.abc import Mapping

from dumont.advisor.catalogue import Catalogue, Gpu
from dumont.advisor.estimate.part import Part
from dumont.advisor.estimate.picture import frame_of
from dumont.advisor.estimate.rate import product_tflops, traffic_gbs
from dumont.advisor.plan import Plan

UNET_GB_PER_TFLOP = 8.3
WINDOW_S = 30.0
DECODER_STEPS = 200  # about 120 tokens of text and timestamps, windows decoded again, and prompts
UNET_LAUNCH_S = 0.020
TRANSFORMER_LAUNCH_S = 0.012
TRAFFIC_PER_FEATURE_MAP = 22.0
HOST_IMAGES_PER_S = 3200.0


def step_seconds(plan: Plan, gpu: Gpu) -> tuple[Part, ...]:
    """Seconds of one denoising step of a batch: products, the UNet's feature maps, and launches when the step is
    small.

    Work per step is the native one scaled by positions; attention's quadratic share grows faster for video
    (arXiv:2212.09748).
    """
    pipeline = plan.pipeline
    assert pipeline is not None, "a plan of a picture names its pipeline"
    frame = frame_of(plan)
    width, height, frames = pipeline.native
    ratio = frame.width * frame.height * frame.frames / (width * height * frames)
    if pipeline.kind == "video":
        ratio **= 1.4
    work = pipeline.tflop_per_step * ratio * pipeline.passes * plan.batch
    rate = product_tflops(gpu, fp8="fp8" in plan.quant.name and "dq" in plan.quant.name) * (
        0.85 if not pipeline.unet else 1.0
    )
    products = work / rate / _gpus(plan)
    moved = work * (UNET_GB_PER_TFLOP if pipeline.unet else 2.0) / _gpus(plan)
    low = plan.job.framework.lower()
    if "stable-fast" in low or "compile" in low or "tensorrt" in low or plan.precision.compiled:
        moved *= 0.35
    traffic = moved / traffic_gbs(gpu)
    launch = UNET_LAUNCH_S if pipeline.unet else TRANSFORMER_LAUNCH_S
    launch *= 0.3 if "stable-fast" in low or "tensorrt" in low else 1.7 if "webui" in low or "2022" in low else 1.0
    return (
        Part("products", products, f"{work:.1f} TFLOP", "roofline"),
        Part("memory traffic", traffic, f"{moved:.0f} GB", "roofline"),
        Part("launches", max(0.0, launch - products - traffic), "kernels launched one by one", plan.framework.source),
    )


def _gpus(plan: Plan) -> float:
    return plan.parallel.gpus * 0.85 if plan.parallel.gpus > 1 else 1.0


def picture_seconds(plan: Plan, gpu: Gpu) -> tuple[Part, ...]:
    """Seconds of a whole batch of pictures or clips: all steps, and the decoder at about 1.2 TFLOP per megapixel."""
    steps = frame_of(plan).steps
    step = step_seconds(plan, gpu)
    frame = frame_of(plan)
    megapixels = frame.width * frame.height * frame.frames * plan.batch / 1e6
    decoder = megapixels * 2.5 / (0.3 * product_tflops(gpu))
    return (*(Part(part.name, part.amount * steps, part.formula, part.source) for part in step),
            Part("decoder", decoder, f"{megapixels:.1f} megapixels", "AutoencoderKL"))  # fmt: skip


def transcription_factor(plan: Plan, gpu: Gpu) -> tuple[float, tuple[Part, ...]]:
    """Seconds of audio per second: an encoder pass and about 200 decoder steps per window of 30 s (arXiv:2212.04356).

    Each decoder step reads the decoder and starts its kernels; beams share both. Batches share the launches.
    """
    shape = plan.transformer
    low = plan.job.framework.lower()
    encoder_b, decoder_b = shape.params * 0.42, shape.params * 0.55
    width = plan.quant.bits / 8 if plan.quant.active else plan.precision.weight_bytes
    fp32 = plan.precision.name == "fp32"
    encode = 2.0 * encoder_b * 1500 / (0.5 * product_tflops(gpu, fp32=fp32) * 1e12)
    native = "faster" in low or "ctranslate" in low or "cpp" in low
    beams = 5 if "beam 5" in plan.job.data.lower() or ("beam" not in f"{low} {plan.job.data.lower()}" and native) else 1
    per_layer = (0.3e-3 * (1.3 if beams > 1 else 1.0)) if native else 0.9e-3
    if "flash" in low:
        per_layer *= 0.8
    reads = decoder_b * width / (0.6 * gpu.bandwidth * 1e9)
    per_step = max(shape.layers * per_layer, reads * (1 + 0.15 * beams))
    decode = DECODER_STEPS * per_step / plan.batch**0.7
    parts = (
        Part("encoder", encode, "1,500 frames", "arXiv:2212.04356"),
        Part("decoder", decode, f"{DECODER_STEPS} steps / batch of {plan.batch}", "arXiv:2212.04356"),
    )
    return WINDOW_S / (encode + decode), parts


def image_seconds(plan: Plan, gpu: Gpu) -> tuple[Part, ...]:
    """Seconds per image of a vision network: training moves every feature map about 22 times in mixed precision
    (written, normalised, activated, and again backward), inference starts each layer and multiplies.
    """
    vision = plan.vision
    assert vision is not None, "a plan of a vision job names its network"
    side = plan.job.frame.width if plan.job.frame else vision.native_px
    area = (side / vision.native_px) ** 2
    low = plan.job.framework.lower()
    if plan.task == "cv-inference":
        tuned = "tensorrt" in low
        launch = vision.layers * (10e-6 if tuned else 40e-6) / max(1, plan.batch)
        products = vision.gflops * area / 1e3 / ((0.45 if vision.kind == "cnn" else 0.6) * product_tflops(gpu))
        return (
            Part("launches", launch, f"{vision.layers} layers", "TensorRT latency floor"),
            Part("products", products, f"{vision.gflops * area:g} GFLOP", "roofline"),
        )
    tuned = "dali" in low or "dle" in low or "deeplearningexamples" in low
    moved = (
        vision.act_mb * area / 1e3 * TRAFFIC_PER_FEATURE_MAP * plan.precision.act_bytes / 2 * (0.75 if tuned else 1.0)
    )
    traffic = moved / traffic_gbs(gpu) * 0.85
    products = 3 * vision.gflops * area / 1e3 / product_tflops(gpu, fp32=plan.precision.name == "fp32")
    host = 0.0 if tuned else max(0.0, 1 / HOST_IMAGES_PER_S - traffic - products)
    return (
        Part("memory traffic", traffic, f"{moved:.2f} GB per image", "roofline"),
        Part("products", products * (0.3 if vision.kind == "cnn" else 1.0), "what traffic does not hide", "roofline"),
        Part("reading pictures", host, "decoding on the host", "NVIDIA DALI documentation"),
    )  # fmt: skip


def render_score(gpu: Gpu, known: Catalogue, *, without_own: bool = False) -> tuple[float, bool]:
    """Blender samples per minute: the published median where there is one, else the same architecture's samples per
    TFLOPS.

    Cards of one architecture differ in fp32 rate, and ray tracing cores go with it. Returns the score and whether it
    was published.
    """
    own = None if without_own else _own_score(gpu, known.renders)
    if own is not None:
        return own, True
    ratios = [
        score / other.fp32_tflops
        for name, score in known.renders.items()
        if (other := known.gpu(name)) is not None
        and other.name != gpu.name
        and _kin(other) == _kin(gpu)
        and other.fp32_tflops
    ]
    if not ratios:
        ratios = [70.0 if not gpu.rt_cores else 130.0]
    return sorted(ratios)[len(ratios) // 2] * gpu.fp32_tflops, False


def _own_score(gpu: Gpu, renders: Mapping[str, float]) -> float | None:
    for name, score in renders.items():
        if name == gpu.name or re.sub(r"( \d+GB| SXM\d?)", "", gpu.name) == name or name.startswith(f"{gpu.name} "):
            return score
    return None


def _kin(gpu: Gpu) -> str:
    return gpu.arch if gpu.rt_cores else "no ray tracing"
