"""The official `vastai` client from PyPI, in an environment of its own: it pins half of the world."""

import asyncio
import json
import os
import subprocess
import sys
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
            [sys.executable, "-m", "venv", "--clear", str(CACHE)],
            [str(CACHE / "bin/python"), "-m", "pip", "install", "--quiet", f"vastai=={VERSION}"],
        )
        for command in commands:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S_MAX)
            if ended.returncode:
                pytest.skip(f"pip can't install vastai {VERSION}: {ended.stderr.strip().splitlines()[-1:]}")
        (CACHE / "complete").touch()
    return CACHE / "bin"


@dataclass(frozen=True)
class Official:
    """Its command line and its SDK, each call a process of its own. Exit codes say nothing: output is read."""

    programs: Path
    home: Path
    url: str
    key: str = KEY

    async def raw(self, *arguments: str) -> Any:
        """The JSON that a verb prints with `--raw`; of an error, what it prints on the other stream."""
        output, errors = await self._run([str(self.programs / "vastai"), *arguments, "--raw"])
        text = output.strip() or errors.strip()
        return json.loads(text) if text else None

    async def words(self, *arguments: str) -> str:
        """What a verb prints for people, both streams."""
        output, errors = await self._run([str(self.programs / "vastai"), *arguments])
        return output + errors

    async def sdk(self, expression: str) -> Any:
        """What an expression over `vast`, an SDK object, is worth."""
        program = (
            "import json,sys\nfrom vastai import VastAI\n"
            f"vast = VastAI(api_key={self.key!r}, server_url={self.url!r})\n"
            f"print('\\n=>' + json.dumps({expression}, default=str))\n"
        )
        output, errors = await self._run([str(self.programs / "python"), "-c", program])
        assert "\n=>" in output, f"the SDK said: {errors}"
        return json.loads(output.rpartition("\n=>")[2])

    async def _run(self, command: list[str]) -> tuple[str, str]:
        home = str(self.home)
        process = await asyncio.create_subprocess_exec(
            *command,
            env={
                "PATH": os.environ["PATH"], "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home,
                "VAST_URL": self.url, "VAST_API_KEY": self.key, "VASTAI_NO_UPDATE_CHECK": "1", "NO_COLOR": "1",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(CALL_S_MAX):
                output, errors = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        return output.decode(), errors.decode()
