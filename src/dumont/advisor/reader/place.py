"""Where and on which terms: system, region, compliance, vendor, framework, language, interruptions, priority."""

import re

from dumont.advisor.reader.page import Page

_FRAMEWORKS = (
    ("vLLM", r"\bvllm\b"),
    ("SGLang", r"\bsglang\b"),
    ("TGI", r"\btgi\b|\btext-generation-inference\b"),
    ("TensorRT-LLM", r"\btensorrt[ -]llm\b|\btrt-?llm\b"),
    ("Ollama", r"\bollama\b"),
    ("llama.cpp", r"\bllama\.?cpp\b"),
    ("LM Studio", r"\blm ?studio\b"),
    ("ExLlamaV2", r"\bexllama(?:v2)?\b"),
    ("LMDeploy", r"\blmdeploy\b"),
    ("ComfyUI", r"\bcomfy ?ui\b|\bcomfy\b"),
    ("A1111", r"\ba1111\b|\bautomatic ?1111\b"),
    ("Forge", r"\bforge\b"),
    ("kohya", r"\bkohya\w*\b"),
    ("OneTrainer", r"\bonetrainer\b"),
    ("Axolotl", r"\baxolotl\b"),
    ("Unsloth", r"\bunsloth\b"),
    ("torchtune", r"\btorchtune\b"),
    ("LLaMA-Factory", r"\bllama[ -]?factory\b"),
    ("TRL", r"\btrl\b"),
    ("LitGPT", r"\blit-?gpt\b"),
    ("torchtitan", r"\btorchtitan\b"),
    ("Megatron", r"\bmegatron(?:-lm)?\b"),
    ("NeMo", r"\bnemo\b(?! ?\d)"),
    ("nanoGPT", r"\bnano-?gpt\b"),
    ("llm.c", r"\bllm\.c\b"),
    ("DeepSpeed", r"\bdeepspeed\b"),
    ("diffusers", r"\bdiffusers\b"),
    ("faster-whisper", r"\bfaster[ -]?whisper\b"),
    ("whisper.cpp", r"\bwhisper\.cpp\b"),
    ("insanely-fast-whisper", r"\binsanely[ -]fast[ -]whisper\b"),
    ("V-Ray GPU", r"\bv-?ray\b"),
    ("Arnold", r"\barnold\b"),
    ("Karma", r"\bkarma\b"),
    ("Unreal Engine", r"\bunreal(?: engine)?\b|\bue5\b"),
    ("Houdini", r"\bhoudini\b"),
    ("RenderMan", r"\brenderman\b"),
    ("Corona", r"\bcorona\b"),
    ("Lumion", r"\blumion\b"),
    ("Twinmotion", r"\btwinmotion\b"),
    ("D5 Render", r"\bd5(?: render)?\b"),
    ("Enscape", r"\benscape\b"),
    ("KeyShot", r"\bkeyshot\b"),
    ("Iray", r"\biray\b"),
    ("Omniverse", r"\bomniverse\b"),
    ("DaVinci Resolve", r"\bdavinci(?: resolve)?\b"),
    ("After Effects", r"\bafter effects\b"),
    ("GROMACS", r"\bgromacs\b"),
    ("NAMD", r"\bnamd\b"),
    ("AMBER", r"\bamber\b"),
    ("LAMMPS", r"\blammps\b"),
    ("OpenMM", r"\bopenmm\b"),
    ("OpenFOAM", r"\bopenfoam\b"),
    ("AlphaFold", r"\balphafold\w*\b"),
    ("VASP", r"\bvasp\b"),
    ("Real-ESRGAN", r"\b(?:real-?)?esrgan\b"),
    ("Topaz", r"\btopaz\b"),
    ("Isaac Sim", r"\bisaac[ -]?(?:sim|lab|gym)\b"),
    ("XGBoost", r"\bxgboost\b"),
    ("LightGBM", r"\blightgbm\b"),
    ("RAPIDS", r"\brapids\b"),
    ("nerfstudio", r"\bnerfstudio\b"),
    ("musubi-tuner", r"\bmusubi(?:-tuner)?\b"),
    ("Detectron2", r"\bdetectron2?\b"),
)
_FRAMED_BY_TASK = frozenset({"Real-ESRGAN"})
_REGIONS = (
    ("BR", r"brasil|brazil|sao paulo|sa-east-1|\bbr\b|rio de janeiro|territorio nacional|southamerica-east1"),
    (
        "EU",
        (
            r"\beu-(?:west|central|north|south)|(?<!para )(?<!so )(?<!que )\beu\b(?= (?:only|region|data"
            r"|servers?|hosted|cloud|or\b))|\b(?:in|within|inside|the|regiao|region) eu\b|europe|europa"
            r"|european union|uniao europeia|\bue\b|germany|alemanha|frankfurt|ireland|irlanda"
        ),
    ),
    ("US", r"\bus\b|\busa\b|\beua\b|united states|estados unidos|us-east|us-west"),
    ("CA", r"canada"),
    ("UK", r"\buk\b|united kingdom|reino unido|london"),
    ("PT", r"\bportugal\b|lisboa"),
    ("IN", r"\bindia\b"),
    ("JP", r"\bjapan\b|japao"),
    ("AU", r"australia"),
    ("SG", r"singapore|singapura"),
    ("LATAM", r"latam|america latina|latin america|south america|america do sul"),
    ("ASIA", r"\basia\b"),
)
_NOT_A_PLACE = re.compile(
    r"(?:portugues|pt|lingua|language|portuguese|brazilian|leis?|law|direito|cultura|pt-|bert|llm"
    r"|empresas|empresa|mercado|startup)(?: (?:do|de|no|of|in|from|brasileir\w+))?(?: (?:o"
    r"|a))? ?-?$"
)
_PLACED = re.compile(
    r"\b(?:regiao|region|datacenter|data center|servidor(?:es)?|servers?|hosted|hospedad[oa]s?"
    r"|located|residency|residencia|must (?:stay|be|run|remain)|only|somente|apenas|so|tem que"
    r"|precisa (?:ficar|estar|ser)|dados? (?:nao|no|na|fic\w+|tem)|data (?:in|must|stays?|can't"
    r"|cannot)"
    r"|soberania|sovereignty|lgpd|gdpr|hipaa|latencia|maquina|gpu|in|no|na|nos|em|within|inside|dentro|stay)\b"
)
_COMPLIANCE = (
    ("LGPD", r"\blgpd\b"),
    ("GDPR", r"\b(?:gdpr|rgpd)\b"),
    ("HIPAA", r"\bhipaa\b"),
    ("SOC 2", r"\bsoc ?-?2\b"),
    ("ISO 27001", r"\biso ?-?27001\b"),
    ("PCI", r"\bpci[ -]?dss\b"),
)
_TONGUES = {
    code: re.compile(rf"\b(?:{names})\b|\b(?:em|in|lang(?:uage)?|idioma|lingua)[ :=]*(?:{short})\b")
    for code, names, short in (
        ("pt", "portugues|portuguesa|portuguese|pt[-_]br|brazilian", "pt|ptbr"),
        ("en", "ingles|english", "en"),
        ("es", "espanhol|spanish|castelhano", "es"),
        ("fr", "frances|french", "fr"),
        ("de", "alemao|german", "de"),
        ("it", "italiano|italian", "it"),
        ("ja", "japones|japanese", "ja"),
        ("zh", "chines|chinese|mandarin|mandarim", "zh"),
        ("ko", "coreano|korean", "ko"),
        ("hi", "hindi", "hi"),
        ("ar", "arabe|arabic", "ar"),
        ("ru", "russo|russian", "ru"),
        ("nl", "holandes|dutch", "nl"),
        ("pl", "polones|polish", "pl"),
        ("tr", "turco|turkish", "tr"),
    )
}
_SPEAKING = ("asr", "tts")
_CAN_STOP = re.compile(
    r"\b(?:pode (?:ser )?(?:interromp\w+|interruptive\w+|cair|parar|spot)|interruptive\w+"
    r"|interruptible|preemptible|preemptivel|spot|can be (?:interrupted|preempted|killed|stopped)"
    r"|interruptions? (?:is |are )?(?:ok|fine|allowed)"
    r"|tolera interrup\w+|aceito interrup\w+|pode ser interrompid\w+|resumable|fault[ -]tolerant"
    r"|ok if it (?:stops|dies))\b"
)
_CANNOT_STOP = re.compile(
    r"\b(?:nao pode (?:ser )?(?:interromp\w+|cair|parar|interruptive\w+|spot)|sem (?:interrup\w+"
    r"|spot|quedas?|cair)|no (?:interruptions?|spot|preemption)|not? (?:interruptible|preemptible"
    r"|spot)|non-interruptible|can(?:not|'t|t) (?:be )?(?:interrupted|stop|preempted|go down"
    r"|be killed)"
    r"|must not (?:stop|be interrupted|go down)|on-?demand only|so on-?demand|somente on-?demand"
    r"|sob demanda apenas|uninterrupted|ininterrupt\w+|zero downtime|nada de spot|nao quero spot"
    r"|nao posso (?:perder|ser interromp\w+)|without interruptions?|never go(?:es)? down)\b"
)
_UNWANTED = re.compile(
    r"\b(?:nao (?:quero|aceito|posso|gosto)|sem|don't want|do not want|avoid|evitar|not|no|never)\b[^.;,]{0,32}$"
)
_CHEAPEST = re.compile(
    r"\b(?:mais barat[oa]s?|mais em conta|menor (?:custo|preco)|minimo (?:custo"
    r"|possivel de dinheiro)|cheapest|as cheap as|lowest (?:cost|price|possible)|least expensive"
    r"|whatever is cheap\w*|whatever's cheap\w*|sem (?:grana|dinheiro|verba|um tostao)"
    r"|barato possivel|gastar o minimo|menos possivel|o menos possivel|on the cheap"
    r"|minimi[sz]e cost|minimizar (?:o )?custo|as little as possible|broke|custo minimo"
    r"|cheap as possible|super barat[oa]|bem barat(?:o|inho)|sem gastar nada|duro|lisa|liso"
    r"|quebrad[oa])\b"
)
_FASTEST = re.compile(
    r"\b(?:mais rapid[oa](?:s)?(?: possivel)?|o quanto antes|quanto antes|fastest|as fast as|asap"
    r"|as soon as possible|urgente|urgent|rapido possivel|o mais breve|menor tempo|soonest|quickest"
    r"|as quickly as|whatever is fastest"
    r"|(?:dinheiro|custo|preco) nao (?:e|importa)\w*(?: problema)?|money is no (?:object|issue)"
    r"|price (?:is no|doesn't|does not) \w+|cost (?:is no|doesn't|does not) \w+"
    r"|independente do (?:preco|custo)|speed matters most)\b"
)
_NOT_ABOUT_MONEY = re.compile(r"\b(?:nao (?:precisa|quero|e)|not|don't need)(?: (?:ser|be|the|o|a))* ?$")
_TIMEZONE = re.compile(
    r"\b(gmt|utc|brt|est|edt|pst|pdt|cet|cest|ist|jst)(?: ?([+-]\d{1,2}))?\b|\bhorario de (brasilia)\b"
)


