"""How something is trained: lengths, batches, epochs, ranks, optimizer, precision and method."""

import re

from dumont.advisor.reader.number import Number
from dumont.advisor.reader.page import Page
from dumont.advisor.reader.task import is_training

_TRAINED_FROM_TOKENS = (
    "llm-full-ft",
    "llm-lora",
    "llm-qlora",
    "llm-ft-unspecified",
    "llm-pretrain",
    "llm-rl",
    "llm-distill",
    "nlp-finetune",
    "embedding-finetune",
)
_IS = r" ?(?:[:=]|of|de|is|is set to|em|at|com|with)? ?(?:ate |up to )?"
_LENGTH = (
    (
        r"\b(?:seq(?:uence)?(?:[ _-]?len(?:gth)?)?|seqlen|max[ _-]?(?:seq(?:[ _-]?len(?:gth)?)?"
        r"|len(?:gth)?)|cutoff(?:[ _-]len(?:gth)?)?"
        rf"|sequencias?|block[ _-]?size|comprimento(?: de sequencia| maximo)?|tamanho (?:de |da )?sequencia){_IS}<n>"
    ),
    r"<n>[ -]?(?:tokens? |tok )?(?:de |of )?(?:seq(?:uence)?s?|seqlen|comprimento|sequencia)\b",
    (
        r"\b(?:contexto|context|ctx|janela|window|context[ -_]?(?:len(?:gth)?|window|size)|n_ctx"
        rf"|num_ctx|janela de contexto|max[ -]model[ -]len)(?: (?:longo|curto|grande|maximo|long|max))?{_IS}<n>"
    ),
    r"<n>[ -]?(?:tokens? |tok )?(?:de |of |em |para )?(?:contexto|context|ctx|janela)\b",
)
_AT_LENGTH = (
    r"(?:(?:\b(?:at|com|em|a|de|with)|@) ?|, )<n>(?= (?:on|for|in|no|na|em|para|com|with|each|e|and)\b|$|[,.;?!)])"
)
_BATCH = (
    ("global_batch", r"\b(?:global|effective|efetivo|total)[ _-]?batch(?:[ _-]?size)?(?: of| de)? ?[:=]? ?<n>"),
    ("global_batch", r"\b(?:batch|lote)(?:[ _-]?size)? (?:global|efetivo|total|effective)(?: of| de)? ?[:=]? ?<n>"),
    (
        "global_batch",
        r"\b(?:batch|lote)(?:[ _-]?size)?(?: of| de| size)? ?[:=]? ?<n> (?:effective|efetivo|global|total)",
    ),
    (
        "batch",
        (
            r"\b(?:micro[ -]?batch|batch|batchsize|bs|mbs|lote|lotes)(?:[ _-]?size)?(?: (?:of|de|size"
            r"|por gpu|per gpu))? ?[:=]? ?<n>(?! ?(?:clips|videos|images|imagens|fotos|docs|documents"
            r"|prompts|files|requests|frames))"
        ),
    ),
    ("batch", r"<n> (?:de )?(?:batch|batch size|por lote|per batch)\b"),
)
_KILOS = frozenset(2.0**power for power in range(9))
_LENGTHS = frozenset(2**power for power in range(8, 18))
_PLAIN = (
    ("epochs", r"<n> ?(?:x )?(?:epocas?|epochs?|epoch|eps?)\b"),
    ("epochs", r"\b(?:epocas|epochs?|num_train_epochs) ?[:=]? ?<n>"),
    ("steps", r"<n> ?(?:de |of )?(?:steps?|passos?|iters?|iterations?|iteracoes|optimizer steps)\b"),
    ("steps", r"\b(?:steps|passos|max_steps|iters) ?[:=]? ?<n>"),
    ("lora_r", r"\b(?:r|rank|lora_r|lora rank|posto)(?: of| de)? ?[:=]? ?<n>"),
    ("folds", r"<n>[ -]?(?:folds?|dobras)\b"),
    ("folds", r"\bk ?= ?<n>(?: ?-?fold)"),
    (
        "num_generations",
        (
            r"<n> (?:amostras|samples|generations?|geracoes|respostas|completions?|rollouts?|candidatos|responses)"
            r" (?:por|per|/|for each|a cada|each|cada) ?(?:prompt|pergunta|question|step)"
        ),
    ),
    ("num_generations", r"\b(?:group size|num_generations|grupo de|generations)(?: of| de)? ?[:=]? ?<n>"),
    ("num_generations", r"<n> (?:rollouts|generations|geracoes)\b"),
)
_PRECISION = (
    ("bf16", r"\b(?:bf-?16|bfloat-?16)\b"),
    ("fp16", r"\b(?:fp-?16|float-?16|half precision|meia precisao|f16)\b"),
    ("fp32", r"\b(?:fp-?32|float-?32|precisao simples)\b"),
    ("tf32", r"\btf-?32\b"),
)
_QUANT = (
    ("awq", r"\bawq\b"),
    ("gptq", r"\bgptq\b"),
    ("nf4", r"\bnf4\b"),
    ("exl2", r"\bexl2\b"),
    ("nvfp4", r"\bnvfp4\b"),
    ("mxfp4", r"\bmxfp4\b"),
    ("fp8", r"\b(?:fp-?8|float-?8|w8a8)\b"),
    ("int8", r"\bint-?8\b"),
    ("int4", r"\bint-?4\b"),
    ("fp4", r"\bfp-?4\b"),
)
_GGUF = re.compile(r"\bq([2-8])(?:_([k0-9]))?(?:_([smlx]{1,2}))?(?![a-z0-9])")
_BITS = r"(?<!adam )(?<!adamw )(?<!optimizer )(?<!otimizador )<n>[ -]?bits?\b(?![ -]?(?:adam|optim|paged|lion))"
_OPTIMIZER = re.compile(
    r"\b(?P<paged>paged[ _-]?)?(?P<bits8>8[ -]?bit[ _-]?)?(?P<name>adam-?w|adam|adafactor|lion|sgd"
    r"|muon|galore|lomo|adalomo|apollo|came|shampoo|prodigy|sophia)"
    r"(?P<after8>[ _-]?(?:de |em |bnb[ _-]?)?8[ -]?bits?)?\b"
)
_OPTIMIZER_NAMES = {
    "adam": "Adam",
    "adamw": "AdamW",
    "adam-w": "AdamW",
    "adafactor": "Adafactor",
    "lion": "Lion",
    "sgd": "SGD",
    "muon": "Muon",
    "galore": "GaLore",
    "lomo": "LOMO",
    "adalomo": "AdaLomo",
    "apollo": "APOLLO",
    "came": "CAME",
    "shampoo": "Shampoo",
    "prodigy": "Prodigy",
    "sophia": "Sophia",
}
_CHECKPOINTING = re.compile(
    r"\b(?P<no>sem |no |without |nao uso |desligad\w+ |disabled? )?(?:o "
    r"|usar )?(?:grad(?:ient)?s?[ _-]?(?:check-?point\w*|ckpt)|activation[ _-]?(?:check-?point\w*"
    r"|recompute|recomputation)"
    r"|check-?point\w* (?:de )?gradientes?|recompute activations|recomputacao)(?P<off>[ =:]*(?:off"
    r"|desligad\w+|false|disabled|desativad\w+))?"
)
_ATTENTION = (
    ("flash3", r"\b(?:flash[ -]?att(?:entio)?n[ -]?3|fa3)\b"),
    ("flash2", r"\b(?:flash[ -]?att(?:entio)?n[ -]?(?:v?2)|fa2)\b"),
    ("flash", r"\bflash[ -]?att(?:entio)?n\b"),
    ("sdpa", r"\bsdpa\b"),
    ("xformers", r"\bxformers\b"),
    ("eager", r"\beager(?: attention)?\b"),
)
_PARALLELISM = (
    ("tensor", r"\b(?:tensor[ -]?parallel\w*|paralelismo (?:de )?tensor\w*|tp ?= ?)"),
    ("pipeline", r"\bpipeline[ -]?parallel\w*"),
    ("FSDP2", r"\bfsdp2\b"),
    ("FSDP", r"\bfsdp\b"),
    ("ZeRO-3", r"\bzero[ -]?(?:stage[ -]?)?3\b"),
    ("ZeRO-2", r"\bzero[ -]?(?:stage[ -]?)?2\b"),
    ("ZeRO-1", r"\bzero[ -]?(?:stage[ -]?)?1\b"),
    ("DDP", r"\bddp\b"),
)


