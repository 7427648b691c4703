"""What is drawn, filmed or rendered: resolution, frames, their rate, samples per pixel, times measured before."""

import re

from dumont.advisor.reader.page import Page

_DRAWN = ("diffusion", "video", "render", "cv", "image", "gaussian", "nerf", "ocr", "unknown", "rl", "invalid")
_LINES = r"(?:2160|1440|1080|720|480|540|360)p"
_STEP_UP = (
    r"(?P<from>{lines}|[24]k|hd|full ?hd|sd)(?: (?:footage|videos?|clips?|filmes?|source|files?|material))?"
    r" ?(?:->|para|pra|to|a|ate|into|in|em) ?(?:o )?(?P<to>{lines}|[248]k)\b"
).replace("{lines}", _LINES)
_NAMED = rf"\b(?P<lines>{_LINES})\b"
_BARE = (
    (
        r"\b(?:resolucao|resolution|res|imgsz|img_?size|img|tamanho|imagens? de|images? (?:at|of)"
        r"|size)(?: de| em| of| at)? ?[:=]? ?<n>(?! ?(?:gb|k\b|imag|exem|mil))"
    ),
    r"<n> ?(?:px|pixels)\b",
    r"\b(?:em|at|a|in) <n>(?! ?(?:[a-z$%]|gb))(?=[,.;]|$| )",
)
_SIDES = frozenset(
    {
        224,
        256,
        288,
        299,
        320,
        384,
        416,
        448,
        512,
        576,
        608,
        640,
        672,
        704,
        736,
        768,
        800,
        832,
        896,
        960,
        1024,
        1152,
        1216,
        1280,
        1344,
        1536,
        2048,
    }
)
_FRAME = r"(?:frames?|quadros?)"
_FRAMES = (
    rf"<n> ?(?:[a-z]+ )?{_FRAME}\b(?! ?(?:/|por|per) ?s)",
    (
        r"<n> (?:(?!k\b|x\b|spp\b)[a-z]+ )?(?:stills?|renders|renderizacoes|cenas estaticas"
        r"|imagens estaticas|cameras|vistas|views"
        r"|imagens?|imagem|images?|shots|still|frame)\b"
    ),
)
_ONE_STILL = re.compile(
    r"\b(?:single|one|uma?|1|apenas uma)(?: [a-z0-9\ue000]+){0,2}? (?:still|frame|quadro|imagem|image)\b"
    r"|\ba(?: [a-z0-9\ue000]+){0,2}? still\b|\b(?:still|imagem estatica|frame unico)\b"
)
_SPF = r"(?:por|per|/|a|cada|each|pra cada) ?(?:frame|quadro|imagem|image|still)"
_REFERENCE = (
    rf"<n> ?(?:min(?:utos?|utes?|s)?|m) ?(?:e )?(?:<n> ?(?:s|seg|segundos?|sec|seconds?)? ?)?(?:{_SPF}|each|cada)",
    rf"<n> ?(?P<seconds>s|seg|segundos?|sec|secs|seconds?) ?{_SPF}",
    rf"<n> ?(?P<hours>h|horas?|hours?) ?{_SPF}",
    (
        rf"(?:(?:cada|each|every|one|um|per) {_FRAME}|cada um[a]?|each one|each) (?:leva|demora|takes"
        r"|took|levou|gasta|em)(?: (?:uns"
        r"|cerca de|about|around))? ?<n> ?(?:min(?:utos?|utes?|s)?|m)(?: ?(?:e )?<n> ?(?:s|seg"
        r"|segundos?|sec|seconds?))?"
    ),
    (
        rf"(?:(?:cada|each|every|one|um|per) {_FRAME}|cada um[a]?|each one|each) (?:leva|demora|takes"
        r"|took|levou|gasta)(?: (?:uns"
        r"|cerca de|about|around))? ?<n> ?(?P<seconds>s|seg|segundos?|sec|secs|seconds?)\b"
    ),
)


def read_sides(page: Page) -> None:
    """Say a resolution written as `1024x1024`, before its numbers are taken for anything else."""
    for match in page.find(r"<n> x <n>(?: x <n>)?(?! ?(?:gpus?|placas?))"):
        sides = page.numbers_in(match)
        if all(side.count >= 16 and side.count.is_integer() and not side.suffix for side in sides):
            page.say("resolution", "x".join(f"{side.count:g}" for side in sides), match)


def read_scene(page: Page) -> None:
    """Say resolution, frames, fps, stride, samples per pixel, clip length and a reference time."""
    _read_reference(page)
    if page.task.startswith("render"):
        for match in page.find(r"<n> ?(?:spp|samples|amostras|samples? per pixel|amostras por pixel)\b"):
            page.say("spp", int(page.number(match).count), match)
    for match in page.find(r"(?:every|each|a cada|cada) ?<n>(?:th|st|nd|rd|o|a)? ?(?:frames?|quadros?)\b"):
        page.say("frame_stride", int(page.number(match).count), match)
    for match in page.find(
        r"<n> ?(?:fps|frames? ?(?:/|por|per) ?(?:s|seg|segundo|second)|quadros ?(?:/|por) ?(?:s|seg|segundo))\b"
    ):
        page.say("fps", page.number(match).count, match)
    _read_resolution(page)
    _read_frames(page)
    if page.task == "hpc" and (span := page.first(r"<n> ?(?P<unit>ns|ps|us|ms)\b")):
        page.say("steps_desc", f"{page.number(span).count:g} {span.group('unit')}", span)


