"""Which task a text is about: one decision over the signals heard and the kinds of models named."""

from collections.abc import Callable

from dumont.advisor.reader.page import Page

PRETRAINING_TOKENS_PER_WEIGHT = 3
PRETRAINING_TOKENS_MIN = 5e9  # nobody fine-tunes on so many; "training on 20B tokens" is pretraining
_TRAINING = ("finetune", "train", "lora", "qlora", "full", "dreambooth")
_TUNING = ("finetune", "lora", "qlora", "full", "dpo", "rl")


def task_of(page: Page) -> str:
    """The task, from the most particular domain to the most general one; `unknown` when the text does not say."""
    for domain in _DOMAINS:
        if (task := domain(page)) is not None:
            return task
    return "unknown"


def is_training(page: Page) -> bool:
    """Whether something is trained (and not only used)."""
    return page.heard(*_TRAINING, "pretrain", "continued", "dpo", "rl", "distill")


def _refused(page: Page) -> str | None:
    learned = page.kinds() or page.heard("finetune", "lora", "qlora", "transcribe", "tabular", "rl_sim", "llm", "hpc")
    if page.heard("mining") and not learned and not page.first(r"\b(?:data|text|process|pattern) mining\b"):
        return "invalid-mining"
    about_making = learned or page.heard(
        "game_dev", "image", "vision", "render", "renderer", "blender", "notebook", "dev", "train"
    )
    return "invalid-gaming" if page.heard("game") and not about_making else None


def _render(page: Page) -> str | None:
    if page.kinds() & {"llm", "vlm"}:
        return None
    if page.heard("octane"):
        return "render-octane"
    if page.heard("redshift"):
        return "render-redshift"
    if page.heard("renderer"):
        return "render-other"
    if page.heard("blender"):
        return "render-blender"
    if page.heard("render") and not page.kinds() and not page.heard("splat", "nerf", "video"):
        return "render-other"
    return None


def _simulation(page: Page) -> str | None:
    if "splat" in page.kinds() or page.heard("splat"):
        return "gaussian-splatting"
    if page.heard("nerf"):
        return "nerf"
    if "hpc" in page.kinds() or (page.heard("hpc") and not page.kinds()):
        return "hpc"
    return None


def _speech(page: Page) -> str | None:
    kinds = page.kinds()
    if "tts" in kinds or (page.heard("speak") and "asr" not in kinds):
        return "tts-finetune" if page.heard("finetune", "train") else "tts"
    if "asr" in kinds or (page.heard("transcribe") and not kinds - {"llm"}):
        if is_training(page):
            return "asr-finetune"
        return "asr-realtime" if page.heard("realtime") else "asr-batch"
    if "music" in kinds or (page.heard("music") and page.heard("generate") and not kinds):
        return "music-gen"
    return None


def _teaching(page: Page) -> str | None:
    taught = page.heard("notebook") or (page.heard("study") and page.heard("pupils"))
    return "notebook" if taught and not page.models and not page.heard("finetune", "lora", "qlora", "serve") else None


def _video(page: Page) -> str | None:
    kinds = page.kinds()
    if "upscale" in kinds or page.heard("upscale"):
        return "video-upscale" if page.heard("video") else "image-upscale"
    if "video" in kinds or (page.heard("video") and page.heard("generate") and not kinds and not page.heard("vision")):
        if page.heard("lora"):
            return "video-lora"
        return "video-full-ft" if page.heard("finetune", "train", "full") else "video-gen"
    return None


def _diffusion(page: Page) -> str | None:
    kinds = page.kinds()
    pictured = (
        page.heard("image") and page.heard("generate", "dreambooth", "lora") and not page.heard("vision", "batch")
    )
    drawn = page.heard("drawing_software") or pictured
    if "diffusion" not in kinds and not (drawn and not kinds):
        return None
    if page.heard("lora", "qlora"):
        return "diffusion-lora"
    return "diffusion-full-ft" if page.heard(*_TRAINING, "pretrain") else "diffusion-inference"


def _vision(page: Page) -> str | None:
    kinds = page.kinds()
    if kinds & {"llm", "vlm"} or page.heard("vlm") or not ("cv" in kinds or (page.heard("vision") and not kinds)):
        return None
    if is_training(page):
        return "cv-train"
    if page.heard("inference", "batch", "run", "serve", "realtime") or page.first(r"\b(?:detect|count|contar|process)"):
        return "ocr" if page.heard("ocr") else "cv-inference"
    return "ocr" if page.heard("ocr") else "cv-train"


