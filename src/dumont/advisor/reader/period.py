"""Times in a text: by when it must be done, how long it runs, how many hours a day, on which days."""

import re

from dumont.advisor.reader.page import Page

_UNIT = (
    r"(?P<unit>h|hs|hrs?|horas?|hours?|d|dias?|days?|semanas?|weeks?|wks?|meses|mes|months?|min"
    r"|minutos?|minutes?|noites?|nights?)(?![a-z0-9/])"
)
_HOURS = {"h": 1.0, "d": 24.0, "s": 168.0, "w": 168.0, "mes": 720.0, "mon": 720.0, "min": 1 / 60, "n": 24.0}
_BY = (
    r"(?:em(?: menos de| no maximo| ate)?|ate|within|in(?: under| less than| at most)?|under"
    r"|less than|menos de|no maximo|prazo(?: de| e| maximo de)?|dentro de|deadline(?: of| is| in)?"
    r"|next|nos proximos|max(?:imo)?(?: de)?|at most|<|abaixo de|pronto em|done in"
    r"|finish(?:ed)? in)"
)
_A = r"(?:uma?|one|a|an)"
_DAYS = "segunda|terca|quarta|quinta|sexta|sabado|domingo|amanha|hoje|mon|tue|wed|thu|fri|sat|sun|tomorrow|today"
_DEADLINE = (
    rf"\b{_BY} ?:? ?(?:the next |os proximos |mais |about |uns |umas |cerca de |umas )?<n>[ -]?{_UNIT}",
    rf"<n>[ -]?{_UNIT} (?:no maximo|max|maximo|deadline|de prazo|tops|at most|or less|ou menos|from now)",
    rf"\b(?:prazo|deadline)(?! (?:[a-z]+ )?(?:{_DAYS}))[^.;\ue000]{{0,12}}<n>[ -]?{_UNIT}",
    (
        r"\b(?:have|tenho|temos|got|restam|faltam|tem) (?:only |so |apenas "
        rf"|mais )?<n>[ -]?{_UNIT}(?! (?:de|of) (?:audio|video|\w*grava|podcast|aula|speech|fala"
        r"|footage|dados|data))"
    ),
    (
        rf"<n>[ -]?{_UNIT} (?:para|pra|to|until|ate) (?:terminar|acabar|entregar|concluir|finish"
        r"|complete|deliver|get it|fazer|rodar|train|treinar|a entrega|do it)\b"
    ),
)
_ONE_DEADLINE = re.compile(
    r"\b(?:em(?: menos de| ate)?|within|in(?: under| less than)?|under|menos de|dentro de"
    rf"|in less than|prazo de) {_A} (?P<unit>hora|hour|dia|day|semana|week|mes|month)\b(?! (?:100"
    r"|de gpu))"
)
_DURATION = (
    (
        r"\b(?:por|for|durante|alugar (?:por|umas?)|rent (?:for)?|ficar|over|ao longo de|rodando"
        r"|during|across) (?:cerca de |about |uns |umas |up to |ate |the next "
        rf"|around )?<n>[ -]?{_UNIT}"
    ),
    r"<n>[ -]?(?P<unit>hours?|h|day|days|week) (?:demo|event|show|livestream|session|presentation|expo|fair)\b",
    (
        rf"<n>[ -]?{_UNIT} (?:de (?:uso|gpu|aluguel|evento)|of (?:use|gpu time|compute|rental)|straight"
        r"|seguid[oa]s|nonstop|rental|event)"
    ),
    (
        r"(?:alugar|rent|render farm|evento|event|hackathon|workshop|minicurso|demo"
        rf"|oficina)[^.;\ue000]{{0,24}}<n>[ -]?{_UNIT}"
    ),
)
_ONE_DURATION = re.compile(rf"\b(?:for|por|durante) {_A} (?P<unit>hora|hour|dia|day|semana|week|mes|month)\b")
_DAILY = (
    (
        r"<n> ?(?:h|hs|hrs?|horas?|hours?)(?: (?:de uso|de gpu|of use))? ?(?:por|/|ao|a|per|each|every"
        r"|todo|todos os|p/|cada|no) ?(?:dia|dias|day|d)\b"
    ),
    r"\b(?:diariamente|daily) <n> ?(?:h|horas?|hours?)",
    r"<n> ?(?:h|horas?|hours?) (?:diarias|daily)\b",
)
_WEEKLY = (
    r"<n> ?(?:h|hs|hrs?|horas?|hours?)(?: de uso)? ?(?:por|/|a|per|each|every|na|toda|cada) ?(?:semana|week)\b",
    r"<n> ?(?:h|horas?|hours?) (?:semanais|weekly)\b",
)
_ALWAYS = re.compile(
    r"\b(?:24 ?[x/] ?7|24 por 7|24 horas por dia|24h por dia|o dia (?:todo|inteiro)|dia e noite"
    r"|around the clock|always on|sempre ligad[oa]|sempre no ar|ininterruptamente|day and night"
    r"|all day every day|non-?stop 24|24 hours a day)\b|\b24 x 7\b"
)
_WEEKDAYS_PT = {
    "domingo": "domingo",
    "segunda": "segunda",
    "terca": "terça",
    "quarta": "quarta",
    "quinta": "quinta",
    "sexta": "sexta",
    "sabado": "sábado",
}
_DAY_PT = r"(?P<day>domingo|segunda|terca|quarta|quinta|sexta|sabado)(?:[ -]feira)?"
_DAY_EN = r"(?P<day>monday|tuesday|wednesday|thursday|friday|saturday|sunday|mon|tue|wed|thu|fri|sat|sun)"
_LONG_EN = {
    "mon": "Monday",
    "tue": "Tuesday",
    "wed": "Wednesday",
    "thu": "Thursday",
    "fri": "Friday",
    "sat": "Saturday",
    "sun": "Sunday",
}
_CLOCK = r"<n> ?(?:h|hs|hrs|horas?)?(?: ?(?P<half{0}>am|pm))?"
_SPAN = (
    r"\b(?:das|de|entre(?: as)?|from|between) "
    + _CLOCK.format(1)
    + r" ?(?:as|a|ate(?: as)?|e(?: as)?|to|-|and|until|till) ?"
    + _CLOCK.format(2)
    + r"(?![a-z0-9]| ?(?:gb|reais|imag|usu|user|seg|min|fps|placa|gpu|mil|tok|\$|%))",
    _CLOCK.format(1)
    + r" ?(?:-|to|as|ate) ?"
    + _CLOCK.format(2)
    + r"(?= ?(?:every|todo|todos|mon|seg|de segunda|weekdays|dias uteis|daily|on ))",
    r"<n> ?(?P<half1>am|pm)? ?(?:-|to|until|till|as|ate) ?<n> ?(?P<half2>am|pm)\b",
    r"<n> ?h(?P<half1>(?!))? ?(?:-|as|a|to|ate) ?(?:as )?<n> ?h(?P<half2>(?!))?\b",
)
_NO_RUSH = re.compile(
    r"\b(?:sem (?:muita |nenhuma )?pressa|nao (?:tenho|tem|ha|estou com) (?:muita |nenhuma "
    r"|tanta )?pressa|prazo (?:livre|tranquilo)|nao tem prazo)\b"
)
_NO_RUSH_EN = re.compile(r"\b(?:no (?:rush|hurry|deadline)|not in a (?:rush|hurry)|whenever|no particular deadline)\b")
_LOOSE_PT = (
    (r"(?:ate |para |pra |p/ )?amanha (?:bem )?(?:cedo|de manha|pela manha)", "amanhã cedo"),
    (r"amanha (?:a|de) noite", "amanhã à noite"),
    (r"amanha (?:a|de) tarde", "amanhã à tarde"),
    (r"amanha", "amanhã"),
    (r"depois de amanha", "depois de amanhã"),
    (r"hoje (?:a|de) noite|esta noite|essa noite", "hoje à noite"),
    (r"hoje (?:a|de) tarde", "hoje à tarde"),
    (
        (
            r"(?:ate |para |ainda )?hoje(?: ainda| mesmo)?(?! (?:pago|gasto|uso|eu|temos|tenho|em dia|rodo"
            r"|roda|usamos|pagamos))"
        ),
        "hoje",
    ),
    (r"(?:ate |no |para |nesse |neste )(?:o )?(?:fim de semana|final de semana)", "fim de semana"),
    (r"(?:ate|no|antes do) (?:o )?(?:fim|final) do mes", "fim do mês"),
    (r"(?:ate |na |para a? ?|para )?semana que vem|proxima semana|(?:ate|na) (?:a )?semana que vem", "semana que vem"),
    (r"ate (?:o )?(?:fim|final) da semana", "fim da semana"),
    (r"mes que vem|proximo mes", "mês que vem"),
    (r"de madrugada|durante a noite|da noite para o dia", "durante a noite"),
)
_LOOSE_EN = (
    (r"tomorrow (?:early )?morning", "tomorrow morning"),
    (r"tomorrow (night|evening|afternoon|noon)", None),
    (r"tomorrow", "tomorrow"),
    (r"tonight", "tonight"),
    (r"(?:by |before )?(?:the )?end of (?:the )?(day|week|month)|\beo[dwm]\b", None),
    (r"this (weekend|week|afternoon|evening|month)", None),
    (r"next (week|month|weekend)", None),
    (r"(?:by|over|before) (?:the )?weekend", "weekend"),
    (r"overnight", "overnight"),
    (r"(?:by |still |done |finished? )today|today(?= please|$|[,.!?])", "today"),
)
_DAYTIME_PT = r"(?: (?:de|a|pela|bem) ?(?P<part>manha|tarde|noite|cedo))?"


