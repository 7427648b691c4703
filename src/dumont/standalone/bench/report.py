"""The report of a bench: one JSON object for programs, tables and sentences for people."""

import statistics
from typing import Any

from rich.console import Console
from rich.table import Table

from dumont.i18n import _, plural
from dumont.standalone.bench.bystanders import SHARE_MAX
from dumont.standalone.bench.figures import (
    FAIL,
    NOT_MEASURED,
    PASS,
    TARGETS,
    Figures,
    Findings,
    Win,
    figures,
    wins,
)
from dumont.standalone.bench.peers import PEERS
from dumont.standalone.bench.programme import Options

DIGITS = 4
BUSY_SHARE = 0.5
"""A load above this share of the processors before the bench began is told: others were at work."""

FORMAT = 2
HOW = (
    "one run, whole processes, turns A B C then C B A, medians; fresh repository, cache and target for each bout; "
    "data, repositories and targets in memory; restic init and borg init are not timed, our first save makes its "
    "repository; restic, borg and dumont encrypt, tar, rclone and cp do not; *_vs_restic of speeds: its time / ours; "
    "save_vs_cp: our time / its; sizes: our bytes / its"
)


def as_object(found: Findings, options: Options, command: str, seconds: float) -> dict[str, Any]:
    """Everything, the figures first. Figures that could not be measured are null, and `reasons` may say why."""
    shown = figures(found)
    return {
        **{name: _rounded(value) for name, value in shown.items()},
        "targets": {
            name: {"target": str(target), "measured": _rounded(shown[name]), "verdict": target.met(shown[name])}
            for name, target in TARGETS.items()
        },
        "peers_ahead": [
            {"part": win.part, "what": win.what, "peer": win.peer, "factor": _rounded(win.factor), "words": _said(win)}
            for win in wins(found)
        ],
        "format": FORMAT,
        "command": command,
        "how": HOW,
        "quick": options.quick,
        "scale": options.scale,
        "rounds": found.rounds,
        "seconds": round(seconds, 1),
        "parts": found.parts,
        "others": {
            race: [{"share": _rounded(one.share), "who": one.who} for one in every]
            for race, every in found.others.items()
        },
        "disturbed": disturbed(found),
        **found.facts,
        "reasons": reasons(found),
        "line_bytes_per_s": [round(rate) for rate in found.line] if found.line else None,
        "limits_gb_per_s": {name: _rounded(rate) for name, rate in found.limits.items()},
        "datasets": {
            name: {"bytes": one.bytes, "files": one.files, "made": one.made} for name, one in found.datasets.items()
        },
        "checkpoint_changed_bytes": found.changed_bytes,
        "races": {
            part: {peer: tally.record() for peer, tally in tallies.items()} for part, tallies in found.tallies.items()
        },
    }


def reasons(found: Findings) -> dict[str, str]:
    """Why something is null: a part that is not possible here, a peer that is missing or failed."""
    failed = {
        f"{part}/{peer}": tally.failed
        for part, tallies in found.tallies.items()
        for peer, tally in tallies.items()
        if tally.failed
    }
    return {**found.facts.get("missing", {}), **failed, **found.reasons}


def disturbed(found: Findings) -> dict[str, list[int]]:
    """The rounds of each race in which others took more than SHARE_MAX of the processors, from 1."""
    grave = {
        race: [number for number, one in enumerate(every, 1) if one.is_grave] for race, every in found.others.items()
    }
    return {race: rounds for race, rounds in grave.items() if rounds}


def show(console: Console, found: Findings) -> None:
    """Tables and sentences, in the language spoken now."""
    shown = figures(found)
    console.print(_targets(shown))
    for part in found.tallies:
        console.print(_times(found, part))
    console.print(_limits(found))
    _speak(console, found, shown)


def _targets(shown: Figures) -> Table:
    table = Table(title=_("What was to be reached"))
    for heading in (_("figure"), _("measured"), _("target"), _("verdict")):
        table.add_column(heading)
    words = _titles()
    verdicts = {PASS: f"[green]{_('pass')}", FAIL: f"[red]{_('fail')}", NOT_MEASURED: _("not measured")}
    for name, target in TARGETS.items():
        table.add_row(words[name], _number(shown[name]), str(target), verdicts[target.met(shown[name])])
    table.add_section()
    for name in (name for name in shown if name not in TARGETS):
        if shown[name] is not None:
            table.add_row(words.get(name, name), _number(shown[name]), "", "")
    return table


