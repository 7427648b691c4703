"""A question's text made ready for the rules: bounded, without accents, slang spelled out, orders to the reader cut."""

import re
import unicodedata
from typing import Literal

Lang = Literal["pt-BR", "en"]

TEXT_CHARS_MAX = 3_000
NUMBER, MODEL, CARD = "\ue000", "\ue001", "\ue002"
MARKS = f"{NUMBER}{MODEL}{CARD}"

_PUNCTUATION = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u00ab": '"',
        "\u00bb": '"',
        "`": "'",
        "\u2013": "-",
        "\u2014": "-",
        "\u2011": "-",
        "\u2212": "-",
        "\u00d7": "x",
        "\u2192": "->",
        "\u2026": "...",
        "\u2264": "<=",
        "\u2265": ">=",
        "\u00ba": "o",
        "\u00aa": "a",
        **dict.fromkeys(MARKS, " "),
    }
)

_PORTUGUESE_WORDS = """
roda oi ola bom boa dia tarde noite alugar aluguel renderizar transcrever rodando cabe rola serve precisando
gostaria qualquer nuvem minerar jogar classificar traduzir resumir horas minha nossa nosso laudos aula curso
video o os as um uma de do da dos das na nos nas em por para pra pro com sem e que eu meu meus minhas quero
queria preciso precisa tenho tem posso pode rodar treinar treino gerar usar usando fazer até ate qual quanto
quantas quais placa placas mil reais hora dias semana mes não nao n é ou mais menos muito só so pouco aqui
isso esse essa modelo imagens fotos exemplos horario usuários usuarios alunos pessoas amanhã amanha hoje hj
sexta vc mano cara barato rápido rapido dá vou ser fica ao aos milhões milhoes bilhões bilhoes custa sai
alguém gente contexto dados orçamento orcamento grana lote cada simultaneos faculdade tcc ajuste finetunar
passos épocas epocas quadros parâmetros máquina maquina
"""
_PORTUGUESE = frozenset(_PORTUGUESE_WORDS.split())
_ENGLISH_WORDS = """
million billion thousand pages scanned generation training inference weeks nodes cards each there hi hello hey
cloud path queue movie mine mining play game games stream rendering renders farm real time voice live classify
translate summarize transcribe embed detect upscale cost price budget batch course students lab workshop the
an of on in for with without and or to i my me we our need needs want wants have has can could is are be it
this that which what how much many run running train generate use using at by under than less max per hour
hours day days week month users people images examples from into only not no cheap cheapest fast fastest while
will should would please every single possible any some model data long takes within before until tonight
tomorrow friday just fine tune concurrent serve rent looking does do ok about photos steps epochs frames
samples text clips full card server context length minutes seconds
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())

_SLANG = {
    "pt-BR": {
        "n": "nao",
        "hj": "hoje",
        "vc": "voce",
        "vcs": "voces",
        "q": "que",
        "pq": "porque",
        "tbm": "tambem",
        "mto": "muito",
        "mt": "muito",
        "msm": "mesmo",
        "qto": "quanto",
        "qnt": "quanto",
        "qts": "quantos",
        "qdo": "quando",
        "amnh": "amanha",
        "amanhan": "amanha",
        "dps": "depois",
        "agr": "agora",
        "td": "tudo",
        "pra": "para",
        "pro": "para o",
        "pros": "para os",
        "pras": "para as",
        "prum": "para um",
        "img": "imagem",
        "imgs": "imagens",
        "msgs": "mensagens",
        "hrs": "horas",
        "fds": "fim de semana",
        "trampo": "trabalho",
        "facul": "faculdade",
        "usuario": "usuario",
        "giga": "gb",
        "gigas": "gb",
        "gigabytes": "gb",
        "conto": "reais",
        "contos": "reais",
        "pila": "reais",
        "pilas": "reais",
        "paus": "reais",
        "mangos": "reais",
        "dol": "dolares",
        "dols": "dolares",
        "doletas": "dolares",
        "doleta": "dolar",
    },
    "en": {
        "u": "you",
        "ur": "your",
        "pls": "please",
        "plz": "please",
        "tmrw": "tomorrow",
        "tmr": "tomorrow",
        "2moro": "tomorrow",
        "imgs": "images",
        "pics": "photos",
        "pic": "photo",
        "ppl": "people",
        "w": "with",
        "wo": "without",
        "bucks": "dollars",
        "quid": "pounds",
        "gigs": "gb",
        "gig": "gb",
        "gigabytes": "gb",
        "wknd": "weekend",
        "nite": "night",
        "mins": "minutes",
        "approx": "about",
    },
}

# What finetuning is called, as one word; "ft" alone is common too ("full ft").
_FINETUNE = re.compile(
    r"\bfine?[ -]?tu(?:nn?ing|ning|ne[ds]?|nar|na|near|near|nou|nado|nada|n)\b|\bajuste[ -]fino\b|\bf-?t\b"
    r"|\bfi?netu?nin?g?\b"
)
_GLUED = (
    (
        re.compile(
            r"(?<![\w-])(?<!seek )(rank|r|bs|batch|batchsize|seq|ctx|lote|grad_?accum|epochs?|steps?|alpha)[_=:]?(?=\d)"
        ),
        r"\1 ",
    ),
    (re.compile(r"(?<=\d)[ ]?[x*][ ]?(?=\d)"), " x "),
    (re.compile(r"(?<=\d) ?m ?(?=\d{1,2} ?s(?:eg|ec)?\b)"), "min "),
    (re.compile(r"(?<=\d)m(?= ?(?:por|per|/|each|a|cada) ?(?:frame|quadro|imagem|image))"), "min"),
    (re.compile(r"(?<=\d)(hrs|hs|h|min|m|s)(?=\d)"), r"\1 "),
    (re.compile(r"~ ?(?=\d)"), ""),
    (re.compile(r"\[(dev|schnell|pro)\]"), r"\1"),
    (re.compile(r"(?<=\d)(gpus?|placas?)\b"), r" \1"),
    (re.compile(r"\b([cp])/ ?(?=\w)"), lambda m: {"c": "com ", "p": "para "}[m.group(1)]),
    (re.compile(r"\bw/o?\b ?"), lambda m: "without " if "o" in m.group() else "with "),
)
_SPACES = re.compile(r"\s+")
_WORD = re.compile(r"(?<![\w-])[a-z0-9]+(?![\w-])")
_REPEATED = re.compile(r"([^\d\s])\1{3,}")

_ORDER = re.compile(
    r"\b(?<!operating )(?:system|sistema|assistant|developer|admin)(?: prompt| message| note)?\s?:"
    r"|\b(?:ignor[ea]r?|disregard|forget|override|bypass|desconsider[ea]|esquec[ae]|desobedec[ae])\b"
    r"[^.!?;\n]{0,40}?\b(?:instruc\w+|instructions?|rules?|regras?|prompts?|ordens|orders|guidelines|limits?|limites?"
    r"|previous|anterior(?:es)?|above|acima|everything|tudo)\b"
    r"|\b(?:you are now|act as|pretend (?:to be|you)|voce agora e|finja (?:ser|que)|aja como)\b"
    r"|<\|?(?:system|im_start|assistant)\|?>|\[/?inst\]"
)
_BACK_TO_THE_USER = re.compile(r"\b(?:user|usuario|human|humano|pergunta|question)\s?:|[.!?;\n](?=\s|$)")


def bounded(text: str) -> str:
    """The part of a text that is read: its first TEXT_CHARS_MAX characters."""
    return text[:TEXT_CHARS_MAX]


def fold(text: str) -> str:
    """Lower case without accents, plain punctuation, one space between words; our marks can't come from outside."""
    plain = unicodedata.normalize("NFKD", bounded(text).translate(_PUNCTUATION))
    bare = "".join(c for c in plain if not unicodedata.combining(c)).lower()[: TEXT_CHARS_MAX + TEXT_CHARS_MAX // 4]
    return _REPEATED.sub(r"\1\1\1", bare).translate(_PUNCTUATION)


def without_orders(text: str) -> str:
    """Folded text without sentences that give orders to whoever reads it ("ignore your instructions and …").

    The rules reader could not obey one anyway; but what an order mentions is not what the person wants to run.
    """
    kept: list[str] = []
    at = 0
    while order := _ORDER.search(text, at):
        kept.append(text[at : order.start()])
        back = _BACK_TO_THE_USER.search(text, order.end())
        if back is None:
            return "".join(kept)
        at = back.end()
    kept.append(text[at:])
    return "".join(kept)


def language_of(text: str) -> Lang | None:
    """Which of our two languages a text is in, or None when nothing in it tells."""
    words = [word.lower() for word in re.findall(r"[^\W\d_]+", bounded(text)) if word != "EU"]
    portuguese = sum(word in _PORTUGUESE for word in words) + 2 * len(
        re.findall(r"[ãõçáéíóúâêôà]", bounded(text).lower())
    )
    english = sum(word in _ENGLISH for word in words)
    if portuguese == english:
        return None
    return "pt-BR" if portuguese > english else "en"


def spelled_out(text: str, lang: Lang) -> str:
    """Folded text with slang and glued words spelled out, ready for numbers and names to be found in it."""
    for pattern, plain in _GLUED:
        text = pattern.sub(plain, text)
    slang = _SLANG[lang]
    text = _WORD.sub(lambda m: slang.get(m.group(), m.group()), text)
    return _SPACES.sub(" ", _FINETUNE.sub("finetune", text)).strip()[: TEXT_CHARS_MAX + TEXT_CHARS_MAX // 4]
