"""The command line's root: all verbs, and the options that every verb understands."""

from typing import Annotated

import typer

from dumont import __version__
from dumont.cli import (
    advise,
    branches,
    demo,
    doctor,
    down,
    drill,
    emulate,
    events,
    history,
    keep,
    launch,
    ls,
    offers,
    provider,
    rm,
    show,
    snapshot,
    ssh,
    ssh_config,
    sync,
    up,
)
from dumont.cli import version as version_verb
from dumont.i18n import _, use

app = typer.Typer(
    name="dumont",
    help=_("GPUs at spot prices that do not lose your work."),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"dumont {__version__}")
        raise typer.Exit


@app.callback()
def options(
    lang: Annotated[str, typer.Option("--lang", help=_("Language: en or pt_BR. Default: that of LANG."))] = "",
    version: Annotated[
        bool, typer.Option("--version", help=_("Print the version."), callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """What stands before the verb."""
    if lang:
        use(lang)


app.command("up", help=_("Start server and gateway; harmless when they run."))(up.up)
app.command("down", help=_("Stop server and gateway; the machines go on."))(down.down)
app.command("doctor", help=_("Check this machine, the server and the gateway."))(doctor.doctor)
app.command("launch", help=_("Create a workspace."))(launch.launch)
app.command("ls", help=_("List the workspaces."))(ls.ls)
app.command("show", help=_("Show a workspace, and what a crash would lose now."))(show.show)
app.command(
    "ssh",
    help=_("Log in to a workspace, or run a command there."),
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)(ssh.ssh)
app.command("ssh-config", help=_("Print OpenSSH configuration for workspaces."))(ssh_config.ssh_config)
app.command("sync", help=_("Wait until everything written is on the whole ack set."))(sync.sync)
app.command("drill", help=_("Really interrupt the primary, and print a receipt."))(drill.drill)
app.command("branches", help=_("List, browse and copy from branches."))(branches.branches)
app.command("events", help=_("Show a workspace's timeline."))(events.events)
app.command("keep", help=_("Show or change which commits of a workspace the store keeps."))(keep.keep)
app.command("history", help=_("List what removed workspaces left in the store; keep it or delete it."))(history.history)
app.command("rm", help=_("Delete a workspace and let its machines go."))(rm.rm)
app.command("demo", help=_("Kill machines under a real workload and judge the outcome."))(demo.demo)
app.command(
    "snapshot",
    help=_("Save and restore directories; no server is needed."),
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)(snapshot.snapshot)
app.command(
    "advise",
    help=_("Say what you want to do; get the GPU to rent, why, how long and how much."),
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)(advise.advise)
app.command("offers", help=_("Show what is for rent now, and what an hour of it really costs."))(offers.offers)
app.add_typer(provider.app, name="provider", help=_("Rent from Vast.ai and Google Cloud: add, check and try accounts."))
app.command(
    "emulate",
    help=_("Run an emulator of Vast.ai or Google Compute Engine."),
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)(emulate.emulate)
app.command("version", help=_("Print the version."))(version_verb.version)
