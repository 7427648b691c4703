"""The arguments of `dumont snapshot`: what each verb takes, in the language spoken now."""

import argparse
import gettext
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache

from dumont.errors import BadInput
from dumont.i18n import LOCALE, _, language
from dumont.standalone.sizes import read_duration, read_size

GRACE_S = 24 * 3600
_COLUMNS = 80
KEEPS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """What the user asks for: `verb`, and its options. Ends the program with 2 and a usage line if that is nonsense."""
    _teach_argparse()
    verb = arguments[0] if arguments else ""
    parser = _parser(verb)
    if not arguments:
        parser.print_help()
        parser.exit(2)
    return parser.parse_args(arguments[1:] if parser.get_default("verb") else arguments)


def _parser(only: str) -> argparse.ArgumentParser:
    """The parser of all verbs, or, which is quicker to make, of the one that is asked for."""
    shared = argparse.ArgumentParser(add_help=False, allow_abbrev=False, formatter_class=_Formatter)
    shared.add_argument("--lang", metavar="LANG", help=_("language: en or pt_BR; default: that of LANG"))
    keyed = argparse.ArgumentParser(add_help=False, allow_abbrev=False, parents=[shared], formatter_class=_Formatter)
    keyed.add_argument("--passphrase-file", metavar="FILE", default="", help=_("read the passphrase from this file"))
    keyed.add_argument(
        "--key-file",
        metavar="FILE",
        default="",
        help=_("open the repository of a server's workspace with the server's key, keys/store.key in its home"),
    )
    keyed.add_argument(
        "--insecure-no-passphrase",
        action="store_true",
        help=_("the repository has no passphrase: whoever sees it reads it"),
    )
    keyed.add_argument("--json", action="store_true", help=_("print one JSON object"))
    keyed.add_argument("--quiet", action="store_true", help=_("show no progress, and print only what is asked for"))
    verbs = _verbs()
    if only in verbs:
        about, fill = verbs[only]
        parser = argparse.ArgumentParser(
            f"dumont snapshot {only}",
            description=about,
            parents=[keyed],
            allow_abbrev=False,
            formatter_class=_Formatter,
        )
        parser.set_defaults(verb=only)
        fill(parser)
        return parser
    parser = argparse.ArgumentParser(
        "dumont snapshot",
        description=_("Snapshots of a directory in any object storage or directory, encrypted; no server is needed."),
        epilog=_(
            "REPO is the path of a directory, or s3://bucket/prefix, r2://…, b2://…, gs://…, az://…; credentials come "
            "from the environment. The passphrase comes from DUMONT_PASSPHRASE, --passphrase-file or the terminal. "
            "Ends with 0; 1: damage or failure; 2: wrong use; 130: interrupted."
        ),
        parents=[shared],
        allow_abbrev=False,
        formatter_class=_Formatter,
    )
    below = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title=_("verbs"))
    for name, (about, fill) in verbs.items():
        fill(
            below.add_parser(
                name,
                help=about,
                description=about,
                parents=[keyed],
                allow_abbrev=False,
                formatter_class=_Formatter,
            )
        )
    below.add_parser("bench", help=_("compare with restic, borg and others on this machine"), add_help=False)
    return parser


class _Formatter(argparse.HelpFormatter):
    """argparse's own, told the width: to find it out it would import shutil and all compressions, for each run."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


@cache
def _columns() -> int:
    """The terminal's width as `shutil.get_terminal_size` finds it: COLUMNS, else that of standard output, else 80."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else -1).columns or _COLUMNS
    except (OSError, ValueError):  # no terminal, or a closed one
        return _COLUMNS


def _verbs() -> dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]]:
    return {
        "save": (_("save a directory; makes the repository if there is none"), _save),
        "restore": (_("restore a commit into a directory; fetches only what differs"), _restore),
        "ls": (_("list the commits, or what one of them holds"), _ls),
        "diff": (_("what differs between two commits"), _diff),
        "check": (_("verify that everything every commit needs is there and undamaged"), _check),
        "prune": (_("delete what no commit needs any more"), _prune),
        "forget": (_("forget old commits by a policy"), _forget),
        "tag": (_("name a commit, add and remove tags"), _tag),
        "key": (_("passphrases, and keys for hosts that may only add"), _key),
    }


def _save(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help=_("the directory to save"))
    _repo(parser)
    parser.add_argument("--name", metavar="NAME", default="", help=_("a name for the commit"))
    parser.add_argument("--tag", metavar="TAG", action="append", default=[], help=_("a tag; may be repeated"))
    _exclusion(parser)
    parser.add_argument(
        "--compression",
        choices=("fastest", "auto", "max"),
        default="auto",
        help=_("fastest: LZ4; auto: what pays on this link, the default; max: zstd for all that gets smaller by it"),
    )
    _budget(parser)


def _exclusion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help=_("leave these paths out: a glob over the path inside PATH, **/NAME is NAME anywhere; may be repeated"),
    )
    parser.add_argument(
        "--exclude-file",
        metavar="FILE",
        action="append",
        default=[],
        help=_("leave out what the patterns in this file match, one a line, # begins a comment; may be repeated"),
    )
    parser.add_argument(
        "--exclude-caches",
        action="store_true",
        help=_("leave out what lies in directories that a CACHEDIR.TAG says are caches"),
    )
    parser.add_argument(
        "--one-file-system", action="store_true", help=_("leave out what is mounted below PATH from other file systems")
    )


def _budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--budget",
        metavar="BYTES",
        type=_size,
        help=_("memory to use at most, like 500MB; default: a quarter of it, ≤ 1 GB"),
    )


