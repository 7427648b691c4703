"""The SSH door, as OpenSSH's own clients and Debian's rsync and git meet it."""

import asyncio
import hashlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import psutil
import pytest

from tests.integration.doorstep import (
    CLIENT_S_MAX,
    Doorstep,
    Ended,
    doorstep,
    make_key,
    needs_openssh,
    number_in,
    public,
    runs,
    until,
)

pytestmark = needs_openssh

LARGE_BYTES = 100_000_000
SWOLLEN_BYTES = 48 * 2**20


@pytest.fixture
async def door(short_dir: Path) -> AsyncIterator[Doorstep]:
    """A session process whose doors are open at epoch 1."""
    async with doorstep(short_dir) as step:
        await step.open()
        yield step


async def reaches(port: int, text: bytes, seconds: float = 10.0) -> bytes:
    """What a service at a local port answers to `text`, as soon as somebody listens there."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.write(text)
            answer = await reader.read(1000)
            writer.close()
            if answer:
                return answer
            await asyncio.sleep(0.02)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"echo " + await reader.read(1000))
    await writer.drain()
    writer.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def ended(process: asyncio.subprocess.Process) -> Ended:
    """Wait until a client that was begun is through."""
    async with asyncio.timeout(CLIENT_S_MAX):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out, err)


async def test_output_errors_and_status_arrive_apart(door: Doorstep) -> None:
    """Scripts on the other side depend on all three."""
    answer = await door.ssh("echo out; echo err >&2; exit 7")
    assert answer == Ended(7, b"out\n", b"err\n")


@pytest.mark.parametrize("status", [0, 1, 126, 255])
async def test_an_exit_status_is_passed_on_as_it_is(door: Doorstep, status: int) -> None:
    """255 is what ssh says of its own failures; a program may say it too."""
    assert (await door.ssh(f"exit {status}")).status == status


async def test_a_signal_is_told_as_a_signal(door: Doorstep) -> None:
    """ssh itself makes 255 of it; other clients see which one it was."""
    assert (await door.ssh("kill -KILL $$")).status == 255
    async with await dialled(door) as client:
        result = await client.run("kill -TERM $$")
    assert result.exit_signal is not None
    assert result.exit_signal[0] == "TERM"


async def test_a_client_can_send_a_signal(door: Doorstep) -> None:
    """Otherwise a remote command that hangs could only be ended by hanging up."""
    async with await dialled(door) as client, client.create_process("echo ready; exec sleep 60") as process:
        assert await process.stdout.readline() == "ready\n"
        process.send_signal("INT")
        result = await process.wait(timeout=10)
    assert result.exit_signal is not None
    assert result.exit_signal[0] == "INT"


async def test_large_output_is_whole(door: Doorstep) -> None:
    """Output is easily cut off at its end when the exit status overtakes it."""
    data = os.urandom(2**20) * (LARGE_BYTES // 2**20)
    (door.workspace / "large").write_bytes(data)
    answer = await door.ssh("cat large; exit 3")
    assert (answer.status, len(answer.out)) == (3, len(data))
    assert hashlib.sha256(answer.out).digest() == hashlib.sha256(data).digest()


async def test_large_input_is_whole(door: Doorstep) -> None:
    """The last bytes before the end of input count too."""
    data = os.urandom(2**20) * (LARGE_BYTES // 2**20)
    answer = await door.ssh("sha256sum", stdin=data)
    assert answer.out.split()[0].decode() == hashlib.sha256(data).hexdigest()


async def test_many_short_commands_lose_no_output(door: Doorstep) -> None:
    """A race between the last output and the exit shows only now and then."""
    answers = await asyncio.gather(*(door.ssh(f"seq {10_000 + number} | tail -n 1") for number in range(16)))
    assert answers == [Ended(0, f"{10_000 + number}\n".encode(), b"") for number in range(16)]


async def test_whoever_does_not_read_is_waited_for(door: Doorstep) -> None:
    """One stuck client must not fill the instance's memory, in either direction."""
    session = psutil.Process(door.process.pid)
    before = session.memory_info().rss
    deaf_client = await door.begin("ssh", "w", "cat /dev/zero")
    deaf_program = await door.begin("ssh", "w", "sleep 60")
    assert deaf_program.stdin
    deaf_program.stdin.transport.set_write_buffer_limits(high=2**16)
    flood = asyncio.create_task(pour(deaf_program.stdin))
    await asyncio.sleep(2)
    grown = session.memory_info().rss - before
    quick = await door.ssh("echo still here")
    flood.cancel()
    for client in (deaf_client, deaf_program):
        client.kill()
        await ended(client)
    assert quick.out == b"still here\n"
    assert grown < SWOLLEN_BYTES, grown


