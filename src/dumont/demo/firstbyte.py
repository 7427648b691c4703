"""The first byte: how long after a fault a new primary answers at the same address.

Answers means: a command run there over `ssh` read the last acknowledged file.
"""

import asyncio
import time
import uuid
from dataclasses import dataclass

from dumont.demo.address import Address, Answer

ATTEMPT_EVERY_S = 0.1
ATTEMPTS_AT_ONCE = 4
ATTEMPT_TIMEOUT_S = 6.0
GIVE_UP_S = 30.0


@dataclass(frozen=True)
class FirstByte:
    """`after_ms` from the fault to the whole answer; `text` is what the last acknowledged file holds there."""

    after_ms: int
    instance_id: str
    epoch: int
    text: str
    attempts: int


def command(nonce: str, slot: str) -> str:
    """Prints four lines: the nonce, the instance's id, its epoch, and what is in the file."""
    run = "${DUMONT_SOCKET%/*}"
    identity = r"""sed -n 's/.*"instance_id": *"\([^"]*\)".*/\1/p'"""
    return f"""printf '%s\\n' {nonce} "$({identity} "{run}/boot.json")" "$(cat "{run}/epoch")" "$(cat '{slot}')" """


def parse(answer: Answer, nonce: str, old_id: str) -> tuple[str, int, str] | None:
    """Instance, epoch and text when another instance than the old one answered in full, else None."""
    lines = answer.output.splitlines()
    if answer.status or len(lines) != 4 or lines[0] != nonce or lines[1] in ("", old_id):
        return None
    return lines[1], int(lines[2]) if lines[2].isdigit() else 0, lines[3]


async def first_byte(address: Address, slot: str, old_id: str, fault_at: float) -> FirstByte | None:
    """Try every 100 ms, a few attempts at a time, so that a stuck one hides nothing. None after GIVE_UP_S.

    `fault_at` is the fault's instant by `time.monotonic`.
    """
    attempts: set[asyncio.Task[FirstByte | None]] = set()
    count = 0
    try:
        while time.monotonic() < fault_at + GIVE_UP_S:
            if len(attempts) < ATTEMPTS_AT_ONCE:
                count += 1
                attempts.add(asyncio.create_task(_attempt(address, slot, old_id, (fault_at, count))))
            tick = asyncio.create_task(asyncio.sleep(ATTEMPT_EVERY_S))
            while not tick.done():
                done, _ = await asyncio.wait({tick, *attempts}, return_when=asyncio.FIRST_COMPLETED)
                attempts -= done
                found = next((task.result() for task in done - {tick} if task.result()), None)
                if isinstance(found, FirstByte):
                    tick.cancel()
                    return found
        return None
    finally:
        for task in attempts:
            task.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)


async def _attempt(address: Address, slot: str, old_id: str, begun: tuple[float, int]) -> FirstByte | None:
    nonce = uuid.uuid4().hex
    answer = await address.run(command(nonce, slot), ATTEMPT_TIMEOUT_S)
    after_ms = round((time.monotonic() - begun[0]) * 1000)
    found = parse(answer, nonce, old_id)
    return FirstByte(after_ms, *found, attempts=begun[1]) if found else None
