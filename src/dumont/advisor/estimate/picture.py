"""Memory of diffusion pictures and videos: the pipeline's parts, the denoiser's tensors, the decoder's pixels,
training.
"""

from dumont.advisor.catalogue import Pipeline
from dumont.advisor.estimate.part import GB, Part
from dumont.advisor.notation import Frame
from dumont.advisor.plan import Plan

DECODER_BYTES_PER_PIXEL = 1700.0
VIDEO_BYTES_PER_PIXEL = 3800.0
TILE_PIXELS = 512 * 512
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
        held = max(denoiser, 0.0 if "t5_cpu" in low or "encoder on cpu" in low else encoder)
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

    Video decoders work through one or two latent frames at a time, with feature maps of three dimensions and the
    borders of the last ones: a bit more than twice as much per pixel. Tiling bounds both to one tile.
    """
    frame, pipeline = frame_of(plan), _pipeline(plan)
    video = pipeline.kind == "video"
    per_pixel = VIDEO_BYTES_PER_PIXEL if video else DECODER_BYTES_PER_PIXEL
    at_once = min(pipeline.frames_decoded, frame.frames) if video else plan.batch
    tile = TILE_PIXELS // 3 if video else TILE_PIXELS
    pixels = frame.width * frame.height
    pixels = min(tile, pixels) if tiled else pixels
    size = pixels * at_once * per_pixel * plan.precision.act_bytes / 2
    return Part("decoder", size / GB, f"{pixels} pixels × {at_once} × {per_pixel:g} B", "diffusers AutoencoderKL")


def _denoising(plan: Plan) -> Part:
    """One block's tensors: about 47 values of the hidden size per position in a two-stream transformer (query, key,
    value, gate, feed-forward of four times the width, fp32 normalisation); a UNet's widest stage holds about 20
    maps of 320.
    """
    pipeline = _pipeline(plan)
    passes = pipeline.passes if pipeline.kind == "image" else 1
    positions = denoiser_tokens(plan) * plan.batch * passes / max(1, plan.parallel.gpus if _splits(plan) else 1)
    rows = 20.0 if pipeline.unet else DENOISER_ROWS
    size = positions * pipeline.hidden * rows * plan.precision.act_bytes
    if plan.quadratic:  # scores and probabilities of eight heads, one layer at a time
        size += positions**2 / (plan.batch * passes) * 8 * 2 * plan.precision.act_bytes
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
    """Training a denoiser or an adapter of it: trained weights with gradients and states, frozen parts, kept
    activations.
    """
    pipeline = _pipeline(plan)
    full = plan.task == "diffusion full-ft"
    width = 4 if plan.precision.mixed or plan.precision.act_bytes == 4 else 2
    state = plan.optimizer.state_bytes or 4.0
    per = width + 4 + plan.optimizer.states * state if full else (plan.quant.bits / 8 if plan.quant.active else width)
    pictures = plan.batch * (
        2 if "dreambooth" in plan.job.framework.lower() else 1
    )  # a prior beside each, arXiv:2208.12242
    kept = (_unet_kept if pipeline.unet else _blocks_kept)(plan, pictures)
    return [
        Part(
            "weights and states",
            pipeline.denoiser_b * per,
            f"{pipeline.denoiser_b:g} B × {per:g} B",
            "arXiv:1710.03740",
        ),
        Part(
            "frozen parts", (pipeline.text_encoder_b + pipeline.vae_b) * width, "text encoder, decoder", pipeline.source
        ),
        Part("activations", kept, f"{pictures} pictures", "arXiv:1604.06174, arXiv:2205.05198"),
    ]


def _unet_kept(plan: Plan, pictures: int) -> float:
    """GB that a UNet keeps: about 5.5 per 512-pixel picture of Stable Diffusion in mixed precision, an eighth of it
    with checkpointing; wider UNets grow with the square root of their parameters.
    """
    frame = frame_of(plan)
    ratio = frame.width * frame.height * frame.frames / (512 * 512) * (_pipeline(plan).denoiser_b / 0.86) ** 0.5
    return float(5.5 * ratio * pictures * (0.12 if plan.checkpointing == "yes" else 1.0))


def _blocks_kept(plan: Plan, pictures: int) -> float:
    """GB that a diffusion transformer keeps: 34 · hidden bytes per position and block (arXiv:2205.05198); blocks
    follow from 14 · hidden² parameters each (attention 4, feed-forward 8, modulation 2; arXiv:2212.09748).
    """
    pipeline = _pipeline(plan)
    blocks = pipeline.denoiser_b * 1e9 / (14 * pipeline.hidden**2)
    per_block = denoiser_tokens(plan) * pictures * 34 * pipeline.hidden
    if plan.checkpointing == "yes":
        return (blocks * per_block * 2 / 34 + per_block) / GB
    return blocks * per_block / GB
