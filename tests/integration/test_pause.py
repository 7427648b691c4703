"""The address's pause: what a client that asks and asks sees of a planned move, and what is made of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dumont.demo.pause import Answers, Served, asking
from dumont.demo.report import PLANNED, Report, Round, as_json, pauses


def test_a_pause_runs_from_the_last_old_answer_to_the_first_new_one() -> None:
    """Answers overtake each other: what counts is when each was whole."""
    answers = Answers([Served(1.0, "cpu", 2), Served(1.9, "gpu", 3), Served(1.2, "cpu", 2), Served(1.8, "gpu", 3)])
    assert answers.pause_ms(3) == 600
    assert answers.pause_ms(4) is None and answers.pause_ms(2) is None


def test_percentiles_are_pauses_that_were_measured() -> None:
    """Nearest rank; nothing is told of none."""
    told = pauses(list(range(100, 0, -1)))
    assert (told["rounds"], told["p50"], told["p90"], told["p99"], told["max"]) == (100, 50, 90, 99, 100)
    assert pauses([]) == {"rounds": 0, "min": None, "p50": None, "p90": None, "p99": None, "max": None}


def test_a_planned_round_is_judged_by_its_pause_and_by_what_was_lost() -> None:
    """A pause that nobody saw is no success."""
    assert Round(number=1, kind=PLANNED, pause_ms=900).ok
    assert not Round(number=1, kind=PLANNED).ok
    assert not Round(number=1, kind=PLANNED, pause_ms=5_001).ok
    assert not Round(number=1, kind=PLANNED, pause_ms=900, acked_lost=1).ok
    told = as_json(Report((Round(number=1, kind=PLANNED, pause_ms=900),), 1))
    assert told["pause_ms"]["p50"] == 900 and told["ok"]


@asynccontextmanager
async def address(answers: list[bytes]) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """An address that answers each connection with the next of these, the last again and again; and its last word."""
    last = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0) if len(answers) > 1 else answers[0])
        if len(answers) == 1:
            last.set()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/.dumont/probe", last


def said(**told: object) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(told).encode()


async def test_only_a_primary_with_open_doors_has_answered() -> None:
    """A refusal, a cut line and a machine whose doors are shut are all nobody to a client."""
    words = [
        said(serving=True, epoch=2, instance="cpu"),
        b"",
        b"HTTP/1.1 503 Busy\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n{half",
        said(serving=False, epoch=3, instance="gpu"),
        said(serving=True, epoch=3, instance="gpu"),
    ]
    async with address(words) as (url, last), asking(url) as answers:
        await asyncio.wait_for(last.wait(), 30)
        async with asyncio.timeout(30):
            while {one.epoch for one in answers.all} != {2, 3}:
                await asyncio.sleep(0.01)
    assert {(one.instance_id, one.epoch) for one in answers.all} == {("cpu", 2), ("gpu", 3)}
    assert answers.pause_ms(3) is not None
