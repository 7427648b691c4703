"""The size of the model: in its name, or said beside it ("um 70b", "4 bilhões de parâmetros", "teacher of 70B")."""

from dumont.advisor.reader.number import Number
from dumont.advisor.reader.page import Model, Page

_PARAMETERS = (
    r"<n>(?: ?(?:b|bi|bilhoes|billion|m|mi|milhoes|million))?(?: ?-?(?:de |of )?param(?:s|etros?|eters?|eter)?)\b"
)
_WHOLE_NAMES = frozenset({"DeepSeek-R1", "DeepSeek-V3", "Kimi-K2"})  # of one size, which is no part of the name
_BARE = (
    r"<n>(?! ?(?:de |of )?(?:tokens?|toks?|reais|dolares|imagens|images|exemplos|examples|rows"
    r"|linhas|sentences|frases|itens|items|usd|brl))"
)


def read_size(page: Page) -> None:
    """Say params_b (and the teacher's, when something is distilled)."""
    if page.heard("distill") and not any("Distill" in model.name for model in page.models):
        _read_teacher(page)
    for match in page.find(_PARAMETERS):
        page.say("params_b", _billions(page.number(match)), match)
    named = [model for model in page.models if model.params_b is not None and model.kind != "upscale"]
    for match in page.find(_BARE) if not named else ():
        if page.number(match).suffix in ("b", "bi") and not page.number(match).worded:
            page.say("params_b", _billions(page.number(match)), match)
    if not named and page.heard("llm", "pretrain", "train"):
        for match in page.find(
            r"\b(?:modelo|model|llm|slm|gpt)\b[^.;\ue000]{0,32}<n>(?=[,.;)]|$| (?:com|with|do|from|on|em)\b)"
        ):
            if page.number(match).suffix in ("m", "mi"):
                page.say("params_b", _billions(page.number(match)), match)
    if named:
        page.said.setdefault("params_b", named[0].params_b)
    elif "params_b" in page.said:
        _lend_size(page)


_STUDENT = (
    r"\b(?:num|numa|em um|para um|pra um|para|into|to|in|down to)(?: an?)? (?:modelo |model "
    r"|student |aluno )?(?:de |of )?<n>"
)


def _read_teacher(page: Page) -> None:
    sized = [model for model in page.models if model.params_b is not None]
    learner = page.first(_STUDENT)
    if len(sized) == 1 and learner and page.number(learner).suffix in ("b", "bi", "m"):
        page.say("teacher_params_b", sized[0].params_b)
        page.say("params_b", _billions(page.number(learner)), learner)
        page.models.remove(sized[0])
        return
    for pattern in (
        r"<n>b? teacher",
        r"teacher (?:model )?(?:of |de |with |com )?<n>",
        r"(?:professor|from a|de um|do) (?:de )?<n>",
    ):
        match = page.first(pattern)
        if match and page.number(match).suffix in ("b", "bi", "m"):
            page.say("teacher_params_b", _billions(page.number(match)), match)
            return
    if len(page.models) >= 2 and (sized := [m for m in page.models if m.params_b]) and len(sized) >= 2:
        page.said["teacher_params_b"] = max(m.params_b or 0.0 for m in sized)
        student = min(sized, key=lambda m: m.params_b or 0.0)
        page.models.remove(student)
        page.models.insert(0, student)


def _billions(number: Number) -> float | None:
    if number.suffix in ("", "k", "mil"):
        return None if number.suffix or number.value < 1e6 else number.value / 1e9
    return round(number.count / 1e9, 6)


def _lend_size(page: Page) -> None:
    """A size said apart from its family ("o Llama 3, na versão 8b") belongs into the name."""
    if len(page.models) != 1:
        return
    model, size = page.models[0], page.said["params_b"]
    whole = model.kind not in ("llm", "vlm") or "x" in model.name.lower() or model.name in _WHOLE_NAMES
    if not whole:
        page.models[0] = Model(f"{model.name}-{size:g}B", model.kind, size)
