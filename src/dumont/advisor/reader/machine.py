"""The machine that is asked for: GPUs and how many, memory, disk, system, place, and what it may cost in trust."""

import re

from dumont.advisor.reader.page import Card, Page
from dumont.advisor.workload import COMPARED_MAX

_GPU = r"(?:gpus?|placas?(?: de video)?|cards?|graphics cards?|boards?)"
_GB = r"(?:gb|gib|g|gigas?)"
_LEAST = r"(?:no minimo|minimo|pelo menos|ao menos|at least|minimum|min|or more|ou mais|pra cima|para cima|\+)"
_VRAM = (
    (
        rf"<n> ?{_GB}(?P<plus>\+)?(?: (?:de |of )?)?(?:vram|memoria (?:de video|da placa|da gpu)"
        r"|gpu memory|memoria de gpu|video memory|video ram)\b"
    ),
    (
        r"\b(?:vram|gpu memory|memoria de video)(?: (?:de|of|minima|min|at least|>=?|is|usage"
        rf"|com))* ?[:=>]* ?<n> ?{_GB}\b(?P<plus>\+)?"
    ),
    (
        rf"\b{_GPU}(?: [a-z]+)?(?: (?:de|com|with|w/|of))?(?: (?:ate|pelo menos|at least"
        rf"|no minimo))? <n> ?{_GB}\b(?P<plus>\+)?"
    ),
    rf"<n> ?-?{_GB}\b(?P<plus>\+)? ?(?:nvidia )?{_GPU}\b",
    rf"\b(?:em|in|on|com|with) <n> ?{_GB}\b(?=[?,.;]|$)",
    rf"<n> ?{_GB}\b(?P<plus>\+)?(?= (?:each|cada|por placa|per gpu|per card))",
    rf"(?P<plus>{_LEAST}|>=?)(?: de)? ?<n> ?{_GB}\b(?! ?(?:de |of )?(?:ram|disco|disk|storage|ssd))",
    rf"<n> ?{_GB}(?P<plus>\+)(?! ?(?:de |of )?(?:ram|disco|disk|storage|ssd))",
    (
        r"\b(?:cabe|fit|fits|caber|roda|run|rodar)(?: [a-z]+)? (?:em|in|on|com|with|within)(?: uma?| a"
        rf"| one| my)? <n> ?{_GB}\b"
    ),
    (
        r"\b(?:(?:cena|scene|projeto|project|modelo|model|job)(?: [a-z]+)? (?:de|of|com|with|is|e|tem"
        r"|has|at)|eats?|usa|uses?|consome|ocupa|needs?|precisa de|takes) (?:up to |about |around |uns "
        rf"|cerca de |ate )?<n> ?{_GB}\b(?! ?(?:de |of )?(?:ram|disco|disk|storage|ssd|data|dados))"
    ),
)
_EITHER = (
    rf"<n> ?(?:x )?{_GPU}(?: (?:de|of|with|com) <n> ?{_GB})? (?:ou|or|vs"
    rf"|versus) (?:<n>)(?: ?{_GPU})?(?: (?:de|of|with|com) <n>)?"
)
_ENOUGH = (
    rf"<n> ?{_GB} (?:de (?:vram|ram|memoria) |of vram |vram )?(?:is |are |sao |e )?(?:enough"
    r"|plenty|suficientes?|bastam?|chegam?|da\b|daria|sufficient)"
)
_DISK = r"<n> ?(?P<unit>gb|tb)(?: ?(?:de |of )?)(?:disco|disk|storage|ssd|nvme|armazenamento|hd|scratch)\b"
_MIN_CUE = re.compile(
    r"\b(?:preciso|precisa|precisamos|needs?|require[sd]?|eats?|usa|uses?|consome|ocupa"
    rf"|takes|requer|exige|minim[oa]|peak|pico)\b|{_LEAST}|>"
)
_WISH = re.compile(rf"{_MIN_CUE.pattern}|\b(?:quero|want)\b")
_MAX_CUE = re.compile(
    r"\b(?:cabe|cabem|caber|fits?|rola|roda|consigo|possible|possivel|posso|can|enough|da (?:para"
    r"|pra|em)|suficiente|aguenta|tenho|have|i've|my|minha|max(?:imo)?|ate|up to|limit\w*|apenas"
    r"|only|so)\b"
)
_OOM = re.compile(r"\b(?:ooms?|out of memory|estour\w+|sem memoria|falt\w+ (?:de )?memoria)\b")
_COUNTS = (
    rf"<n> ?(?:x )?(?:[a-z]+ )?{_GPU}\b",
    rf"\b{_GPU} ?[:=x] ?<n>",
)
_ONE_GPU = re.compile(
    rf"\b(?:uma?|one|single|1|unica) (?:unica |single |so )?{_GPU}\b|\b{_GPU} unica\b|\bsingle[ -]gpu\b"
)
_NODES = r"<n>[ -]?(?:x )?(?:nodes?|nos|maquinas|machines|servers?|servidores)\b"
_ONE_NODE = re.compile(
    r"\b(?:single|one|1|um unico|unico|uma unica|um so)[ -](?:node|no|maquina|machine|server|servidor)\b"
)
_DENIED = re.compile(
    r"\b(?:nao quero|sem|nao precisa de|not|no|without|instead of|em vez de|ao inves de|don't want"
    r"|except|menos)(?: (?:uma?|a|an|an? nvidia|usar))? ?$"
)
_VERSUS = re.compile(
    r"^[^.;!?]{0,24}?\b(?:vs|versus|ou|or|x|compared to|contra|against|e|and)\b[^.;!?]{0,16}$"
    r"|^ ?[/,] ?(?:ou |or |and |e )?$"
)
_ASKED_TO_COMPARE = re.compile(
    r"\b(?:vs|versus|compare|comparar|comparado|which|qual|or|ou|melhor|better|how long|quanto tempo|faster)\b"
)


