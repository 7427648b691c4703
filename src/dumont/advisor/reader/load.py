"""The load on something that is served: users, concurrency, throughput, latency, tokens in and out."""

import re

from dumont.advisor.reader.page import Page

_PEOPLE = (
    r"(?:usuari[oa]s?|users?|clientes?|customers?|pessoas|people|alunos|alunas|students?"
    r"|funcionari[oa]s|estudantes|pupils|kids|criancas|doctors|physicians|nurses|lawyers|attorneys"
    r"|artists|musicians|drivers|subscribers|assinantes|enfermeir[oa]s|corretores|gestores"
    r"|employees|atendentes|devs"
    r"|developers|colegas|agents|seats"
    r"|colaboradores|pacientes|advogad[oa]s|medic[oa]s|professores|teachers|pesquisador(?:es|as)"
    r"|researchers|analistas|analysts|engineers|engenheir[oa]s|amigos|friends|vendedores|coworkers"
    r"|operadores|visitantes|visitors|members|membros|viewers|editors|artistas|artists|designers"
    r"|players|callers|patients|candidatos|moradores|profissionais|juizes|servidores publicos)"
)
_FILLER = r"(?:[a-z'-]+ ){0,2}?"
_USERS = (
    rf"<n> ?{_FILLER}{_PEOPLE}\b",
    rf"\b{_PEOPLE}(?: simultane[oa]s| concurrent| at once)? ?[:=] ?<n>",
)
_CONCURRENT = (
    (
        r"<n> ?(?:(?:[a-z]+ ){0,2}?(?:simultane[oa]s|concorrentes|em paralelo|ao mesmo tempo"
        r"|in parallel|at once|parallel)|(?:concurrent|simultaneous|parallel"
        r"|concorrentes)(?: [a-z]+)?)\b"
    ),
    r"\b(?:concurrency|concorrencia|simultane[oa]s|concurrent)(?: of| de)? ?[:=]? ?<n>",
    r"<n> (?:[a-z]+ )?(?:streams?|transmissoes|canais|channels|lives|cameras?|sessoes simultaneas|sessions)\b",
)
_THING = (
    r"(?P<thing>reqs?|requests?|e-?mails?|tickets?|chamados|laudos|pdfs?|articles?|artigos|reviews"
    r"|clips?|clipes?|requisic(?:oes|ao)|chamadas|queries|consultas|imagens|imagem"
    r"|images?|img|fotos?|photos?|tokens?|toks?|tok|t|frames?|documentos|documents?|mensagens"
    r"|messages|perguntas|videos?|prompts?|quadros)"
)
_TIME = r"(?P<time>s|seg(?:undos?)?|sec(?:onds?)?|min(?:utos?|utes?)?|h|hr|horas?|hours?|dias?|days?)"
_RATE = (
    (
        rf"<n> ?{_THING}(?: de (?:saida|output)| (?:de|of) \ue000\d+\ue000 ?s\w*)? ?(?:/|por|per|a cada|an?|each|ao"
        rf"|p/) ?{_TIME}(?![a-z])(?P<each> ?(?:/|por|per|for each|para cada|each|cada) ?(?:users?"
        r"|usuario|pessoa|stream|cliente))?"
    ),
    r"<n> ?(?P<thing>rps|qps|tps)\b",
)
_EVERY = (rf"(?P<one>uma?|one|a|1|<n>) ?{_THING} (?:a cada|every|each|cada|per) <n> ?{_TIME}(?![a-z])",)
_UNITS = (
    ("req", "req"),
    ("chamada", "req"),
    ("quer", "req"),
    ("consulta", "req"),
    ("pergunta", "req"),
    ("prompt", "req"),
    ("mensage", "messages"),
    ("message", "messages"),
    ("imag", "images"),
    ("img", "images"),
    ("foto", "images"),
    ("photo", "images"),
    ("tok", "tokens"),
    ("frame", "frames"),
    ("quadro", "frames"),
    ("doc", "documents"),
    ("video", "videos"),
    ("clip", "videos"),
    ("email", "emails"),
    ("e-mail", "emails"),
    ("ticket", "tickets"),
    ("chamado", "tickets"),
    ("laudo", "documents"),
    ("pdf", "documents"),
    ("arti", "documents"),
    ("review", "reviews"),
)
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SECOND = r"(?:s|seg|segs|segundos?|sec|secs|seconds?)"
_MS = r"(?P<unit>ms|milliseconds?|milissegundos?|s|seg|segs|segundos?|sec|secs|seconds?)(?![a-z/])"
_SLOW = (
    r"(?:latenc(?:ia|y)|ttft|delay|atraso|p ?\d\d|response times?|tempo de resposta|first token"
    r"|primeiro token|respostas?|respond(?:er|a|e|s)?|answers?|lag)"
)
_LATENCY = (
    rf"\b{_SLOW}\b[^.;,]{{0,40}}?(?:<=?|abaixo de|menor que|menos de|under|below|less than|within) ?<n> ?{_MS}",
    (
        rf"\b{_SLOW}\b[^.;\ue000]{{0,30}}?(?:<=?|<|abaixo de|menor que|menos de|under|below|less than"
        rf"|within|in|em|de|of|ate|max|:|=)? ?<n> ?{_MS}"
    ),
    rf"\bsub[- ]?<n>[ -]?{_MS}",
    rf"<n> ?{_MS} (?:de |of |max(?:imo)? (?:de )?)?(?:{_SLOW})",
    (
        rf"(?:<|abaixo de|menos de|under|below|less than|within|em ate) ?<n> ?{_MS}(?: de| of)? ?(?:por"
        rf"|per|cada|each|a|para|to)? ?(?:{_SLOW}|request|requisicao|imagem|image|pergunta|frase)"
    ),
    r"<n> ?(?P<unit>ms)\b",
)
_PROMPT = (
    (
        "avg_prompt_tokens",
        (
            r"\b(?:prompts?|entradas?|inputs?|pergunta)(?: (?:de|of|medio|average|avg|com|with|size"
            r"|em media|~|about|around|cerca de|tipico|length|em torno de|tokens))* ?[:=~]? ?<n>(?! ?(?:req"
            r"|imag))"
        ),
    ),
    (
        "avg_output_tokens",
        (
            r"\b(?:respostas?|saidas?|outputs?|completions?|answers?|responses?|geracao|replies)(?: (?:de"
            r"|of|media|average|avg|com|with|size|em media|~|about|around|cerca de|tipica|length"
            r"|tokens))* ?[:=~]? ?<n>(?! ?(?:ms|s\b|seg))"
        ),
    ),
    (
        "avg_prompt_tokens",
        r"<n> ?(?:(?:tokens? |toks? )(?:de |of )?(?:prompts?|entrada|input|in)|(?:de |of )?(?:prompt|input|entrada))\b",
    ),
    (
        "avg_output_tokens",
        (
            r"<n> ?(?:tokens? |toks? )?(?:de |of )?(?:respostas?|saida|output|completion|answers?|out"
            r"|responses?|replies)\b"
        ),
    ),
)