def read_format(page: Page, raw: str) -> None:
    """Say optimizer, checkpointing, attention, parallelism, precision, quantisation; `raw` has its digits unmarked."""
    if match := _OPTIMIZER.search(raw):
        name = _OPTIMIZER_NAMES[match.group("name")]
        name = (
            ("Paged" if match.group("paged") else "")
            + name
            + ("8bit" if match.group("bits8") or match.group("after8") else "")
        )
        page.say("optimizer", name)
    if match := _CHECKPOINTING.search(raw):
        page.say("grad_ckpt", not (match.group("no") or match.group("off")))
    attended = (("attention", _ATTENTION),) if page.task != "dev" else ()
    for field, table in (*attended, ("parallelism", _PARALLELISM), ("precision", _PRECISION)):
        page.say(field, next((form for form, pattern in table if _said(pattern, raw)), None))
    _read_quant(page, raw)


def _read_quant(page: Page, raw: str) -> None:
    training = page.task.startswith(("llm-full", "llm-pretrain", "diffusion-full"))
    for form, pattern in _QUANT:
        if _said(pattern, raw):
            page.say("precision" if form == "fp8" and training else "quant", form)
    if match := _GGUF.search(raw):
        page.say(
            "quant", "_".join(part.upper() for part in ("q" + match.group(1), match.group(2), match.group(3)) if part)
        )
    for match in page.find(_BITS):
        bits = page.number(match).value
        if bits in (2, 3, 4, 5, 6, 8) and not _OPTIMIZER.search(
            raw, max(0, raw.find("bit") - 16), raw.find("bit") + 12
        ):
            page.say("quant", f"{bits:g}bit", match)
        elif bits in (16, 32):
            page.say("precision", f"fp{bits:g}", match)


