"""Memory of speech recognition, vision networks and rendering."""

from dumont.advisor.estimate.part import GB, Part
from dumont.advisor.plan import Plan

SCENE_GB = 4.0
SPEECH_TOKENS = 100


def speech_parts(plan: Plan) -> tuple[Part, ...]:
    """Whisper: weights, the encoder's 1,500 frames, and a decoder cache per beam (arXiv:2212.04356).

    Speech has about 100 tokens in 30 s (150 words a minute); beams multiply their cache, not the encoder's.
    """
    shape = plan.transformer
    bits = plan.quant.bits if plan.quant.active else 8.0 * plan.precision.weight_bytes
    weights = shape.params * bits / 8
    beams = 5 if "beam 1" not in plan.job.data.lower() else 1
    cache = 4.0 * shape.layers * shape.hidden * (SPEECH_TOKENS * beams + 1500) * plan.batch
    encoder = (
        1500
        * plan.batch
        * (14 * shape.hidden * 2 + shape.heads * 1500 * 2 * (0 if plan.attention.startswith("flash") else 1) / 4)
    )
    return (
        Part("weights", weights / GB, f"{shape.params / 1e9:.2f} B × {bits:g} bit", "arXiv:2212.04356"),
        Part("decoder cache", cache / GB, f"{beams} beams × {SPEECH_TOKENS} tokens + 1,500 frames", "arXiv:2212.04356"),
        Part("encoder", encoder / GB, "1,500 frames, one block", "arXiv:2205.05198"),
    )


def vision_parts(plan: Plan) -> tuple[Part, ...]:
    """A vision network: weights (and their training states) and the feature maps of a batch, scaled by the picture's
    area.
    """
    vision = plan.vision
    assert vision is not None, "a plan of a vision job names its network"
    side = plan.job.frame.width if plan.job.frame else vision.native_px
    training = plan.task == "cv-train"
    per_image = vision.act_mb / 1e3 * (side / vision.native_px) ** 2 * plan.precision.act_bytes / 2
    kept = per_image * plan.batch * (1.0 if training else 0.06)
    states = (
        4 * (2 + (plan.optimizer.states if plan.job.optimizer else 1.0)) if training else plan.precision.weight_bytes
    )
    return (
        Part(
            "weights and states", vision.params_b * states, f"{vision.params_b:g} B × {states:g} B", "arXiv:1710.03740"
        ),
        Part("feature maps", kept, f"{plan.batch} × {per_image * 1e3:.0f} MB", vision.source),
        Part("convolution workspace", 0.5, "cuDNN algorithms", "cuDNN developer guide"),
    )


def render_parts(plan: Plan) -> tuple[Part, ...]:
    """A scene in memory: unknown until it is measured; a typical production scene is assumed."""
    del plan
    return (Part("scene", SCENE_GB, "geometry, textures, BVH", "an assumption; measure a sample frame"),)