def read_load(page: Page) -> None:
    """Say throughput, latency, prompt and output lengths, users and concurrency."""
    _read_throughput(page)
    _read_latency(page)
    if page.task in ("llm-serving", "llm-chat-single", "llm-batch-inference", "unknown", "tts"):
        for field, pattern in _PROMPT:
            for match in page.find(pattern):
                page.say(field, int(page.number(match).count), match)
    _read_users(page)
    for match in page.find(
        r"\b(?:for )?me and (?:my )?<n> (?:colleagues|friends|others|coworkers|people)"
        r"|\beu e (?:mais )?<n> (?:colegas|amigos|pessoas)"
    ):
        page.said["n_users"] = int(page.number(match).count) + 1
        page.take(match)


def _read_throughput(page: Page) -> None:
    for pattern in _EVERY:
        for match in page.find(pattern):
            found = page.numbers_in(match)
            things = found[0].count if len(found) > 1 else 1.0
            seconds = found[-1].count * _SECONDS.get(match.group("time")[0], 1)
            if seconds > 0 and not match.group("time").startswith("d"):
                page.say(
                    "throughput",
                    {"value": round(things / seconds, 6), "unit": f"{_unit(match.group('thing'))}/s"},
                    match,
                )
    for pattern in _RATE:
        for match in page.find(pattern):
            groups = match.groupdict()
            thing, time = groups["thing"], groups.get("time") or "s"
            unit = {"rps": "req", "qps": "req", "tps": "tokens"}.get(thing) or _unit(thing)
            per = (
                "day"
                if time.startswith("d")
                else "hour"
                if time.startswith("h")
                else "min"
                if time.startswith("min")
                else "s"
            )
            each = "/user" if groups.get("each") else ""
            page.say("throughput", {"value": page.number(match).count, "unit": f"{unit}/{per}{each}"}, match)


def _unit(thing: str) -> str:
    return "tokens" if thing == "t" else next((unit for stem, unit in _UNITS if thing.startswith(stem)), "req")


def _read_latency(page: Page) -> None:
    for pattern in _LATENCY:
        for match in page.find(pattern):
            if page.task.startswith("render") or "segundos de audio" in match.group():
                continue
            factor = 1 if match.group("unit").startswith("mi") or match.group("unit") == "ms" else 1000
            page.say("latency_ms", round(page.number(match).count * factor, 3), match)


def _read_users(page: Page) -> None:
    for pattern in _USERS:
        for match in page.find(pattern):
            page.say("n_users", int(page.number(match).count), match)
    for pattern in _CONCURRENT:
        for match in page.find(pattern):
            page.say("concurrency", int(page.number(match).count), match)
    if page.task.startswith("asr-realtime") and re.search(
        r"\b(?:one|single|a|uma?|1) (?:live )?(?:stream|live|transmissao|canal|channel)\b", page.text
    ):
        page.say("concurrency", 1)
    if page.heard("alone") and page.task.startswith(("llm", "unknown", "notebook", "tts", "diffusion", "asr")):
        page.say("n_users", 1)
