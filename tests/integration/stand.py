"""A server whose machines run pretended agents: `python -m tests.integration.stand HOME`."""

import asyncio
import sys
from pathlib import Path

from dumont.main import serve
from dumont.provider.jail import Mode
from dumont.provider.local import LocalProvider


async def open_provider(home: Path) -> LocalProvider:
    return await LocalProvider.open(home, Mode.PLAIN, (sys.executable, str(Path(__file__).with_name("fake_agent.py"))))


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), open_provider))
