"""The entry of `dumont snapshot`: reads the arguments, runs the verb, turns what goes wrong into words and a status.

0: done; 1: damage or failure; 2: wrong use; 130: interrupted.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dumont.errors import BadInput, DumontError
from dumont.i18n import _
from dumont.standalone.arguments import read_arguments
from dumont.standalone.early import Unlocking, begin
from dumont.standalone.exclude import exclusion_of
from dumont.standalone.surroundings import Surroundings, process_start_s

if TYPE_CHECKING:
    from dumont.repository.record import Exclusion
    from dumont.repository.saving.walk import Walk
    from dumont.store.opening import OpenCloud

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

Verb = Callable[[argparse.Namespace, Surroundings], int]
"""Does what is asked, and answers with the status."""


def main(
    arguments: Sequence[str],
    find_verb: Callable[[str], Verb],
    begin_walk: "Callable[[Path, Exclusion], Walk]",
    open_cloud: "OpenCloud",
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Run `dumont snapshot` with `arguments`; the exit status. `find_verb` imports a verb by its name."""
    verb = ""
    try:
        options = read_arguments(arguments)
        verb = options.verb
        unlocking = begin(options, environment)  # first: all that follows is imported meanwhile
        walk = None
        if verb == "save" and isinstance(unlocking, Unlocking) and os.path.isdir(options.path):
            source = Path(os.path.realpath(options.path))
            walk = begin_walk(source, exclusion_of(options, source))  # what was never saved is looked at by the hands
        surroundings = Surroundings(environment, open_cloud, os.urandom, process_start_s(), unlocking, walk)
        return find_verb(verb)(options, surroundings)
    except KeyboardInterrupt:
        again = {
            "save": _("what is stored stays, and the next save goes on from there"),
            "restore": _("what is restored stays, and the same command goes on from there"),
        }.get(verb, _("the same command can be run again"))
        _tell(_("interrupted: {again}").format(again=again))
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # whoever read us has gone; the end must not try to flush
        return FAILED
    except BadInput as error:
        _tell(str(error))
        return WRONG_USE
    except DumontError as error:
        _tell(str(error))
        return FAILED


def _tell(message: str) -> None:
    print(f"dumont snapshot: {message}", file=sys.stderr)
