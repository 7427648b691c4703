"""`dumont advise`: ask the server, which knows the offers of now; without one, rank the dated price file here."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TypeVar

import msgspec

from dumont.advisor.advice import Market, Settings, advise
from dumont.advisor.answer import answer
from dumont.advisor.estimate.verdict import Estimator
from dumont.advisor.line import answer_lines
from dumont.advisor.llm import LlmReader
from dumont.advisor.pricefile import dated_offers
from dumont.advisor.reader.read import Reading, read
from dumont.advisor.reader.text import Lang
from dumont.advisor.shape import shape_of_config
from dumont.client import Dumont
from dumont.client.advice import Advice, Question
from dumont.client.problem import advice_of, type_of
from dumont.counsel.arguments import config_of, fields_of, read_arguments
from dumont.counsel.record import show_calibration
from dumont.counsel.show import show_advice
from dumont.errors import BadInput, DumontError, ServerAway
from dumont.i18n import _, language, use

OpenReader = Callable[[], LlmReader | None]
"""The composition root's: a reader with a language model, where a key for one is set."""
ORGANISATION = "home"
Answer = TypeVar("Answer")


def main(arguments: Sequence[str], open_reader: OpenReader) -> int:
    """Exit code: 0 answered, 1 failed, 2 wrong use."""
    wanted = read_arguments(arguments)
    try:
        if wanted.workload:
            return _estimate_lines(wanted.workload)
        if wanted.calibration:
            return _calibrate(wanted)
        return _advise(wanted, open_reader)
    except DumontError as error:
        return _fail(error, as_json=wanted.json)
    except BrokenPipeError:
        return 1


def _estimate_lines(name: str) -> int:
    try:
        with open(0 if name == "-" else name, encoding="utf-8", errors="replace", closefd=name != "-") as lines:
            for line in answer_lines(lines):
                sys.stdout.write(line + "\n")
    except BrokenPipeError:
        raise
    except OSError as error:
        raise BadInput(_("{path} can't be read: {why}").format(path=name, why=error)) from error
    return 0


def _calibrate(wanted: argparse.Namespace) -> int:
    found = asyncio.run(_ask(lambda dumont: dumont.calibration()))
    if wanted.json:
        _print_json(asdict(found))
    else:
        show_calibration(found)
    return 0


def _advise(wanted: argparse.Namespace, open_reader: OpenReader) -> int:
    question = Question(
        text=" ".join(wanted.text),
        exchange=wanted.exchange,
        fields=fields_of(wanted.set),
        config=config_of(wanted.config),
        explain=wanted.explain,
        llm=not wanted.no_llm,
    )
    found = asyncio.run(_answered(question, open_reader))
    use(found.lang)
    if wanted.json:
        _print_json(asdict(found))
    else:
        show_advice(found)
    return 0


async def _answered(question: Question, open_reader: OpenReader) -> Advice:
    try:
        return await _ask(lambda dumont: dumont.advise(question))
    except ServerAway:
        pass  # nobody to ask: the price file is here
    reading = await _read(question, open_reader)
    use(reading.lang)
    market = Market(offers=dated_offers(), now=datetime.now().astimezone(), live=False)
    settings = Settings(
        exchange=question.exchange,
        shape=shape_of_config(question.config) if question.config else None,
        fields=question.fields,
    )
    return msgspec.convert(answer(advise(reading, market, settings, Estimator()), explain=question.explain), Advice)


async def _read(question: Question, open_reader: OpenReader) -> Reading:
    lang: Lang = "pt-BR" if language() == "pt_BR" else "en"
    reader = open_reader() if question.llm else None
    if reader is None:
        return read(question.text, lang)
    return await reader.read(question.text, ORGANISATION, lang)


async def _ask(work: Callable[[Dumont], Awaitable[Answer]]) -> Answer:
    async with Dumont() as dumont:
        return await work(dumont)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def _fail(error: DumontError, *, as_json: bool) -> int:
    advice = advice_of(error)
    if as_json:
        _print_json({"error": {"type": type_of(error), "detail": str(error), "advice": advice}})
    sys.stderr.write(_("Error: {what}").format(what=error) + "\n")
    if advice:
        sys.stderr.write(advice + "\n")
    return 1