def read_period(page: Page) -> None:
    """Say schedules first (they hold hours of their own), then how long, then by when."""
    _read_daily(page)
    _read_sessions(page)
    _read_days_of_event(page)
    _read_span(page)
    _read_office_hours(page)
    _read_duration(page)
    _read_deadline(page)
    _read_leftover(page)


def _hours(value: float, unit: str) -> float:
    key = next(key for key in ("min", "mes", "mon", unit[0]) if unit.startswith(key))
    return round(value * _HOURS.get(key, 1.0), 4)


def _read_daily(page: Page) -> None:
    for pattern in _DAILY:
        for match in page.find(pattern):
            if page.number(match).count <= 24:
                page.say("hours_per_day", page.number(match).count, match)
    for pattern in _WEEKLY:
        for match in page.find(pattern):
            page.say("hours_per_week", page.number(match).count, match)
    for match in page.find(r"<n> ?(?:x|/|por) ?<n>(?![a-z0-9])"):
        if (page.number(match).count, page.number(match, 2).count) == (24, 7):
            page.say("hours_per_day", 24, match)
    if _ALWAYS.search(page.text):
        page.say("hours_per_day", 24)


def _read_sessions(page: Page) -> None:
    session = r"(?:sess(?:ao|oes)|sessions?|aulas?|classes|class|lessons?|encontros|workshops?|turnos|dias|days|lives?)"
    for match in page.find(rf"<n> {session} (?:de|of|com|x|with) <n> ?(?:h|hs|hrs?|horas?|hours?)(?: cada| each)?\b"):
        page.say("hours_per_session", page.number(match, 2).count)
        page.say("sessions", int(page.number(match).count), match)
    for match in page.find(rf"<n> {session} <n> ?(?:h|hs|hrs?|horas?|hours?) (?:cada|each)\b"):
        page.say("hours_per_session", page.number(match, 2).count)
        page.say("sessions", int(page.number(match).count), match)
    for match in page.find(
        r"<n>[ -]?(?:h|hs|hrs?|horas?|hours?)(?: [a-z]+){0,2}?(?: (?:every|each|toda|todo|todos os|todas as|nos|aos"
        rf"|por)) (?:{_DAY_EN}|{_DAY_PT.replace('day', 'dia')})s?\b"
    ):
        page.say("hours_per_session", page.number(match).count)
        day, dia = match.group("day"), match.group("dia")
        page.say("schedule", f"{_LONG_EN[day[:3]]}s" if day else f"{_WEEKDAYS_PT[dia]}s", match)
    for match in page.find(rf"<n> {session}\b"):
        if page.task == "notebook" and not re.search(r"\b(?:dias|days|aulas?)\b", match.group()):
            page.say("sessions", int(page.number(match).count), match)
    for match in page.find(
        r"(?:sess(?:ao|oes)|sessions?|aulas?|class(?:es)?) (?:de|of) <n> ?(?:h|hs|hrs?|horas?|hours?)\b"
    ):
        page.say("hours_per_session", page.number(match).count, match)