def _read_reference(page: Page) -> None:
    for pattern in _REFERENCE:
        for match in page.find(pattern):
            groups = match.groupdict()
            value = page.number(match).count
            found = page.numbers_in(match)
            rest = found[1].count if len(found) > 1 else 0.0
            minutes = value / 60 if groups.get("seconds") else value * 60 if groups.get("hours") else value + rest / 60
            reference: dict[str, object] = {"minutes_per_frame": round(minutes, 2)}
            if mark := page.first(r"(?:octanebench|octane bench|ob)(?: score)?(?: of| de)? ?<n>") or page.first(
                r"<n> (?:no |in )?(?:octanebench|octane bench|ob)\b"
            ):
                reference = {"octanebench": page.number(mark).count, **reference}
                page.take(mark)
            elif page.cards:
                reference = {"gpu": page.cards[0].name, **reference}
            if minutes > 0 and page.task.startswith(("render", "unknown")):
                page.say("reference", reference, match)


def _read_resolution(page: Page) -> None:
    if not page.task.startswith(_DRAWN):
        return
    text = page.plain(free_only=True)
    if found := re.search(_STEP_UP, text):
        page.say("resolution", f"{_side(found.group('from'))}->{_side(found.group('to'))}")
    elif found := re.search(_NAMED, text):
        page.say("resolution", found.group("lines"))
    elif found := re.search(
        (
            r"\b(?P<k>2|4|5|6|8|12|16)k\b(?! ?(?:de )?(?:context|contexto|imag|images|exempl|exampl|steps"
            r"|passos|reais|dol|tok|fotos|photos|frames|quadros|sampl|amostr|usu|user|linhas|rows|doc|pares"
            r"|pairs|frases|sent|usd|it))"
        ),
        text,
    ):
        page.say("resolution", f"{found.group('k')}K")
    elif found := re.search(r"\b(?:full ?hd|fhd)\b", text):
        page.say("resolution", "1920x1080")
    _take_resolutions(page)
    if "resolution" not in page.said:
        _read_bare_side(page)


def _take_resolutions(page: Page) -> None:
    for match in page.find(r"<n>(?=p\b)"):
        page.take(match)
    said = re.findall(r"(\d+)K", str(page.said.get("resolution", "")))
    for match in page.find(r"<n>"):
        number = page.number(match)
        if number.suffix == "k" and f"{number.value:g}" in said:
            page.take(match)


def _read_bare_side(page: Page) -> None:
    for pattern in _BARE:
        for match in page.find(pattern):
            number = page.number(match)
            if number.count in _SIDES and not number.suffix:
                side = f"{number.count:g}"
                page.say(
                    "resolution",
                    f"{side}x{side}"
                    if page.task.startswith("diffusion") and "p" in match.group().split("\ue000")[-1]
                    else side,
                    match,
                )
                return
    if page.task.startswith(("cv", "diffusion")):
        for match in page.find(
            r"<n>(?=[,.;)]|$| [a-z]| \ue000)(?! ?(?:imag|images|exem|exam|epo|gb|h\b|hora|hour|passos|steps"
            r"|real|reais|usd|foto|photo|dolar|class|volum|exames))"
        ):
            if page.number(match).count in _SIDES and not page.number(match).suffix:
                page.say("resolution", f"{page.number(match).count:g}", match)
                return


def _read_frames(page: Page) -> None:
    rendered = page.task.startswith("render")
    for pattern in _FRAMES[: 2 if rendered else 1]:
        for match in page.find(pattern):
            page.say("frames", int(page.number(match).count), match)
    if rendered and _ONE_STILL.search(page.text):
        page.say("frames", 1)
    if page.task.startswith(("video", "render")):
        for match in page.find(
            r"<n>[ -]?(?P<unit>s|seg|segundos?|sec|secs|seconds?|minutos?|minutes?|min)\b"
            r"(?! ?(?:por|per|/|a|cada|each) ?(?:frame|quadro|imagem|image|seg|s)\b)"
        ):
            minutes = match.group("unit").startswith("m")
            clip = re.search(
                (
                    r"\b(?:video|clip|clipe|animac\w+|animation|shot|filme|cena|scene|curta|commercial|comercial"
                    r"|vinheta|clips|videos|clipes)\b"
                ),
                page.text,
            )
            if clip or "fps" in page.said:
                page.say("duration_s", page.number(match).count * (60 if minutes else 1), match)


def _side(written: str) -> str:
    return {"hd": "720p", "full hd": "1920x1080", "fullhd": "1920x1080", "sd": "480p"}.get(
        written, written.upper() if written.endswith("k") else written
    )
