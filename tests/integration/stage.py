"""A stage for tests: a real server with pretended agents, a real gateway and the command line, in one short home."""

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dumont.client import Blocking, Home
from dumont.errors import ServerAway

ROOT = Path(__file__).resolve().parents[2]
UP_S_MAX = 30.0


@dataclass
class Stage:
    path: Path
    server: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
        return {**kept, "DUMONT_HOME": str(self.path), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "COLUMNS": "200"}

    def start(self) -> None:
        """The server; `dumont up` finds it running and adds the gateway."""
        (self.path / "log").mkdir(parents=True, exist_ok=True)
        with (self.path / "log" / "server.log").open("ab") as log:
            command = [sys.executable, "-m", "tests.integration.stand", str(self.path)]
            self.server = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        give_up = time.monotonic() + UP_S_MAX
        while not (self.path / "run" / "server.json").exists():
            assert self.server.poll() is None, (self.path / "log" / "server.log").read_text()
            assert time.monotonic() < give_up, "the server did not start in time"
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9: nothing is tidied up."""
        assert self.server is not None
        self.server.kill()
        self.server.wait()
        (self.path / "run" / "server.json").unlink()

    def stop(self) -> None:
        """Server, gateway and every machine."""
        try:
            with Blocking(Home(self.path)) as dumont:
                dumont.stop(release=True)
        except ServerAway:
            pass
        if self.server is not None:
            try:
                self.server.wait(15)
            except subprocess.TimeoutExpired:
                self.server.kill()

    def dumont(self, *words: str, status: int = 0, language: str = "C.UTF-8") -> str:
        """What the command prints. Asserts its exit status."""
        done = self.ask(*words, language=language)
        assert done.returncode == status, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, *words: str, language: str = "C.UTF-8") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dumont.main", *words],
            env={**self.environment, "LANG": language},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.dumont(*words, "--json", status=status))

    def until(
        self, name: str, *, state: str = "running", copies: int = 2, gpus: int | None = None, seconds: float = 30.0
    ) -> Any:
        """The workspace once it is so. `gpus`: so many GPU machines, if that matters."""
        give_up = time.monotonic() + seconds
        with Blocking(Home(self.path)) as dumont:
            while True:
                shown = dumont.workspace(name)
                held = sum(replica.machine == "gpu" for replica in shown.replicas)
                settled = shown.state == state and shown.copies >= copies and not shown.switching_to
                if settled and gpus in (None, held):
                    return shown
                assert time.monotonic() < give_up, f"{shown.state} with {shown.copies} copies and {held} GPU machines"
                time.sleep(0.05)


async def instance_behind(port: int) -> str:
    """Who answers at that port of the gateway."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /.dumont/probe HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = (await reader.read(4096)).decode()
    writer.close()
    names = [line.partition(": ")[2] for line in answer.splitlines() if line.startswith("x-instance")]
    return names[0] if names else ""
