"""The official `vastai` client from PyPI, in an environment of its own: it pins half of the world."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dumont.emulate.vast.world import KEY

VERSION = "1.9.1"
CACHE = (
    Path(__file__).resolve().parents[2] / ".cache" / f"vastai-{VERSION}-py{sys.version_info[0]}.{sys.version_info[1]}"
)
INSTALL_S_MAX = 600
CALL_S_MAX = 60.0


def installed() -> Path:
    """The directory of its programs, installed once. Skips the test where pip can't install it."""
    if not (CACHE / "complete").exists():
        commands = (
            [sys.executable, "-m", "venv", "--clear", "--without-pip", str(CACHE)],
            [
                sys.executable, "-m", "pip", "--python", str(CACHE / "bin/python"), "install", "--quiet",
                "--no-compile", "--disable-pip-version-check", f"vastai=={VERSION}",
            ],
        )  # fmt: skip
        for command in commands:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S_MAX)
            if ended.returncode:
                pytest.skip(f"pip can't install vastai {VERSION}: {ended.stderr.strip().splitlines()[-1:]}")
        (CACHE / "complete").touch()
    return CACHE / "bin"


_READY = b"ready\n"
_MOTHER = """
import json, os, sys
from vastai import VastAI
from vastai.cli.commands import instances, offers, keys, billing, auth
from vastai.cli.main import main
print("ready", flush=True)
for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if child:
        print(json.dumps(os.waitpid(child, 0)[1]), flush=True)
        continue
    for number, path in enumerate(("/dev/null", call["output"], call["errors"])):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    if call["program"]:
        exec(call["program"])
        sys.exit(0)
    sys.argv = ["vastai", *call["arguments"]]
    sys.exit(main())
"""
"""Imports the client once, which takes a second of the processor, and forks for each call. What it reads of the
environment while it is imported, an address and a key, is of one test."""


@dataclass
class Official:
    """Its command line and its SDK, each call a process of its own. Exit codes say nothing: output is read."""

    programs: Path
    home: Path
    url: str
    key: str = KEY
    _mother: asyncio.subprocess.Process | None = None

    async def raw(self, *arguments: str) -> Any:
        """The JSON that a verb prints with `--raw`; of an error, what it prints on the other stream."""
        output, errors = await self._run(arguments=[*arguments, "--raw"])
        text = output.strip() or errors.strip()
        return json.loads(text) if text else None

    async def words(self, *arguments: str) -> str:
        """What a verb prints for people, both streams."""
        output, errors = await self._run(arguments=arguments)
        return output + errors

    async def sdk(self, expression: str) -> Any:
        """What an expression over `vast`, an SDK object, is worth."""
        program = (
            f"vast = VastAI(api_key={self.key!r}, server_url={self.url!r})\n"
            f"print('\\n=>' + json.dumps({expression}, default=str))\n"
        )
        output, errors = await self._run(program=program)
        assert "\n=>" in output, f"the SDK said: {errors}"
        return json.loads(output.rpartition("\n=>")[2])

    async def aclose(self) -> None:
        """End its process, and a call that still runs."""
        if self._mother and self._mother.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._mother.pid, signal.SIGKILL)
            await self._mother.wait()

    async def _run(self, arguments: Sequence[str] = (), program: str = "") -> tuple[str, str]:
        """One call, of the command line or of Python; what it wrote to either stream."""
        output, errors = self.home / "output", self.home / "errors"
        call = {"arguments": arguments, "program": program, "output": str(output), "errors": str(errors)}
        async with asyncio.timeout(CALL_S_MAX):
            self._mother = self._mother or await self._born()
            assert self._mother.stdin and self._mother.stdout
            self._mother.stdin.write(json.dumps(call).encode() + b"\n")
            assert await self._mother.stdout.readline(), "the official client's process ended"
        return output.read_text(), errors.read_text()

    async def _born(self) -> asyncio.subprocess.Process:
        home = str(self.home)
        mother = await asyncio.create_subprocess_exec(
            str(self.programs / "python"), "-c", _MOTHER,
            env={
                "PATH": os.environ["PATH"], "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home,
                "VAST_URL": self.url, "VAST_API_KEY": self.key, "VASTAI_NO_UPDATE_CHECK": "1", "NO_COLOR": "1",
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert mother.stdout
        assert await mother.stdout.readline() == _READY
        return mother