def _titles() -> dict[str, str]:
    return {
        "save_vs_restic": _("first save: how many times faster than restic"),
        "save_vs_cp": _("first save: our time as a multiple of cp's"),
        "restore_vs_restic": _("restore: how many times faster than restic"),
        "nochange_vs_restic": _("save without a change, whole process: how many times faster than restic"),
        "size_vs_restic": _("repository: our bytes as a share of restic's"),
        "s3_bf16_vs_line": _("bf16 weights to S3 at 1 Gbit/s: logical rate as a multiple of the line's"),
        "s3_random_vs_line": _("incompressible bytes to S3 at 1 Gbit/s: rate as a share of the line's"),
        "working_set_share": _("share of the restore after which tree and files up to 1 MiB are in place"),
        "small_save_vs_restic": _("small files, first save: how many times faster than restic"),
        "checkpoint_second_upload_ratio": _("second checkpoint: bytes stored per byte of changed tensors"),
        "gb_per_s": _("first save of the mix, GB/s"),
        "seconds_per_100_gb": _("100 GB at that rate, in seconds"),
    }


def _times(found: Findings, part: str) -> Table:
    dataset = found.datasets[part]
    title = plural(
        "{part}: {size:.2f} GB in {files} files, {rounds} round, seconds",
        "{part}: {size:.2f} GB in {files} files, {rounds} rounds, median seconds",
        found.rounds[part],
    )
    table = Table(
        title=title.format(part=part, size=dataset.bytes / 1e9, files=dataset.files, rounds=found.rounds[part])
    )
    whats = list(dict.fromkeys(what for tally in found.tallies[part].values() for what in tally.samples))
    words = {"save": _("save"), "nochange": _("no change"), "restore": _("restore"), "second_save": _("second save")}
    for heading in (_("tool"), *(words[what] for what in whats), _("repository, MB"), _("encrypts")):
        table.add_column(heading)
    for peer, tally in found.tallies[part].items():
        cells = [_number(found.median(part, peer, what)) for what in whats]
        size = f"{statistics.median(tally.sizes) / 1e6:,.0f}" if tally.sizes else "–"
        table.add_row(peer, *cells, size, _("yes") if PEERS[peer].encrypts else _("no"))
    return table


def _limits(found: Findings) -> Table:
    table = Table(title=_("The limits of this machine, GB/s"))
    table.add_column(_("what"))
    table.add_column(_("GB/s"))
    for name, rate in found.limits.items():
        table.add_row(name, _number(rate))
    if found.line:
        table.add_row(
            _("plain TCP over the 1 Gbit/s link, up and down"), " / ".join(_number(r / 1e9) for r in found.line)
        )
    return table


def _speak(console: Console, found: Findings, shown: Figures) -> None:
    if shown["gb_per_s"] and shown["seconds_per_100_gb"]:
        words = _(
            "{rate:.2f} GB/s on the mix, in memory, {processors} processors: 100 GB would take {seconds:.0f} s "
            "if disks and links kept up."
        )
        processors = found.facts["machine"]["processors"]
        console.print(words.format(rate=shown["gb_per_s"], processors=processors, seconds=shown["seconds_per_100_gb"]))
    ahead = wins(found)
    console.print(_("Where a peer wins:") if ahead else _("No peer wins anywhere that was measured."))
    for win in ahead:
        console.print(f"  {_said(win)}")
    console.print(_("Versions:"))
    for version in found.facts["peers"].values():
        console.print(f"  {version}")
    if "0.14" in found.facts["peers"].get("restic", ""):
        console.print(_("  This restic is Debian's and old (2022); newer ones are faster in places."))
    for what, reason in reasons(found).items():
        console.print(_("Not measured: {what}: {reason}").format(what=what, reason=reason))
    for race, rounds in disturbed(found).items():
        words = _("Others took more than {share:.0%} of the processors in these rounds of {part}: {rounds}.")
        console.print(words.format(share=SHARE_MAX, part=race, rounds=", ".join(map(str, rounds))))
    if len({one["code"] for one in found.parts.values()}) > 1:
        console.print(_("The parts were measured with different states of the program."))
    load, processors = found.facts["machine"]["load_before"], found.facts["machine"]["processors"]
    if load > processors * BUSY_SHARE:
        words = _("The machine was busy when the bench began (load {load} on {processors} processors).")
        console.print(words.format(load=load, processors=processors))
    if (kind := found.facts["machine"]["file_system"]) not in ("tmpfs", "ramfs"):
        console.print(_("The work directory lies on {kind}, not in memory: times hold for that.").format(kind=kind))


def _said(win: Win) -> str:
    words = {
        "save": _("{peer} saves {part} {factor:.2f} times as fast as Dumont."),
        "restore": _("{peer} restores {part} {factor:.2f} times as fast as Dumont."),
        "nochange": _("{peer} saves an unchanged {part} {factor:.2f} times as fast as Dumont."),
        "second_save": _("{peer} saves the second checkpoint {factor:.2f} times as fast as Dumont."),
        "size": _("Dumont's repository of {part} is {factor:.2f} times as large as that of {peer}."),
    }
    said = words[win.what].format(peer=win.peer, part=win.part, factor=win.factor)
    return said if PEERS[win.peer].encrypts else f"{said} {_('It does not encrypt.')}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
