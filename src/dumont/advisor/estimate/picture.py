"""Memory of diffusion pictures and videos: the pipeline's parts, the denoiser's tensors, the decoder's pixels,
training.
"""

from dumont.advisor.catalogue import Pipeline
from dumont.advisor.estimate.part import GB, Part
from dumont.advisor.notation import Frame
from dumont.advisor.plan import Plan

DECODER_BYTES_PER_PIXEL = 1700.0
VIDEO_FRAMES_DECODED = 18
DENOISER_ROWS = 47.0


def frame_of(plan: Plan) -> Frame:
    """The picture or clip of a plan, or the pipeline's native one."""
    pipeline = _pipeline(plan)
    width, height, frames = pipeline.native
    stated = plan.job.frame
    if stated is None:
        return Frame(width, height, frames, pipeline.steps)
    clip = stated.frames if stated.frames > 1 or pipeline.kind == "image" else frames
    return Frame(stated.width, stated.height, clip, stated.steps or pipeline.steps)


def denoiser_tokens(plan: Plan) -> float:
    """Positions the denoiser works on: pixels / (latent · patch)² × latent frames, and up to 512 of text."""
    pipeline, frame = _pipeline(plan), frame_of(plan)
    side = pipeline.latent_down * pipeline.patch
    frames = 1 if frame.frames == 1 else 1 + (frame.frames - 1) // pipeline.frame_down
    return frame.width * frame.height / side**2 * frames + (0 if pipeline.unet else 256)


def picture_parts(plan: Plan) -> tuple[Part, ...]:
    """The parts of generating or training pictures, in GB per GPU."""
    parts = _training(plan) if plan.task in {"diffusion full-ft", "diffusion lora"} else _generation(plan)
    return tuple(part for part in parts if part.amount > 0)


def _pipeline(plan: Plan) -> Pipeline:
    assert plan.pipeline is not None, "a plan of a picture names its pipeline"
    return plan.pipeline


def _generation(plan: Plan) -> list[Part]:
    """All parts on the card, or with offloading only the one in use (diffusers enable_model_cpu_offload)."""
    pipeline, low = _pipeline(plan), f"{plan.job.parallelism} {plan.job.quant}".lower()
    width = plan.precision.weight_bytes
    denoiser = pipeline.denoiser_b * (plan.quant.bits / 8 if plan.quant.active else width)
    encoder_packed = plan.quant.active and (
        "te" in low.replace("text", "te").split() or pipeline.kind == "video" or "+te" in low
    )
    encoder = pipeline.text_encoder_b * (plan.quant.bits / 8 if encoder_packed else width)
    decode, denoise = _decoding(plan, tiled="tiling" in low or "tiled" in low), _denoising(plan)
    if "sequential" in low:
        held = max(denoiser, encoder) / 20
    elif "offload" in low:
        held = max(denoiser, encoder)
        if decode.amount + pipeline.vae_b * width > held + denoise.amount:
            return [decode, Part("weights", pipeline.vae_b * width, "decoder alone", "diffusers model offloading")]
        return [Part("weights", held, "the largest part alone", "diffusers model offloading"), denoise]
    else:
        held = denoiser / (plan.parallel.shards if plan.parallel.stage >= 3 else 1) + encoder + pipeline.vae_b * width
    formula = f"{pipeline.denoiser_b:g} B denoiser + {pipeline.text_encoder_b:g} B text + {pipeline.vae_b:g} B decoder"
    return [Part("weights", held, formula, pipeline.source), max(decode, denoise, key=lambda part: part.amount)]


def _decoding(plan: Plan, *, tiled: bool) -> Part:
    """The decoder at full size: about three feature maps of 256 channels in 16 bit are alive (AutoencoderKL, last
    up-block).

    Video decoders work through a few latent frames at a time and keep the borders: about 18 frames at once. Tiling
    bounds it
    to one tile.
    """
    frame, pipeline = frame_of(plan), _pipeline(plan)
    frames = 1 if frame.frames == 1 else min(VIDEO_FRAMES_DECODED, 0.37 * frame.frames)
    pixels = 512 * 512 if tiled else frame.width * frame.height
    width = 2.0 if plan.precision.act_bytes == 4 else 1.0
    size = pixels * frames * (plan.batch if pipeline.kind == "image" else 1) * DECODER_BYTES_PER_PIXEL * width
    return Part(
        "decoder",
        size / GB,
        f"{frame.width} × {frame.height} × {frames:g} × {DECODER_BYTES_PER_PIXEL:g} B",
        "diffusers AutoencoderKL",
    )


def _denoising(plan: Plan) -> Part:
    """One block's tensors: about 47 values of the hidden size per position in a two-stream transformer (query, key,
    value,
    gate, feed-forward of four times the width, fp32 normalisation); a UNet's widest stage holds about 20 maps of
    320."""
    pipeline = _pipeline(plan)
    passes = pipeline.passes if pipeline.kind == "image" else 1
    positions = denoiser_tokens(plan) * plan.batch * passes / max(1, plan.parallel.gpus if _splits(plan) else 1)
    rows = 20.0 if pipeline.unet else DENOISER_ROWS
    size = positions * pipeline.hidden * rows * plan.precision.act_bytes
    return Part(
        "denoiser",
        size / GB,
        f"{positions:.0f} positions × {pipeline.hidden} × {rows:g}",
        "one block, arXiv:2212.09748",
    )


def _splits(plan: Plan) -> bool:
    low = f"{plan.job.attention} {plan.job.parallelism}".lower()
    return any(word in low for word in ("ulysses", "context", "ring", " sp"))


def _training(plan: Plan) -> list[Part]:
    """DreamBooth or adapter training: fp32 trained weights, gradients and two states, frozen parts in 16 bit, and the
    UNet's
    kept activations: about 5.5 GB per 512-pixel picture of an SD UNet in mixed precision without checkpointing."""
    pipeline, frame = _pipeline(plan), frame_of(plan)
    full = plan.task == "diffusion full-ft"
    width = 4 if plan.precision.mixed or plan.precision.act_bytes == 4 else 2
    frozen = pipeline.text_encoder_b + pipeline.vae_b
    state = plan.optimizer.state_bytes or 4.0
    trained = pipeline.denoiser_b * (width + 4 + plan.optimizer.states * state) if full else pipeline.denoiser_b * width
    ratio = (frame.width * frame.height) / (512 * 512) * (pipeline.denoiser_b / 0.86) ** 0.5
    pictures = plan.batch * (
        2 if "dreambooth" in plan.job.framework.lower() else 1
    )  # a prior picture beside each (arXiv:2208.12242)
    kept = 5.5 * ratio * pictures * (0.12 if plan.checkpointing == "yes" else 1.0)
    return [
        Part("weights and states", trained, f"{pipeline.denoiser_b:g} B denoiser", "arXiv:1710.03740"),
        Part("frozen parts", frozen * width, "text encoder and decoder", pipeline.source),
        Part("activations", kept, "UNet blocks at every resolution", "arXiv:1604.06174"),
    ]