def _text(page: Page) -> str | None:
    kinds = page.kinds()
    if kinds & {"llm", "vlm"} and not kinds & {"embedding", "encoder"}:
        return None
    if "embedding" in kinds or (page.heard("embed") and "encoder" not in kinds and not page.heard("serve")):
        return "embedding-finetune" if page.heard("finetune", "train") else "embedding"
    if "encoder" in kinds or (page.heard("encoder") and not kinds and not page.heard("llm")):
        if page.heard("pretrain"):
            return "llm-pretrain"
        return (
            "nlp-finetune"
            if is_training(page) or not page.heard("batch", "run", "inference", "serve")
            else "nlp-inference"
        )
    return None


def _llm_training(page: Page) -> str | None:
    if page.heard("rl_sim", "tabular") and not page.models:
        return "rl" if page.heard("rl_sim") else "tabular"
    if not _is_llm(page):
        return None
    if page.heard("distill") and not any("Distill" in model.name for model in page.models):
        return "llm-distill"
    if page.heard("rl", "dpo"):
        return "llm-rl"
    if page.heard("pretrain", "continued"):
        return "llm-pretrain"
    if page.heard("qlora") and not page.heard("lora"):
        return "llm-qlora"
    if page.heard("lora") and not page.heard("qlora", "full"):
        return "llm-lora"
    if page.heard("full") and not page.heard("lora", "qlora"):
        return "llm-full-ft"
    if page.heard("finetune", "train", "lora", "qlora"):
        return "llm-ft-unspecified"
    used = page.heard("serve", "server_software", "chatbot", "users", "alone", "chat", "run", "generate")
    return "llm-ft-unspecified" if page.heard("trainish") and not used else None


def _llm_use(page: Page) -> str | None:
    if page.heard("quantize") and _is_llm(page):
        return "llm-quantize"
    if not _is_llm(page) and not page.heard("chatbot", "server_software"):
        return None
    if page.heard("eval") and not page.heard("serve", "users"):
        return "llm-eval"
    if page.heard("alone"):
        return "llm-chat-single"
    if page.heard("serve", "server_software", "chatbot", "users"):
        return "llm-serving"
    if page.heard("batch", "ocr"):
        return "llm-batch-inference"
    if page.heard("chat", "run"):
        return "llm-chat-single"
    return "llm-serving" if page.models or page.heard("inference") else "unknown"


def settle_use(page: Page) -> None:
    """Settle how a language model is used once the numbers are read: one user chats, many are served."""
    data = page.said.get("dataset_size")
    tokens = data["value"] if isinstance(data, dict) and data["unit"] == "tokens" else 0
    weights = float(page.said.get("params_b", 0.0)) * 1e9
    many = tokens >= PRETRAINING_TOKENS_MIN or (weights > 0 and tokens >= PRETRAINING_TOKENS_PER_WEIGHT * weights)
    if page.task == "llm-ft-unspecified" and not page.heard("finetune") and many:
        page.said["task"] = "llm-pretrain"
    if page.task == "unknown" and weights and {"quant", "context_len", "n_users"} & page.said.keys():
        page.said["task"] = "llm-serving"
    if page.task == "unknown" and weights and isinstance(data, dict) and data["unit"] == "examples":
        page.said["task"] = "llm-ft-unspecified"
    if page.task not in ("llm-serving", "llm-chat-single", "llm-batch-inference"):
        return
    users = page.said.get("n_users")
    served = "throughput" in page.said or "concurrency" in page.said or (users or 1) > 1
    if users == 1 and not page.heard("serve", "chatbot"):
        page.said["task"] = "llm-chat-single"
    elif served and not (page.task == "llm-batch-inference" and users is None):
        page.said["task"] = "llm-serving"
    elif "dataset_size" in page.said and (page.heard("batch", "generate") or not page.heard("serve", "chat", "alone")):
        page.said["task"] = "llm-batch-inference"


def _classic(page: Page) -> str | None:
    if page.heard("rl_sim"):
        return "rl"
    if page.heard("tabular"):
        return "tabular"
    if page.heard("notebook", "study"):
        return "notebook"
    if page.heard("batch") and page.heard("audio"):
        return "asr-batch"
    return "dev" if page.heard("dev") else None


def _is_llm(page: Page) -> bool:
    sized = page.first(r"<n> ?(?:b|bi|bilhoes|billion)?(?: de)? ?param") is not None or "params_b" in page.said
    return (
        bool(page.kinds() & {"llm", "vlm"})
        or sized
        or page.heard("llm", "vlm", "dpo")
        or (page.heard("rl", "qlora") and not page.kinds())
    )


_DOMAINS: tuple[Callable[[Page], str | None], ...] = (
    _refused,
    _render,
    _simulation,
    _speech,
    _teaching,
    _video,
    _diffusion,
    _vision,
    _text,
    _llm_training,
    _llm_use,
    _classic,
)