def read_terms(page: Page, raw: str) -> None:
    """Say everything that has no number of its own; `raw` has its digits unmarked."""
    _read_framework(page)
    _read_region(page, raw)
    page.say("compliance", next((form for form, pattern in _COMPLIANCE if re.search(pattern, raw)), None))
    if re.search(r"\bwindows\b(?! of| size)(?<!context windows)", raw):
        page.say("os", "windows")
    elif re.search(r"\b(?:linux|ubuntu)\b", raw):
        page.say("os", "linux")
    if "gpu_pref" not in page.said and "compare" not in page.said:
        page.say(
            "vendor",
            "AMD" if re.search(r"\bamd\b|\brocm\b", raw) else "NVIDIA" if re.search(r"\bnvidia\b", raw) else None,
        )
    _read_tongue(page, raw)
    _read_terms_of_rent(page, raw)
    if match := _TIMEZONE.search(raw):
        zone = "BRT" if match.group(3) else (match.group(1).upper() + (match.group(2) or ""))
        page.say("timezone", zone)


def _read_framework(page: Page) -> None:
    named = [form for form, pattern in _FRAMEWORKS if re.search(pattern, page.source)]
    named = [form for form in named if not (form == "NeMo" and "Nemo" in str(page.said.get("model")))]
    if page.task in ("render-blender", "render-octane", "render-redshift"):
        named = [form for form in named if form in ("Houdini", "Unreal Engine")]
    page.say("framework", named[0] if named else None)