def read_machine(page: Page) -> None:
    """Say the GPU preferred or compared, how many, its memory and disk."""
    _read_cards(page)
    _read_observed(page)
    for match in page.find(_DISK):
        page.say("disk_gb", page.number(match).count * (1000 if match.group("unit") == "tb" else 1), match)
    for match in page.find(_NODES):
        page.say("n_nodes", int(page.number(match).count), match)
    if _ONE_NODE.search(page.text):
        page.say("n_nodes", 1)
    _read_vram(page)
    for pattern in _COUNTS:
        for match in page.find(pattern):
            page.say("n_gpus", int(page.number(match).count), match)
    one = _ONE_GPU.search(page.text)
    if (
        one
        and not re.search(r"\b(?:cada|each)\b[^.;,]{0,24}$", page.text[: one.start()])
        and "compare" not in page.said
        and "observed" not in page.said
    ):
        page.say("n_gpus", 1)
    if named := re.search(r"\bsm[_ -]?(\d{2,3})\b", page.text) or re.search(
        r"\bcompute capability (?:de |of )?(\d{1,2})[. ](\d)\b", page.text
    ):
        digits = "".join(named.groups())
        page.say("compute_capability", f"{digits[:-1]}.{digits[-1]}")
    elif found := page.first(r"\b(?:compute capability|cc) (?:de |of |>=? ?)?<n>"):
        page.say("compute_capability", f"{page.number(found).value:.1f}", found)


def _read_cards(page: Page) -> None:
    places = [(int(m.group(1)), m.start(), m.end()) for m in re.finditer("\ue002(\\d+)\ue002", page.text)]
    reference = page.said.get("reference")
    wanted = [
        (page.cards[i], start, end)
        for i, start, end in places
        if not _DENIED.search(page.text[max(0, start - 28) : start])
        and not (isinstance(reference, dict) and reference.get("gpu") == page.cards[i].name)
    ]
    forms = list(dict.fromkeys(_as_compared(card) for card, _, _ in wanted))
    if len(forms) > 1 and _ASKED_TO_COMPARE.search(page.text):
        page.say("compare", forms[:COMPARED_MAX])
        return
    if wanted and not _owned_and_failing(page, wanted[0][1]):
        card = wanted[0][0]
        page.say("gpu_pref", card.name)
        each = re.search(r"\b(?:cada|each)\b[^.;,]{0,24}$", page.text[: wanted[0][1]])
        page.say("n_gpus", None if each else card.count)
        if card.vram_gb is not None:
            page.say("vram_max_gb", card.vram_gb)


def _owned_and_failing(page: Page, start: int) -> bool:
    """Whether the GPU is one that was too small ("OOM on my 3090") rather than one that is wanted."""
    return bool(_OOM.search(page.text)) and bool(
        re.search(r"\b(?:na|no|on|my|minha|em|uma|in|a|numa)\b[^.;]{0,10}$", page.text[max(0, start - 14) : start])
    )


def _read_observed(page: Page) -> None:
    if _OOM.search(page.text) is None:
        return
    if match := page.first(rf"<n> ?{_GB}\b"):
        page.say("observed", f"OOM at {page.number(match).count:g}GB", match)
    elif page.cards and "gpu_pref" not in page.said:
        page.say("observed", f"OOM on {page.cards[0].name}")


def _read_vram(page: Page) -> None:
    for match in page.find(_EITHER):
        page.take(match)  # which of the two is the question
    for match in page.find(_ENOUGH):
        page.say("vram_max_gb", page.number(match).count, match)
    can = _MAX_CUE.search(page.text) is not None
    asked_whether = "?" in page.text
    for pattern in _VRAM:
        for match in page.find(pattern):
            around = page.text[max(0, match.start() - 40) : match.end() + 24]
            asked = page.text[match.end() : match.end() + 24]
            least = match.groupdict().get("plus") or re.match(
                rf" ?(?:de vram |de ram |de memoria )?(?:de )?(?:{_LEAST}|or more|ou mais)", asked
            )
            on_one = re.search(
                r"\b(?:on|in|em|na|numa|num|with|com) (?:uma?|an?|my|minha|1|\ue000\d+\ue000)? ?$",
                page.text[max(0, match.start() - 16) : match.start()],
            )
            fits = (can or (on_one and asked_whether)) and not page.task.startswith("render")
            smaller = fits and not least and not (_MIN_CUE if asked_whether else _WISH).search(around)
            page.say("vram_max_gb" if smaller else "vram_min_gb", page.number(match).count, match)


def _as_compared(card: Card) -> str:
    """A GPU with its count as people compare them: `4x RTX 4090`."""
    return f"{card.count}x {card.name}" if card.count else card.name