async def pour(target: asyncio.StreamWriter) -> None:
    while True:
        target.write(bytes(2**16))
        await target.drain()


async def test_a_program_that_stopped_reading_does_not_hold_its_output_up(door: Doorstep) -> None:
    """`head` ends early, and whoever feeds it must not hang for it."""
    answer = await door.ssh("head -c 4; exec 0<&-; sleep 0.2; echo done", stdin=bytes(LARGE_BYTES // 10))
    assert answer == Ended(0, bytes(4) + b"done\n", b"")


async def test_a_terminal_is_real(door: Doorstep) -> None:
    """A controlling terminal is what editors, pagers and job control need."""
    answer = await door.client("ssh", "-tt", "w", "tty; echo to it > /dev/tty; ps -o stat= -p $$; exit 5")
    lines = answer.out.decode().split("\r\n")
    assert answer.status == 5
    assert lines[0].startswith("/dev/pts/")
    assert lines[1] == "to it"
    assert "s" in lines[2]  # leads its process session
    assert "+" in lines[2]  # in the terminal's foreground


async def test_a_login_shell_starts_in_the_workspace(door: Doorstep) -> None:
    """That is what `ssh name` is for."""
    asked = b"echo; shopt -q login_shell && echo login; pwd; echo $HOME; exit 4\n"
    answer = await door.client("ssh", "-tt", "w", stdin=asked)
    lines = answer.out.decode().split("\r\n")
    assert answer.status == 4
    assert "login" in lines
    assert lines.count(str(door.workspace)) == 2


async def test_a_terminal_has_the_clients_size_type_and_follows_it(door: Doorstep) -> None:
    """A screen drawn for the wrong size is unreadable."""
    script = "trap 'stty size; exit' WINCH; echo $TERM; stty size; while :; do sleep 0.1; done"
    async with (
        await dialled(door) as client,
        client.create_process(script, term_type="vt220", term_size=(91, 33)) as process,
    ):
        assert [await process.stdout.readline() for _ in range(2)] == ["vt220\r\n", "33 91\r\n"]
        process.change_terminal_size(120, 50)
        async with asyncio.timeout(10):
            assert await process.stdout.readline() == "50 120\r\n"


async def test_job_control_works(door: Doorstep) -> None:
    """Ctrl-C ends the command and not the shell; Ctrl-Z and fg do what they always do."""
    async with await dialled(door) as client, client.create_process(term_type="dumb") as shell:
        shell.stdin.write("PS1=; sleep 100\n")
        await asyncio.sleep(0.5)
        shell.stdin.write("\x03")
        shell.stdin.write("sleep 101\n")
        await asyncio.sleep(0.5)
        shell.stdin.write("\x1a")
        await asyncio.sleep(0.2)
        shell.stdin.write("jobs; kill %1; echo alive-$((40+2))\n")
        async with asyncio.timeout(10):
            seen = await shell.stdout.readuntil("alive-42")
    assert "Stopped" in seen
    assert "sleep 101" in seen


async def test_a_background_program_does_not_keep_a_closed_terminal_open(door: Doorstep) -> None:
    """`ssh -t name 'server &'` has to come back."""
    async with asyncio.timeout(10):
        answer = await door.client("ssh", "-tt", "w", "trap '' HUP; sleep 60 & echo started; exit 6")
    assert (answer.status, answer.out) == (6, b"started\r\n")


async def test_hanging_up_ends_what_runs_on_the_terminal(door: Doorstep) -> None:
    """A lost connection must not leave a shell behind for ever."""
    client = await door.begin("ssh", "-tt", "w", "echo $$ > pid; exec sleep 600")
    pid = await number_in(door.workspace / "pid")
    client.kill()
    await client.wait()
    await until(lambda: not runs(pid))


async def test_a_program_without_a_terminal_outlives_its_client(door: Doorstep) -> None:
    """People start long runs with nohup and close the lid."""
    client = await door.begin("ssh", "w", "nohup sh -c 'echo $$ > pid; exec sleep 600' > /dev/null 2>&1 < /dev/null")
    pid = await number_in(door.workspace / "pid")
    client.kill()
    await client.wait()
    await asyncio.sleep(0.5)
    assert runs(pid)
    os.kill(pid, signal.SIGKILL)


async def test_the_environment_is_the_workspaces(door: Doorstep) -> None:
    """Programs find the agent by it; nothing of the agent's own must leak into it."""
    answer = await door.ssh("env; python3 -c 'import dumont; print(dumont.barrier)' >&2")
    seen = dict(line.split("=", 1) for line in answer.out.decode().splitlines())
    assert seen["DUMONT_SOCKET"] == str(door.run.agent_socket)
    assert (seen["DUMONT_WORKSPACE"], seen["DUMONT_ROLE"], seen["HOME"]) == ("w", "gpu", str(door.workspace))
    assert seen["PORT"].isdecimal()
    assert os.listdir(seen["PYTHONPATH"]) == ["dumont"]
    assert b"function barrier" in answer.err


async def test_a_clients_language_is_passed_on_and_nothing_else(door: Doorstep) -> None:
    """Debian's sshd lets LANG and LC_* through; LD_PRELOAD and the like stay out."""
    names = "LANG=pt_BR.UTF-8 LC_TIME=C LD_PRELOAD=/x HOME=/x DUMONT_SOCKET=/x"
    answer = await door.client("ssh", "-o", f"SetEnv {names}", "w", "env")
    seen = dict(line.split("=", 1) for line in answer.out.decode().splitlines())
    assert (seen["LANG"], seen["LC_TIME"]) == ("pt_BR.UTF-8", "C")
    assert "LD_PRELOAD" not in seen
    assert (seen["HOME"], seen["DUMONT_SOCKET"]) == (str(door.workspace), str(door.run.agent_socket))


@pytest.mark.parametrize("legacy", [[], ["-O"]], ids=["sftp", "legacy"])
async def test_scp_copies_both_ways(door: Doorstep, legacy: list[str]) -> None:
    """Both of its protocols have to end with status 0."""
    source, back = door.home / "source", door.home / "back"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "a file").write_bytes(os.urandom(3_000_000))
    (source / "empty").touch()
    up = await door.client("scp", *legacy, "-rp", str(source), "w:copy")
    down = await door.client("scp", *legacy, "-rp", "w:copy", str(back))
    assert [up, down] == [Ended(0, b"", b""), Ended(0, b"", b"")]
    for copy in (door.workspace / "copy", back):
        assert (copy / "sub" / "a file").read_bytes() == (source / "sub" / "a file").read_bytes()
        assert int((copy / "empty").stat().st_mtime) == int((source / "empty").stat().st_mtime)


async def test_sftp_works_from_the_workspace(door: Doorstep) -> None:
    """Paths are those that programs there see; relative ones start in the workspace."""
    (door.home / "here").write_bytes(b"data" * 100_000)
    batch = b"pwd\nmkdir d\nput here d/there\nln -s d/there link\nchmod 600 d/there\nget link back\nls -l d\nrm link\n"
    answer = await door.client("sftp", "-b", "-", "w", stdin=batch)
    assert answer.status == 0, answer
    assert str(door.workspace).encode() in answer.out
    assert (door.home / "back").read_bytes() == (door.workspace / "d" / "there").read_bytes() == b"data" * 100_000
    assert (door.workspace / "d" / "there").stat().st_mode & 0o777 == 0o600


async def test_a_failed_transfer_says_so(door: Doorstep) -> None:
    """Status 0 for a file that never arrived would be a lie."""
    assert (await door.client("scp", "w:missing", str(door.home / "x"))).status != 0
    assert (await door.client("sftp", "-b", "-", "w", stdin=b"get missing\n")).status != 0


async def test_a_pipe_in_the_workspace_holds_nobody_up(door: Doorstep) -> None:
    """Opening it waits for its other end: the whole session process would stand still."""
    os.mkfifo(door.workspace / "pipe")
    async with asyncio.timeout(10):
        batch = await door.client("sftp", "-b", "-", "w", stdin=b"get pipe\n")
        assert (await door.ssh("echo here")).out == b"here\n"
    assert batch.status != 0


async def test_rsync_works_both_ways(door: Doorstep) -> None:
    """It speaks its own protocol through a command's stdin and stdout, and checks every byte."""
    source = door.home / "tree"
    source.mkdir()
    for number in range(50):
        (source / f"{number}").write_bytes(os.urandom(number * 4000))
    up = await door.client("rsync", "-a", f"{source}/", "w:tree/")
    again = await door.client("rsync", "-ac", "--itemize-changes", f"{source}/", "w:tree/")
    down = await door.client("rsync", "-a", "w:tree/", str(door.home / "back"))
    assert [up.status, again.status, down.status] == [0, 0, 0], (up, again, down)
    assert again.out == b""
    for number in range(50):
        assert (door.home / "back" / f"{number}").read_bytes() == (source / f"{number}").read_bytes()


async def test_git_works(door: Doorstep) -> None:
    """A workspace is where people keep their repositories."""
    made = await door.ssh(
        "git init -q repo && cd repo && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first"
    )
    cloned = await door.client("git", "clone", "-q", f"w:{door.workspace}/repo", "clone")
    assert (made.status, cloned.status) == (0, 0), (made, cloned)
    assert (door.home / "clone" / ".git").is_dir()


async def test_ports_are_forwarded_in_all_three_ways(door: Doorstep) -> None:
    """-L for a notebook in the workspace, -R for a debugger at home, -D for everything."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    local, remote, dynamic = free_port(), free_port(), free_port()
    ways = (f"-L{local}:127.0.0.1:{port}", f"-R{remote}:127.0.0.1:{port}", f"-D127.0.0.1:{dynamic}")
    client = await door.begin("ssh", "-N", "-o", "ExitOnForwardFailure yes", *ways, "w")
    try:
        assert await reaches(local, b"one") == b"echo one"
        assert await reaches(remote, b"two") == b"echo two"
        socks = b"\x04\x01" + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + b"\0"
        reader, writer = await asyncio.open_connection("127.0.0.1", dynamic)
        writer.write(socks)
        async with asyncio.timeout(10):
            assert (await reader.readexactly(8))[1] == 0x5A
            writer.write(b"three")
            assert await reader.read() == b"echo three"
        writer.close()
    finally:
        client.kill()
        await client.wait()
        server.close()


async def test_a_key_that_is_not_the_owners_is_refused(door: Doorstep) -> None:
    """The only lock there is."""
    door.identity = make_key(door.home / "other")
    answer = await door.ssh("echo in")
    assert answer.status == 255
    assert b"Permission denied (publickey)" in answer.err
    assert answer.out == b""


async def test_a_password_is_not_even_asked_for(door: Doorstep) -> None:
    """A password can be guessed."""
    answer = await door.client("ssh", "-o", "PreferredAuthentications none,password,keyboard-interactive", "w", "true")
    assert b"Permission denied (publickey)" in answer.err


async def test_a_removed_key_cuts_its_connections(door: Doorstep) -> None:
    """Whoever left the team must not stay in."""
    client = await door.begin("ssh", "w", "echo in; sleep 60")
    assert client.stdout
    assert await client.stdout.readline() == b"in\n"
    new = make_key(door.home / "new")
    await door.serve(1, owner_keys=(public(new),))
    assert (await ended(client)).status == 255
    assert (await door.ssh("true")).status == 255
    door.identity = new
    assert (await door.ssh("true")).status == 0


async def test_the_host_key_stays_the_same_after_a_restart(door: Doorstep) -> None:
    """With another one OpenSSH refuses to connect, and people learn to ignore the warning."""
    assert (await door.ssh("true")).status == 0
    door.kill()
    await door.start()
    await door.open(2)
    assert await door.ssh("echo again") == Ended(0, b"again\n", b"")


async def test_another_host_key_is_noticed(door: Doorstep) -> None:
    """The control for the test above: the clients here do check."""
    await door.serve(1, host_key=make_key(door.home / "forged").read_text())
    answer = await door.ssh("true")
    assert answer.status == 255
    assert b"verification failed" in answer.err


async def test_a_host_key_may_come_as_pkcs8(door: Doorstep) -> None:
    """The server keeps its keys in that form."""
    pem = asyncssh.import_private_key(door.host_key.read_text()).export_private_key("pkcs8-pem").decode()
    await door.serve(2, host_key=pem)
    await door.until(lambda: door.report.epoch == 2)
    assert (await door.ssh("true")).status == 0


async def test_closed_doors_cut_everybody_and_end_their_programs(door: Doorstep) -> None:
    """A shell on a former primary writes files that nobody will ever see."""
    client = await door.begin("ssh", "-tt", "w", "echo $$ > pid; trap '' HUP TERM; while :; do sleep 1; done")
    pid = await number_in(door.workspace / "pid")
    await door.serve(1, serving=False)
    assert (await ended(client)).status == 255
    await until(lambda: not runs(pid))
    assert (await door.ssh("true")).status == 255
    assert door.report.clients == 0


async def test_a_new_epoch_cuts_everybody(door: Doorstep) -> None:
    """What was said under the old epoch is not continued under the new one."""
    client = await door.begin("ssh", "w", "echo in; sleep 60")
    assert client.stdout
    assert await client.stdout.readline() == b"in\n"
    await door.open(2)
    assert (await ended(client)).status == 255
    assert (await door.ssh("echo new")).out == b"new\n"


async def dialled(door: Doorstep) -> asyncssh.SSHClientConnection:
    """A connection of a client that can do what OpenSSH's can't from a script."""
    return await asyncssh.connect(
        "127.0.0.1",
        door.ports[0],
        username="somebody",
        client_keys=[str(door.owner_key)],
        known_hosts=None,
        config=None,
        agent_path=None,
    )