_EVENT = (
    r"(?:bootcamp|workshop|course|curso|event|evento|hackathon|training|treinamento|oficina|minicurso|class|summit)"
)


def _read_days_of_event(page: Page) -> None:
    for pattern in (
        rf"<n>[ -]?(?:day|days|dias?)(?: de| of)? {_EVENT}\b",
        rf"\b{_EVENT} (?:de |of )<n> (?:dias|days)\b",
    ):
        for match in page.find(pattern):
            page.say("sessions", int(page.number(match).count), match)


def _read_span(page: Page) -> None:
    for pattern in _SPAN:
        for match in page.find(pattern):
            start, end = (
                _clock(number.value, match.group(f"half{i}")) for i, number in enumerate(page.numbers_in(match), 1)
            )
            if not (0 <= start <= 24 and 0 <= end <= 24) or start == end:
                continue
            if match.group("half1") is None and match.group("half2") == "pm" and start > end:
                start = start - 12 if start > 12 else start
            if (
                match.group("half1") is None
                and match.group("half2") is None
                and start > end
                and end <= 8
                and page.lang == "en"
                and start <= 11
            ):
                end += 12
            hours = (end - start) % 24
            day = _day_near(page, match.start(), match.end())
            if day is not None:
                page.say("duration_h", hours)
                page.say(
                    "deadline_text",
                    f"{day} {start:g}h-{end % 24 if end > 24 else end:g}h"
                    if page.lang == "pt-BR"
                    else f"{day} {start:g}h-{end:g}h",
                    match,
                )
            else:
                page.say("hours_per_session" if "sessions" in page.said else "hours_per_day", hours, match)