def _said(pattern: str, raw: str) -> bool:
    return any(
        not re.search(
            r"\b(?:sem|nao|not|no|without)(?: usar| use| em| in)?\s$", raw[max(0, found.start() - 16) : found.start()]
        )
        for found in re.finditer(pattern, raw)
    )


def read_training(page: Page) -> None:
    """Say the numbers of a training run, and the context length of anything that has one."""
    for field, pattern in _BATCH:
        for match in page.find(pattern):
            page.say(field, _whole(page.number(match)), match)
    rendered = page.task.startswith("render")
    for field, pattern in _PLAIN:
        if rendered and field == "steps":
            continue
        for match in page.find(pattern):
            page.say(field, _whole(page.number(match)), match)
    for pattern in _LENGTH:
        for match in page.find(pattern):
            trained = page.task in _TRAINED_FROM_TOKENS or (page.task == "unknown" and is_training(page))
            page.say("seq_len" if trained else "context_len", tokens_of(page.number(match)), match)
    _read_tokens_each(page)
    if page.task.startswith("llm"):
        for match in page.find(_AT_LENGTH):
            number = page.number(match)
            if number.suffix == "k" and number.value in _KILOS:
                page.say("seq_len" if page.task in _TRAINED_FROM_TOKENS else "context_len", tokens_of(number), match)
    if page.task in _TRAINED_FROM_TOKENS or page.task == "embedding":
        for match in page.find(
            r"<n>[ -]?(?:tokens?|toks?)\b(?! (?:de |of )?(?:dados|data|texto|text|por seg|per sec|/s"
            r"|no total|total|em portugues|corpus))"
        ):
            if page.number(match).count in _LENGTHS or (
                page.number(match).suffix == "k" and page.number(match).value <= 128 and _is_short(page, match)
            ):
                page.say("seq_len", tokens_of(page.number(match)), match)


_EACH = (
    r"(?:each|cada(?: um[a]?)?|apiece|per (?:example|sample|doc(?:ument)?|row|sequence)"
    r"|por (?:exemplo|amostra|documento|linha|sequencia))"
)


def _read_tokens_each(page: Page) -> None:
    """So many tokens each: a sequence of what is trained or embedded, a prompt of what is generated from."""
    for match in page.find(rf"<n> ?(?:tokens?|toks?)(?: (?:em media|on average|avg))? {_EACH}\b"):
        whole = page.task.startswith("embedding") or page.task in _TRAINED_FROM_TOKENS
        page.say("seq_len" if whole else "avg_prompt_tokens", int(page.number(match).count), match)


def _is_short(page: Page, match: "re.Match[str]") -> bool:
    return bool(
        re.search(r"\b(?:com|at|with|de|ate|up to|max)\s$", page.text[max(0, match.start() - 8) : match.start()])
    )


def tokens_of(number: Number) -> int:
    """A length in tokens: `8k` of context is 8192, while `10k` and `100k` are round thousands."""
    if number.suffix in ("k", "mil") and number.value % 10:
        return int(number.value * 1024)
    return int(number.count)


def _whole(number: Number) -> float:
    return int(number.count) if number.count.is_integer() else number.count


def read_method(page: Page) -> None:
    """Say the method where the text names one: `lora`, `qlora`, `full`, `dpo-lora`, `grpo`, `continued-pretrain`…"""
    task = page.task
    if task in ("llm-lora", "diffusion-lora", "video-lora"):
        page.say("method", "lora")
    elif task == "llm-qlora":
        page.say("method", "qlora")
    elif task == "llm-pretrain" and page.heard("continued"):
        page.say("method", "continued-pretrain")
    elif task == "llm-rl":
        named = re.search(r"\b(dpo|orpo|kto|simpo|ipo|grpo|ppo|gspo|rlhf|rlvr)\b", page.text)
        base = named.group(1) if named else None
        adapter = "qlora" if page.heard("qlora") else "lora" if page.heard("lora") else None
        page.say("method", "-".join(part for part in (base, adapter) if part) or None)
    elif page.heard("full") and not page.heard("lora", "qlora") and is_training(page):
        page.say("method", "full")
    elif page.heard("lora") and not page.heard("qlora", "full") and is_training(page) and not task.startswith("llm"):
        page.say("method", "lora")
