"""A note: what a person should know about a reading beside its workload: what was left out, refused or went wrong."""

from enum import Enum

from dumont.i18n import _


class Note(Enum):
    """What there is to say about a reading. The values are stable names for programs; `sentence` has the words."""

    CUT = "cut"
    MINING = "mining"
    GAMING = "gaming"
    SPENT = "llm-spent"
    BUSY = "llm-busy"
    AWAY = "llm-away"
    REFUSED = "llm-refused"
    NONSENSE = "llm-nonsense"


def sentence(note: Note) -> str:
    """A note in the language spoken now."""
    match note:
        case Note.CUT:
            return _("The text is long; only its first part was read.")
        case Note.MINING:
            return _(
                "Dumont rents machines for training, serving, rendering and research, and not for mining: "
                "it would cost more than it earns, and most providers forbid it."
            )
        case Note.GAMING:
            return _(
                "For playing games over the network a game streaming service suits better: rented GPUs have no "
                "display, and the delay would be too long. Dumont can render, train and serve on them."
            )
        case Note.SPENT:
            return _(
                "The language model was not asked: this month's spending limit is reached. The rules read the text."
            )
        case Note.BUSY:
            return _("The language model is busy right now. The rules read the text.")
        case Note.AWAY:
            return _("The language model could not be reached in time. The rules read the text.")
        case Note.REFUSED:
            return _(
                "The language model's service refused the request: check the key and the model names. "
                "The rules read the text."
            )
        case Note.NONSENSE:
            return _("The language model's answer made no sense. The rules read the text.")