def _clock(value: float, half: str | None) -> float:
    if half == "pm" and value < 12:
        return value + 12
    return 0.0 if half == "am" and value == 12 else value


def _day_near(page: Page, start: int, end: int) -> str | None:
    """The one day that a span of hours belongs to; None for a span on every day."""
    near = page.text[max(0, start - 24) : start] + "|" + page.text[end : end + 16]
    if re.search(r"\b(?:todo|todos|todas|toda|every|daily|dias uteis|weekdays|seg(?:unda)? a|mon-fri|each)\b", near):
        return None
    if page.lang == "pt-BR" and (match := re.search(rf"\b{_DAY_PT}\b", near)):
        return _WEEKDAYS_PT[match.group("day")]
    if page.lang == "en" and (match := re.search(rf"\b{_DAY_EN}\b", near)):
        return _LONG_EN[match.group("day")[:3]]
    if match := re.search(r"\b(amanha|hoje|tomorrow|today)\b", near):
        return match.group(1).replace("amanha", "amanhã")
    return None


def _read_office_hours(page: Page) -> None:
    text = page.text
    days = re.search(r"\bmon(?:day)?(?:s)? ?(?:-|to|through|till) ?fri(?:day)?s?\b|\bweekdays\b", text)
    dias = re.search(r"\bseg(?:unda)?(?:-feira)? ?(?:-|a|ate) ?sex(?:ta)?(?:-feira)?\b|\bdias uteis\b", text)
    if worked := re.search(r"\b(?:office|business|working|work) hours\b", text):
        page.say(*(("schedule", "Mon-Fri office hours") if days else ("hours_desc", worked.group())))
    elif re.search(r"\bhorario (?:comercial|de expediente)\b", text):
        page.say(*(("schedule", "seg-sex horário comercial") if dias else ("hours_desc", "horário comercial")))
    elif days or dias:
        page.say("schedule", "Mon-Fri" if days else "seg-sex")
    if match := re.search(
        (
            r"\b(a few|few|some|a couple of|couple of|a couple|couple|algumas|poucas|umas|pouca) (hours"
            r"|horas)(?: a| per"
            r"| por| each| na) (week|day|month|semana|dia|mes)\b"
        ),
        text,
    ):
        first = match.group(1).removeprefix("a ")
        page.say(
            "hours_desc",
            f"{first} {match.group(2)} {'a' if page.lang == 'en' else 'por'} {match.group(3).replace('mes', 'mês')}",
        )
    if match := re.search(rf"\b(?:every {_DAY_EN}s?|on {_DAY_EN.replace('day', 'other')}s)\b", text):
        page.say("schedule", f"{_LONG_EN[(match.group('day') or match.group('other'))[:3]]}s")
    if match := re.search(rf"\b(?:todo|toda|todos os|todas as) {_DAY_PT}s?\b", text):
        page.say("schedule", f"{match.group().split(' ')[0]} {_WEEKDAYS_PT[match.group('day')]}")


def _read_duration(page: Page) -> None:
    if one := _ONE_DURATION.search(page.text):
        page.say("duration_h", _hours(1, one.group("unit")))
    for pattern in _DURATION:
        for match in page.find(pattern):
            audio = page.task.startswith("asr") and re.search(
                r"\b(?:for|por) \ue000\d+\ue000 ?(?:min|h)", match.group()
            )
            if not audio:
                page.say("duration_h", _hours(page.number(match).count, match.group("unit")), match)


def _read_deadline(page: Page) -> None:
    for pattern in _DEADLINE:
        for match in page.find(pattern):
            page.say("deadline_h", _hours(page.number(match).count, match.group("unit")), match)
    _read_from_now(page)
    for match in page.find(
        r"\b(?:overnight|tonight|noite|hoje|today|madrugada|amanha|tomorrow) ?\( ?<n> ?(?:h|horas|hours)\b"
    ):
        page.say("deadline_h", page.number(match).count, match)
    if one := _ONE_DEADLINE.search(page.text):
        page.say("deadline_h", _hours(1, one.group("unit")))
    if "deadline_text" in page.said or "deadline_h" in page.said:
        return
    portuguese = page.lang == "pt-BR"
    if portuguese and _NO_RUSH.search(page.text):
        page.say("deadline_text", "sem pressa")
    elif not portuguese and (calm := _NO_RUSH_EN.search(page.text)):
        page.say("deadline_text", calm.group())
    page.say("deadline_text", _loose_pt(page) if portuguese else _loose_en(page))


