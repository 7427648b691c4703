"""How much data there is: images, examples, tokens, documents; hours of audio and of video."""

import re

from dumont.advisor.reader.page import Page
from dumont.advisor.reader.task import is_training

_UNITS: tuple[tuple[str, str], ...] = (
    (
        "images",
        (
            r"imagens|imagem|images?|fotos?|photos?|pictures?|figuras|ilustracoes|illustrations"
            r"|radiografias|x-rays|raios-x|renders|avatares|thumbnails|tiles|patches|shots|posters|capas"
            r"|banners|prints|screenshots|slides|laminas|logos|icones|icons|crops|selfies|faces|rostos"
            r"|desenhos|drawings"
            r"|artes"
            r"|retratos"
        ),
    ),
    ("examples", r"exemplos?|examples?|amostras?|samples?|instrucoes|instructions|datapoints|observacoes|instances"),
    ("tokens", r"tokens?|toks?"),
    (
        "documents",
        (
            r"documentos?|documents?|docs?|pdfs?|artigos|articles|papers|abstracts|noticias|audiobooks"
            r"|audiolivros|processos|contratos|contracts"
            r"|laudos|reports|relatorios|peticoes|livros|books|acordaos|prontuarios|editais|invoices"
            r"|notas fiscais|receitas|resumes|curriculos"
        ),
    ),
    ("pages", r"paginas?|pages?|pags?"),
    ("conversations", r"conversas|conversations|dialogos|dialogues|dialogs|chats|atendimentos"),
    ("pairs", r"pares|pairs|triplets|triplas"),
    ("sentences", r"sentencas|sentences|frases"),
    ("tweets", r"tweets|tuites"),
    ("reviews", r"reviews|avaliacoes|resenhas|comentarios|comments"),
    ("tickets", r"tickets|chamados"),
    ("emails", r"e-?mails"),
    ("messages", r"mensagens|messages"),
    ("questions", r"perguntas|questions|prompts|queries"),
    (
        "texts",
        (
            r"textos|texts|posts|titulos|headlines|descricoes|descriptions|paragrafos"
            r"|paragraphs|chunks|trechos"
        ),
    ),
    ("volumes", r"volumes?|exames|tomografias|ressonancias|mris?|(?:ct )?scans|cts|tcs"),
    ("videos", r"videos|clipes?|clips?|filmes"),
    ("atoms", r"atomos|atoms"),
    ("items", r"itens|items|produtos|products|skus|objetos"),
    ("files", r"arquivos|files|audios|gravacoes|recordings|episodios|episodes|ligacoes|calls"),
    ("rows", r"linhas|rows|registros|records|entries|entradas|lines"),
    ("points", r"pontos|points|particulas|particles|celulas|cells"),
)
_UNIT_OF = tuple((unit, re.compile(rf"(?:{words})\b")) for unit, words in _UNITS)
_ANY = "|".join(words for _, words in _UNITS)
_NOT_THE_DATA = (
    r"(?! ?(?:/|por|per|a cada|every|each|cada|an?) ?(?:s|seg\w*|sec\w*|min\w*|h|hora|hour|dia|day"
    r"|prompt|classe|class|usuario|user|mes|month|pixel|frame)\b)"
)
_COUNTED = (
    r"<n>[ -]?(?:de |of )?(?:\+ ?)?(?:(?!(?:e|and|ou|or|em|in|com|with|para|for|to|by|no|na|usando"
    r"|using|on|at|h|x|gb|vezes|epocas|epochs|steps|min|mins|minutos|minutes|horas|hours|hrs|dias"
    r"|days|segundos|seconds|s|seg"
    rf"|passos)\b)(?:[a-z0-9'>/\u00e0-\u00ff-]{{2,20}}|\ue000\d+\ue000 x \ue000\d+\ue000|\ue001\d+\ue001) (?:de "
    rf"|of )?){{0,2}}?(?P<noun>{_ANY})\b(?!-[a-z]){_NOT_THE_DATA}(?! (?:cada|each)\b)(?! (?:por|per"
    r"|em cada|for each|in each) [a-z])"
)
_LABELLED = (
    r"\b(?:dataset|dados|corpus|base|data ?set|conjunto de dados)(?: (?:de|of|com|with|tem|has|is"
    r"|size))*[ :=]+<n>(?! ?(?:reais|h\b|horas?|hours?|gb|gpus?|placas?|epo\w+|min\w*|days?"
    r"|dias?))"
)
_BYTES = (
    r"<n> ?(?P<size>gb|tb|mb)(?:s)? (?:de |of |em |worth of )?(?:textos?|text|videos?|imagens"
    r"|images|fotos|photos|audios?|documentos|documents|gravacoes|footage|scans|dados|data|corpus"
    r"|logs?|jsonl|parquet|dataset|codigo|code)\b"
)
TOKENS_OF_DATA_MIN = 500_000  # fewer are the length of something
_INSTRUCTIONS = re.compile(r"\b(?:instruc|instruct|qa\b|q&a|pergunta|question|prompt|chat)")
_TEXTS = frozenset({"tweets", "reviews", "tickets", "emails", "messages", "questions", "texts", "rows", "items"})
_SPOKEN = (
    r"(?:audios?|podcasts?|fala|voz|voice|speech|ligacoes|chamadas|calls|reuniao|reunioes|meetings?"
    r"|entrevistas?|interviews?|gravac\w+|recordings?|lectures?|aulas?|palestras?|talks?"
    r"|atendimentos?|radio|consultas|audiencias|depoimentos|sessoes|lives?|episodios?|episodes?"
    r"|phone|dictation|ditados?|telefonemas)"
)
_FILMED = (
    r"(?:videos?|filmagem|filmagens|footage|cftv|cctv|camera|cameras|filmes?|movies?|drone"
    r"|gravacao de tela|1080p|720p|4k)"
)
_H = r"(?P<unit>h|hs|hrs?|horas?|hours?|min|minutos?|minutes?|mins?)"
_MEDIA = (
    rf"<n> ?-?{_H} (?:de |of |worth of |em )?(?:[a-z0-9\ue000-]+ ){{0,4}}?(?P<what>{_SPOKEN}|{_FILMED})\b",
    (
        rf"\b(?P<what>{_SPOKEN}|{_FILMED})\b(?: (?:de|of|com|with|total|totalizando|about|around|uns"
        rf"|umas|cerca|tem|~))* ?[:(]? ?<n> ?{_H}\b(?! ?(?:por|per|/|a |cada))"
    ),
)
_MANY_FILES = (
    rf"<n> (?:de )?(?:[a-z]+ )?(?P<what>{_SPOKEN}|videos?|arquivos|files)(?: (?!de |of )[a-z]+){{0,3}},?"
    r" (?:de |of |com |with |x |a )?(?:cerca de |about |around |uns |umas |em media |on average "
    r"|averaging |media de )?"
    rf"<n>[ -]?{_H}(?: ?(?:e )?<n>(?: ?min\w*)?)?(?: cada| each| long)?(?![a-z0-9])"
)