def _read_region(page: Page, raw: str) -> None:
    if page.task == "asr-finetune" and "brasil" in raw and "servidor" not in raw:
        return
    found: list[tuple[int, str]] = []
    beside: list[tuple[int, str]] = []
    for code, pattern in _REGIONS:
        for match in re.finditer(pattern, raw):
            before = raw[max(0, match.start() - 40) : match.start()]
            after = raw[match.end() : match.end() + 16]
            alone = re.search(r"(?:^|, )$", before) and re.match(r"$|[,.;!?]", after)
            placed = (
                alone
                or _PLACED.search(before[-32:])
                or re.match(
                    r"[ -]*(?:only|region|datacenter|data center|hosted|based|apenas|somente|servers?|or\b|ou\b)", after
                )
            )
            if (
                placed
                and not _NOT_A_PLACE.search(before)
                and not re.match(r"[$%]|-?based (?:company|startup|team)", after)
            ):
                found.append((match.start(), code))
                break
            if re.search(r"(?: or| ou|/| and| e|,) ?(?:the |o |nos |no )?$", before):
                beside.append((match.start(), code))
    if found:
        found += beside
        page.say("region", "|".join(dict.fromkeys(code for _, code in sorted(found))))


def _read_tongue(page: Page, raw: str) -> None:
    if not page.task.startswith((*_SPEAKING, "llm-pretrain")):
        return
    page.say("language", next((code for code, names in _TONGUES.items() if names.search(raw)), None))


def _read_terms_of_rent(page: Page, raw: str) -> None:
    can = _CAN_STOP.search(raw)
    if _CANNOT_STOP.search(raw) or (can and _UNWANTED.search(raw[max(0, can.start() - 40) : can.start()])):
        page.say("interruptible", False)
    elif can:
        page.say("interruptible", True)
    for priority, pattern in (("cheapest", _CHEAPEST), ("fastest", _FASTEST)):
        if (match := pattern.search(raw)) and not _NOT_ABOUT_MONEY.search(
            raw[max(0, match.start() - 24) : match.start()]
        ):
            page.say("priority", priority)
    for found in page.find(
        r"<n> ?%(?: ?(?:de |of )?)(?:uptime|disponibilidade|sla|reliab\w+|confiab\w+|availability|disponivel)?"
    ):
        context = raw
        if page.number(found).value <= 100 and re.search(
            r"\b(?:uptime|disponibilidade|sla|reliab\w+|confiab\w+|availability)\b", context
        ):
            page.say("reliability", round(page.number(found).value / 100, 6), found)