_O_CLOCK = r"<n> ?(?:h|hs|horas|o'clock)?(?: ?(?P<half>am|pm|da manha|da tarde|da noite))?"


def _read_from_now(page: Page) -> None:
    """`by tomorrow 9am, now it's 9pm`: hours from a clock time said to be now to one said to be the end."""
    now = page.first(
        r"\b(?:now it'?s|it'?s now|it is now|agora sao|sao agora|now is|it'?s currently|agora e"
        rf"|now:?) (?:as )?{_O_CLOCK}"
    )
    due = page.first(
        rf"\b(?P<day>tomorrow|today|tonight|amanha|hoje)(?: (?:at|by|as|ate as|ate|before|antes das))? {_O_CLOCK}"
    )
    if now is None or due is None:
        return
    days = 24 if due.group("day") in ("tomorrow", "amanha") else 0
    hours = days + _clock(page.number(due).value, _half(due)) - _clock(page.number(now).value, _half(now))
    if 0 < hours <= 48:
        page.take(now)
        page.say("deadline_h", hours, due)


def _half(match: "re.Match[str]") -> str | None:
    return {"da manha": "am", "da tarde": "pm", "da noite": "pm"}.get(match.group("half") or "", match.group("half"))


_USED = ("unknown", "notebook", "dev", "llm-serving", "llm-chat-single", "diffusion-inference")


def _read_leftover(page: Page) -> None:
    """A bare time at the end of a request for a machine ("1 GPU, NVIDIA, 5 days") is how long it is wanted."""
    if page.task in _USED and "duration_h" not in page.said and "deadline_h" not in page.said:
        for match in page.find(rf"(?:^|, |; )<n>[ -]?{_UNIT}(?=$|[,.;])"):
            page.say("duration_h", _hours(page.number(match).count, match.group("unit")), match)


def _at_clock(page: Page, end: int) -> str:
    match = re.match(
        "(?: (?:as|at|by|ate as|before|antes das))? ?\ue000(\\d+)\ue000 ?(h|hs|horas?|am|pm|o'clock)(?![a-z])",
        page.text[end : end + 24],
    )
    if match is None or int(match.group(1)) in page.used:
        return ""
    value, half = page.numbers[int(match.group(1))].value, match.group(2)
    page.used.add(int(match.group(1)))
    return f" {value:g}{half if half in ('am', 'pm') else 'h'}"


def _loose_pt(page: Page) -> str | None:
    if match := re.search(
        (
            r"\b(?:ate|para|pra|antes de|ate a|entregar|entrega|no|na|neste|nesta|nesse|nessa|ate o"
            rf"|prazo) (?:a |o )?(?:proxim[ao] )?{_DAY_PT}{_DAYTIME_PT}\b"
        ),
        page.text,
    ) or re.search(rf"\b{_DAY_PT} que vem(?P<part>)", page.text):
        parts = {"manha": " de manhã", "tarde": " à tarde", "noite": " à noite", "cedo": " cedo", None: "", "": ""}
        return _WEEKDAYS_PT[match.group("day")] + parts[match.group("part")] + _at_clock(page, match.end())
    found = [(m, form) for pattern, form in _LOOSE_PT if (m := re.search(rf"\b(?:{pattern})\b", page.text))]
    if not found:
        return None
    first, form = max(found, key=lambda pair: len(pair[0].group()))
    return form + _at_clock(page, first.end())


def _loose_en(page: Page) -> str | None:
    if match := re.search(
        (
            r"\b(?:by|before|until|due|on|this|next|deadline(?: is)?) (?:next "
            rf"|this )?{_DAY_EN}(?: (?P<part>morning|noon|afternoon|evening|night))?\b(?!s)"
        ),
        page.text,
    ):
        part = f" {match.group('part')}" if match.group("part") else ""
        return _LONG_EN[match.group("day")[:3]] + part + _at_clock(page, match.end())
    for pattern, form in _LOOSE_EN:
        if match := re.search(rf"\b(?:{pattern})\b", page.text):
            plain = re.sub(r"^(?:by|before) (?:the )?", "", match.group())
            return (form or plain) + _at_clock(page, match.end())
    return None