def read_media(page: Page) -> None:
    """Say audio_hours and video_hours. In a speech task bare hours beside nothing else are hours of audio."""
    speech = page.task.startswith("asr")
    if page.task == "tts":
        return
    for match in page.find(_MANY_FILES):
        if _REGULARLY.match(page.text[match.end() : match.end() + 16]):
            page.take(match)  # so much a week is no amount
            continue
        found = page.numbers_in(match)
        minutes = found[2].count / 60 if len(found) > 2 else 0.0
        total = found[0].count * (found[1].count + minutes)
        videos = re.fullmatch(_FILMED, match.group("what")) is not None
        filmed = videos and not speech
        page.say("dataset_size", {"value": int(page.number(match).count), "unit": "videos" if videos else "files"})
        page.say("video_hours" if filmed else "audio_hours", _hours(total, match.group("unit")), match)
    for pattern in _MEDIA:
        for match in page.find(pattern):
            if _REGULARLY.match(page.text[match.end() : match.end() + 16]):
                page.take(match)
                continue
            hours = _hours(page.number(match).count, match.group("unit"))
            filmed = re.fullmatch(_FILMED, match.group("what")) is not None and not speech
            page.say("video_hours" if filmed else "audio_hours", hours, match)
    if page.task in ("asr-batch", "asr-finetune", "tts-finetune") and "audio_hours" not in page.said:
        late = r"(?:in|em|within|under|menos de|ate|por|at|every|prazo de|for|durante|in under|in less than) ?$"
        for match in page.find(r"<n> ?-?(?P<unit>h|hs|hrs?|horas?|hours?)\b(?! ?(?:por|per|/|a day|ao dia))"):
            named = re.match(r" (?:of|de)\b", page.text[match.end() : match.end() + 4])
            if named or not re.search(rf"\b{late}", page.text[max(0, match.start() - 16) : match.start()]):
                page.say("audio_hours", page.number(match).count, match)


_REGULARLY = re.compile(r" ?(?:por|per|a|an|every|each|toda|todo|cada|/) ?(?:semana|week|dia|day|mes|month)\b")


def _hours(value: float, unit: str) -> float:
    return round(value / 60, 4) if unit.startswith("m") else value


def read_data(page: Page) -> None:
    """Say dataset_size: how many of what the work reads or makes."""
    for match in page.find(_BYTES):
        page.say("dataset_size", {"value": page.number(match).count, "unit": match.group("size").upper()}, match)
    for match in page.find(_COUNTED):
        number = page.number(match)
        noun = match.group("noun")
        unit = next(unit for unit, words in _UNIT_OF if words.fullmatch(noun))
        if unit == "tokens" and number.count < TOKENS_OF_DATA_MIN:
            continue
        if page.task.startswith("render") and unit in ("images", "examples"):
            continue
        page.say(
            "dataset_size",
            {"value": int(number.count) if number.count >= 1 else number.count, "unit": _as_data(page, unit, noun)},
            match,
        )
    if page.task == "llm-pretrain":
        for match in page.find(r"<n>(?! ?(?:de |of )?(?:h\b|horas?|hours?|gpus?|gb))"):
            if page.number(match).scale >= 1e9:
                page.say("dataset_size", {"value": int(page.number(match).count), "unit": "tokens"}, match)
    if "dataset_size" not in page.said and (label := page.first(_LABELLED)) and page.number(label).count >= 50:
        page.say("dataset_size", {"value": int(page.number(label).count), "unit": "examples"}, label)


def _as_data(page: Page, unit: str, noun: str) -> str:
    if is_training(page) and unit in _TEXTS and page.task != "tabular":
        return "examples"
    if (
        page.task.startswith("llm")
        and page.task not in ("llm-rl", "llm-pretrain")
        and is_training(page)
        and unit == "pairs"
        and _INSTRUCTIONS.search(page.text)
    ):
        return "examples"
    if page.task in ("cv-train", "cv-inference") and unit == "examples":
        return "images"
    return unit
