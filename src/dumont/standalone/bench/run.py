"""`dumont snapshot bench`: its options, what it needs before it starts, and where the outcome goes."""

import argparse
import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from dumont.errors import BadInput, DumontError, NotPossibleHere
from dumont.i18n import _

NEEDED = {"numpy": "demo", "lz4": "", "zstandard": "", "blake3": "", "cryptography": "", "rich": ""}
"""Modules, and the extra of ours that brings each."""

FULL_BYTES, QUICK_BYTES = 11 * 2**30, 2 * 2**30
"""Room that a run needs in its work directory, at scale 1 and in a quick run."""

OK, FAILED, BAD_INPUT = 0, 1, 2


def main(arguments: list[str]) -> int:
    """Run the bench as `arguments` say. Answers the exit status: 0 when everything that was asked for was measured."""
    began = time.monotonic()
    given = _parser().parse_args(arguments)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _bench(given, arguments, began)
    except DumontError as error:
        sys.stderr.write(f"dumont: {error}\n")
        return BAD_INPUT if isinstance(error, BadInput) else FAILED
    except KeyboardInterrupt:
        sys.stderr.write(_("dumont: stopped; everything the bench made is removed\n"))
        if given.out:
            sys.stderr.write(_("Parts that were done stand in {file}; --resume goes on.\n").format(file=given.out))
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def _bench(given: argparse.Namespace, arguments: Sequence[str], began: float) -> int:
    programme, report = _modules()
    work_top = Path(given.work)
    _check_room(work_top, QUICK_BYTES if given.quick else int(FULL_BYTES * given.scale))
    with programme.workshop(work_top, keep=given.keep) as work:
        options = programme.Options(
            work=work,
            cache=Path(given.cache),
            parts=_chosen(given.only, programme.QUICK_PARTS if given.quick else programme.PARTS, programme.PARTS),
            peers=_chosen(given.peers, programme.QUICK_PEERS if given.quick else (), tuple(programme.PEERS)),
            rounds=given.rounds,
            scale=programme.QUICK_SCALE if given.quick else given.scale,
            quick=given.quick,
            keep=given.keep,
        )
        facts = programme.facts(options)
        earlier = _earlier(given, facts, options)
        if earlier is not None and not given.only:
            options = replace(options, parts=[part for part in options.parts if part not in earlier.parts])
        found = earlier or importlib.import_module("dumont.standalone.bench.figures").Findings()
        found.facts = {**facts, **found.facts, "peers": {**found.facts.get("peers", {}), **facts["peers"]}}
        words = " ".join(["dumont", "snapshot", "bench", *arguments])

        def outcome() -> dict[str, Any]:
            made: dict[str, Any] = report.as_object(found, options, words, time.monotonic() - began)
            return made

        def keep(_found: object) -> None:
            if given.out:
                _write(Path(given.out), json.dumps(outcome(), indent=1) + "\n")

        programme.Programme(options, lambda text: _say(text, began), began, found, keep).run()
        keep(found)
    if given.json:
        sys.stdout.write(json.dumps(outcome()) + "\n")
    else:
        report.show(importlib.import_module("rich.console").Console(), found)
    ours_failed = any(
        reason.startswith(programme.OURS) or f"/{programme.OURS}" in reason for reason in report.reasons(found)
    )
    return FAILED if ours_failed else OK


def _earlier(given: argparse.Namespace, facts: Mapping[str, Any], options: Any) -> Any:
    """The findings that --resume goes on with; None without it, or when there are none yet. Raises BadInput."""
    if not given.resume:
        return None
    if not given.out:
        raise BadInput(_("--resume needs --out, the result that it goes on with"))
    earlier, programme = (
        importlib.import_module(f"dumont.standalone.bench.{name}") for name in ("earlier", "programme")
    )
    result = earlier.read_result(Path(given.out))
    if result is None:
        return None
    earlier.require_alike(result, facts, options.scale, quick=options.quick)
    found = earlier.taken_up(result, programme.RACES)
    found.facts = {name: result[name] for name in ("s3_server", "peers") if name in result}
    return found


def _write(path: Path, text: str) -> None:
    """Whole or not at all: what earlier parts left there must survive an interruption."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.write_text(text)
    fresh.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dumont snapshot bench", description=_("Compare snapshots with their peers."))
    parser.add_argument(
        "--quick", action="store_true", help=_("a quarter of the mix, restic, cp and ours: within 60 s")
    )
    parser.add_argument("--json", action="store_true", help=_("one JSON object on standard output"))
    parser.add_argument("--work", default="/dev/shm", help=_("a directory, best in memory, with room for 11 GiB"))
    parser.add_argument("--only", default="", help=_("parts: limits,mix,s3,checkpoints,small,text"))
    parser.add_argument("--peers", default="", help=_("tools: dumont,restic,borg,tar_lz4,rclone,cp"))
    parser.add_argument("--rounds", type=_count, default=5, help=_("rounds of each race"))
    parser.add_argument("--scale", type=_positive, default=1.0, help=_("size of the datasets; 1 is full"))
    parser.add_argument("--out", default="", help=_("also write the JSON object to this file"))
    parser.add_argument("--resume", action="store_true", help=_("go on with --out: only what is not in it, or --only"))
    parser.add_argument("--cache", default=str(_cache()), help=_("where the trained model is kept between runs"))
    parser.add_argument("--keep", action="store_true", help=_("leave the datasets for the next run"))
    return parser


def _modules() -> tuple[Any, Any]:
    """The bench itself, imported only now: it needs numpy, and nobody should wait for that in vain."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        extra = next((NEEDED[name] for name in missing if NEEDED[name]), "demo")
        raise NotPossibleHere(
            f"the bench needs {', '.join(missing)}: `pip install 'dumont[{extra}]'` brings what it makes its data with"
        )
    return tuple(  # type: ignore[return-value]  # two of them
        importlib.import_module(f"dumont.standalone.bench.{name}") for name in ("programme", "report")
    )


def _check_room(work: Path, wanted: int) -> None:
    if not work.is_dir():
        raise BadInput(f"{work} is no directory; --work names one, best in memory, such as /dev/shm")
    free = shutil.disk_usage(work).free
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = min(free, int(line.split()[1]) * 1024)
    if free < wanted:
        raise NotPossibleHere(
            f"the bench needs {wanted / 2**30:.0f} GiB below {work} and has {free / 2**30:.1f}; "
            "--quick or a smaller --scale needs less"
        )


def _chosen(words: str, default: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    names = tuple(word.strip() for word in words.split(",") if word.strip()) or tuple(default) or tuple(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadInput(f"nothing here is called {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dumont" / "bench"


def _say(text: str, began: float) -> None:
    sys.stderr.write(f"{time.monotonic() - began:6.1f} s  {text}\n")
    sys.stderr.flush()


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1_000:
        raise argparse.ArgumentTypeError("from 1 to 1000")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0.01 <= number <= 16:
        raise argparse.ArgumentTypeError("from 0.01 to 16")
    return number


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
