"""`dumont demo`: runs the main job from outside, prints the timeline and the verdict, or one JSON object."""

import asyncio
import json
import signal
import sys

from rich.console import Console

from dumont.demo.harness import Options, rehearse
from dumont.demo.report import Report, as_json, print_verdict
from dumont.errors import DumontError
from dumont.i18n import _

INTERRUPTED = 130


def demo(options: Options, *, as_object: bool) -> int:
    """The exit status: 0 when every promise held, 1 when not, 130 when interrupted.

    With `as_object` the last line on the standard output is one JSON object; what people read goes to the other one.
    """
    console = Console(stderr=as_object)
    console.print(_("Seed {seed}: the same seed breaks at the same instants.").format(seed=options.seed))
    try:
        report = asyncio.run(_until_told(options, console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print(_("Interrupted; everything that was started is gone."))
        return INTERRUPTED
    except DumontError as error:
        console.print(str(error), style="red", highlight=False, markup=False)
        for advice in getattr(error, "__notes__", []):
            console.print(advice, highlight=False, markup=False)
        report = Report((), options.rounds)
    else:
        print_verdict(console, report)
    if as_object:
        sys.stdout.write(json.dumps(as_json(report)) + "\n")
    return 0 if report.ok else 1


async def _until_told(options: Options, console: Console) -> Report:
    """SIGTERM ends it as Ctrl-C does: after everything was taken down."""
    work = asyncio.current_task()
    assert work is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    return await rehearse(options, console)
