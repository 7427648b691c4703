"""`dumont branches`: the divergent files of fenced primaries; list, browse and copy from them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dumont.cli.call import Json, Name, call
from dumont.cli.output import console, instant, print_json, size, table
from dumont.i18n import _


def branches(
    name: Name,
    ls: Annotated[str, typer.Option("--ls", metavar="BRANCH", help=_("List the files of a branch."))] = "",
    copy: Annotated[
        tuple[str, str, str] | None,
        typer.Option("--copy", metavar="BRANCH PATH DEST", help=_("Copy one file of a branch; DEST - is the output.")),
    ] = None,
    as_json: Json = False,
) -> None:
    """Nothing is ever merged over the workspace."""
    if copy is not None:
        _copy(name, copy, as_json)
    elif ls:
        _list(name, ls, as_json)
    else:
        _all(name, as_json)


def _all(name: str, as_json: bool) -> None:
    found = call(lambda dumont: dumont.branches(name), as_json=as_json)
    if as_json:
        print_json(found)
        return
    if not found:
        console.print(_("{name} has no branches: no fenced machine had files of its own.").format(name=name))
        return
    rows = table(_("BRANCH"), _("COMMIT"), _("FORKED FROM"), _("CREATED"), _("FILES"))
    for one in found:
        rows.add_row(one.name, one.commit, one.forked_from or "–", instant(one.created_at), ", ".join(one.paths[:5]))
    console.print(rows)


def _list(name: str, branch: str, as_json: bool) -> None:
    found = call(lambda dumont: dumont.branch_files(name, branch), as_json=as_json)
    if as_json:
        print_json(found)
        return
    rows = table(_("PATH"), _("KIND"), _("SIZE"))
    for one in found:
        rows.add_row(one.path, one.kind, size(one.size))
    console.print(rows)


def _copy(name: str, what: tuple[str, str, str], as_json: bool) -> None:
    branch, path, to = what
    content = call(lambda dumont: dumont.branch_content(name, branch, path), as_json=as_json)
    if to == "-":
        sys.stdout.buffer.write(content)
        return
    target = Path(to)
    if target.is_dir():
        target /= Path(path).name
    target.write_bytes(content)
    if as_json:
        print_json({"path": str(target), "bytes": len(content)})
    else:
        console.print(_("{path}: {size} written.").format(path=target, size=size(len(content))))