def _restore(parser: argparse.ArgumentParser) -> None:
    _repo(parser)
    parser.add_argument(
        "target", metavar="TARGET", help=_("the directory to restore into; it may be an earlier restore")
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--commit", metavar="ID", default="", help=_("which commit; default: the latest"))
    which.add_argument("--name", metavar="NAME", default="", help=_("the latest commit of that name"))
    parser.add_argument("--path", metavar="SOURCE", default="", help=_("the latest commit of that directory"))
    parser.add_argument(
        "--only", metavar="GLOB", action="append", default=[], help=_("only these paths; may be repeated")
    )
    parser.add_argument(
        "--overwrite", action="store_true", help=_("TARGET holds other files: change those that differ")
    )
    parser.add_argument("--delete", action="store_true", help=_("remove from TARGET what the commit does not hold"))
    _budget(parser)


def _ls(parser: argparse.ArgumentParser) -> None:
    _repo(parser)
    parser.add_argument("commit", metavar="COMMIT", nargs="?", default="", help=_("the commit to look into"))
    parser.add_argument("path", metavar="PATH", nargs="?", default="", help=_("a directory or file in it"))


def _diff(parser: argparse.ArgumentParser) -> None:
    _repo(parser)
    parser.add_argument("a", metavar="A", help=_("the older commit"))
    parser.add_argument("b", metavar="B", help=_("the newer commit"))


def _check(parser: argparse.ArgumentParser) -> None:
    _repo(parser)
    parser.add_argument("--read-data", action="store_true", help=_("read every byte, and name the damaged files"))
    parser.add_argument(
        "--repair-index", action="store_true", help=_("first make the index again from what packs say of themselves")
    )


def _prune(parser: argparse.ArgumentParser) -> None:
    _repo(parser)
    _pruning(parser)
    parser.add_argument("--dry-run", action="store_true", help=_("change nothing, say what would be done"))


def _pruning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--break-lock", action="store_true", help=_("another prune has died: remove its lock"))
    parser.add_argument(
        "--grace", metavar="TIME", type=_duration, default=GRACE_S, help=_("leave younger packs alone; default: 24h")
    )


def _forget(parser: argparse.ArgumentParser) -> None:
    _repo(parser)
    parser.add_argument("commits", metavar="COMMIT", nargs="*", help=_("forget these; else say what to keep"))
    helps = (
        _("keep the N latest commits"),
        _("keep the latest of each of the last N hours that have one"),
        _("keep the latest of each of the last N days that have one"),
        _("keep the latest of each of the last N weeks that have one"),
        _("keep the latest of each of the last N months that have one"),
        _("keep the latest of each of the last N years that have one"),
    )
    for keep, about in zip(KEEPS, helps, strict=True):
        parser.add_argument(f"--keep-{keep}", metavar="N", type=_count, default=0, help=about)
    parser.add_argument(
        "--keep-within", metavar="TIME", type=_duration, default=0, help=_("keep what is younger, like 7d")
    )
    parser.add_argument("--keep-tag", metavar="TAG", action="append", default=[], help=_("keep commits with this tag"))
    parser.add_argument(
        "--tag", metavar="TAG", action="append", default=[], help=_("look only at commits with this tag")
    )
    parser.add_argument("--even-last", action="store_true", help=_("even the newest commit of a host and path may go"))
    parser.add_argument(
        "--despite-damage",
        action="store_true",
        help=_(
            "go on beside commits whose record is damaged: they stay, and only those that can be read are counted and "
            "forgotten"
        ),
    )
    parser.add_argument("--prune", action="store_true", help=_("prune afterwards"))
    parser.add_argument("--dry-run", action="store_true", help=_("change nothing, say what would be done"))
    _pruning(parser)


def _tag(parser: argparse.ArgumentParser) -> None:
    _repo(parser)
    parser.add_argument("commit", metavar="COMMIT", help=_("the commit, like 41, or `latest`"))
    parser.add_argument("--add", metavar="TAG", action="append", default=[], help=_("add a tag; may be repeated"))
    parser.add_argument("--remove", metavar="TAG", action="append", default=[], help=_("remove a tag; may be repeated"))
    parser.add_argument("--name", metavar="NAME", help=_("name it; an empty text takes the name away"))


def _key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "act",
        choices=("add", "list", "remove", "add-writer"),
        help=_(
            "add: a further passphrase; list: the passphrases; remove: one of them; "
            "add-writer: a key that only adds, printed once"
        ),
    )
    _repo(parser)
    parser.add_argument(
        "label",
        metavar="LABEL",
        nargs="?",
        default="",
        help=_("what the passphrase or writer is called; to remove: its id, a beginning of it, or its label"),
    )
    parser.add_argument(
        "--new-passphrase-file", metavar="FILE", default="", help=_("read the new passphrase from this file")
    )


def _repo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("repo", metavar="REPO", help=_("the repository: a directory, s3://bucket/prefix or its like"))


def _size(text: str) -> int:
    try:
        return read_size(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _duration(text: str) -> int:
    try:
        return read_duration(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(_("{text!r} is no number").format(text=text))
    return int(text)


def _teach_argparse() -> None:
    """argparse says its own words through the program's gettext domain: give it ours."""
    if language() == "en":
        return
    os.environ["LANGUAGE"] = language()
    gettext.bindtextdomain("dumont", str(LOCALE))
    gettext.textdomain("dumont")


def said_by_argparse() -> tuple[str, ...]:
    """What argparse says, for the catalogues to hold it."""
    return (
        _("usage: "),
        _("positional arguments"),
        _("options"),
        _("show this help message and exit"),
        _("%(prog)s: error: %(message)s\n"),
        _("the following arguments are required: %s"),
        _("unrecognized arguments: %s"),
        _("argument %(argument_name)s: %(message)s"),
        _("expected one argument"),
        _("invalid choice: %(value)r (choose from %(choices)s)"),
        _("not allowed with argument %s"),
    )
