"""Words: what the advisor's names, assumptions and reasons are called in the language spoken now."""

from dumont.advisor.change import Change
from dumont.advisor.errand import MONTH_DAYS
from dumont.advisor.plan import Assumption
from dumont.advisor.rank import Lack, Name
from dumont.i18n import _, language


def figure(value: float, digits: int = 1) -> str:
    """A number with the separators of the reader's language; whole ones from a hundred on."""
    text = f"{value:,.{0 if abs(value) >= 99.5 else digits}f}"
    return text.translate(str.maketrans(",.", ".,")) if language() == "pt_BR" else text


def money(amount: float, currency: str) -> str:
    """An amount as people write it: `US$ 12.50`, `R$ 65,45`."""
    sign = {"USD": "US$", "BRL": "R$", "EUR": "€", "GBP": "£"}[currency]
    text = f"{amount:,.{2 if amount >= 0.995 else 4}f}"
    return f"{sign} {text.translate(str.maketrans(',.', '.,')) if language() == 'pt_BR' else text}"


def duration(hours: float) -> str:
    """Hours as people say them: `25 min`, `6.6 h`, `3.2 days`."""
    if hours < 1:
        return _("{n} min").format(n=max(1, round(hours * 60)))
    if hours < 72:
        return _("{n} h").format(n=figure(hours))
    return _("{n} days").format(n=figure(hours / 24))


def name_word(name: Name) -> str:
    """What a choice is called."""
    return {
        Name.CHEAPEST: _("cheapest that fits"),
        Name.BEST_VALUE: _("best value"),
        Name.FASTEST: _("fastest"),
    }[name]


def lack_word(lack: Lack, unknown: bool) -> str:
    """Why there is no choice, or what is wrong with those there are. `unknown`: providers did not answer."""
    match lack:
        case Lack.OFFERS if unknown:
            return _("No provider's offers are known now, so nothing can be recommended.")
        case Lack.OFFERS:
            return _("Nothing on offer is what you asked for. Ask for less, or another region or card.")
        case Lack.FITTING:
            return _("Nothing on offer surely holds this job.")
        case Lack.MODEL:
            return _("The text does not say which model, or of which size: without it no memory can be computed.")
        case Lack.TASK:
            return _(
                "Dumont has no estimate for this kind of work, and makes none up. Say how much GPU memory it takes, or "
                "on which card it runs, and the offers are ranked by that."
            )
        case Lack.TIME:
            return _("Nothing on offer is ready by the deadline. These come closest.")
        case Lack.MONEY:
            return _("Nothing on offer that fits keeps to the budget. These come closest.")
        case Lack.PACE:
            return _("Nothing on offer is as fast as you need it. These come closest.")
        case Lack.BOTH:
            return _("What is ready by the deadline costs more than the budget. These come closest.")


def change_word(change: Change) -> str:
    """What to do differently, as it follows on "with"."""
    match change:
        case Change.CHECKPOINTING:
            return _("gradient checkpointing on")
        case Change.LORA:
            return _("LoRA in place of full fine-tuning")
        case Change.QLORA:
            return _("QLoRA")
        case Change.OPTIMIZER:
            return _("an 8-bit optimizer")
        case Change.BATCH:
            return _("a batch of 1")
        case Change.LENGTH:
            return _("half the sequence length")
        case Change.FOUR_BITS:
            return _("4-bit weights (AWQ)")
        case Change.OFFLOAD:
            return _("parts of the model kept in the host's memory")


def assumption_word(one: Assumption) -> str:
    """An assumption as a sentence."""
    words = {
        "task": lambda v: _("the task is {v}").format(v=v),
        "model": lambda v: _("the model is like {v}").format(v=v),
        "method": lambda v: _("fine-tuning is done with {v}").format(v=v.upper().replace("LORA", "LoRA")),
        "seq_len": lambda v: _("sequences have {v} tokens").format(v=v),
        "tokens_per_example": lambda v: _("an example has {v} tokens on average").format(v=v),
        "avg_prompt_tokens": lambda v: _("a prompt has {v} tokens").format(v=v),
        "avg_output_tokens": lambda v: _("an answer has {v} tokens").format(v=v),
        "batch": lambda v: _("{v} at a time (batch)").format(v=v),
        "global_batch": lambda v: _("{v} sequences for each step").format(v=v),
        "concurrency": lambda v: _("{v} requests at the same time").format(v=v),
        "epochs": lambda v: _("{v} epochs").format(v=v),
        "grad_ckpt": lambda v: _("gradient checkpointing: {v}").format(v=_("yes") if v == "yes" else _("no")),
        "optimizer": lambda v: _("the optimizer is {v}").format(v=v),
        "precision": lambda v: _("computed in {v}").format(v=v),
        "duration_h": lambda v: _("used for {v} hours").format(v=v),
        "hours_per_day": lambda v: _("on for {v} hours a day, {days} days a month").format(v=v, days=MONTH_DAYS),
        "deadline": lambda v: _("the deadline is {v}").format(v=v),
        "setup_h": lambda v: _("{v} h pass before work begins: boot, image, data, model").format(v=v),
        "value_usd_per_hour": lambda v: _("an hour of waiting counts as US$ {v} (best value only)").format(v=v),
        "exchange": lambda v: _("US$ 1 is {v}").format(v=v),
    }
    sentence = words.get(one.field)
    return sentence(one.value) if sentence else f"{one.field}: {one.value}"
