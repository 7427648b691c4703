"""A demo's report: what counts as kept, and the object that programs read."""

import io
from typing import Any

import pytest
from rich.console import Console

from dumont.client.results import Happened
from dumont.demo import marks
from dumont.demo.acklog import Acked, Found, acked_bytes, commits, lost, parse, rates
from dumont.demo.address import Answer
from dumont.demo.fenced import is_unmerged
from dumont.demo.firstbyte import parse as parse_answer
from dumont.demo.report import CUT_OFF, KILLED, Report, Round, as_json, print_round, print_verdict, size
from dumont.errors import Corrupt


def a_round(**changes: Any) -> Round:
    kept = {"number": 1, "kind": KILLED, "first_byte_ms": 700, "tree_equal": True, "training_resumed": True}
    return Round(**kept | changes)


def nonce(number: int, slot: str = "a") -> Acked:
    return Acked(kind="nonce", at=number, token=f"1.{number}", commit=(1, number), text=f"text {number}", slot=slot)


def step(number: int, *, run: str = "r", at: float = 0.0, written: int = 0) -> Acked:
    told = {"bytes": written, "appends": written // 10}
    return Acked(kind="step", at=at, token="t", commit=(1, number), step=number, run=run, written=told)


def test_the_object_holds_exactly_the_promised_fields() -> None:
    """Programs read it; a renamed field is a broken promise."""
    told = as_json(Report((a_round(), a_round(kind=CUT_OFF, first_byte_ms=2900)), asked=2))
    assert set(told) == {"rounds", "by_kind", "acked_lost", "training_resumed", "ok"}
    assert set(told["rounds"][0]) == {
        "kind", "detected_ms", "promoted_ms", "first_byte_ms", "acked_commits", "acked_lost", "at_risk_bytes",
        "tree_equal", "switchover_ms",
    }  # fmt: skip
    assert told["by_kind"] == {
        "killed": {"first_byte_ms_p50": 700, "first_byte_ms_max": 700},
        "cut_off": {"first_byte_ms_p50": 2900, "first_byte_ms_max": 2900},
    }
    assert told["ok"] is True


def test_the_median_and_the_slowest_are_those_of_one_kind() -> None:
    """Mixing kinds would hide slow cut-offs behind fast kills."""
    rounds = [a_round(first_byte_ms=ms) for ms in (900, 300, 500, 400)] + [a_round(kind=CUT_OFF, first_byte_ms=4000)]
    by_kind = as_json(Report(tuple(rounds), asked=5))["by_kind"]
    assert by_kind["killed"] == {"first_byte_ms_p50": 450, "first_byte_ms_max": 900}
    assert by_kind["cut_off"] == {"first_byte_ms_p50": 4000, "first_byte_ms_max": 4000}


@pytest.mark.parametrize(
    "broken",
    [
        {"first_byte_ms": 5001},
        {"first_byte_ms": None},
        {"acked_lost": 1},
        {"tree_equal": False},
        {"training_resumed": False},
        {"finished": False},
        {"checks": {"no_late_ack": False}},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_one_broken_promise_makes_the_verdict_no(broken: dict[str, Any]) -> None:
    """A verdict that averages would sell a lost byte for a fast median."""
    assert not Report((a_round(), a_round(**broken)), asked=2).ok


def test_a_demo_that_played_fewer_rounds_than_asked_did_not_succeed() -> None:
    """Otherwise a harness that gives up early would always be right."""
    assert not Report((), asked=0).ok
    assert not Report((a_round(),), asked=2).ok
    assert Report((a_round(),), asked=1).ok


def test_people_get_a_timeline_and_a_verdict() -> None:
    """Both must print whatever was not observed."""
    out = Console(file=io.StringIO(), width=120)
    round_ = a_round(kind=CUT_OFF, direction="in", checks={"not_merged": True}, notes=["[odd] words"])
    print_round(out, round_)
    print_verdict(out, Report((round_,), asked=1, rates={"bytes": 2048.0, "renames": 10.0}))
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert "not seen" in text
    assert "700 ms" in text
    assert "[odd] words" in text
    assert "2.0 KiB/s" in text


def test_sizes_are_for_people() -> None:
    """1,048,576 is not read at a glance; and unknown is not zero."""
    assert [size(n) for n in (0, 1023, 1536, 5 * 2**20, 3 * 2**40)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3072.0 GiB",
    ]  # fmt: skip
    assert size(None) == "unknown"


def test_an_acknowledged_line_that_is_gone_is_a_loss() -> None:
    """This is the check that the whole demo is for."""
    found = Found(("text 1", "text 3"), {"a": "text 3"})
    assert lost([nonce(1), nonce(2), nonce(3)], found) == [nonce(2)]


def test_a_slot_may_hold_a_later_text_but_not_an_earlier_one() -> None:
    """A replica may be ahead of what was acknowledged, never behind it."""
    lines = ("text 1", "text 2", "text 3")
    assert lost([nonce(1), nonce(2)], Found(lines, {"a": "text 3"})) == []
    assert lost([nonce(1), nonce(2)], Found(lines, {"a": "text 1"})) == [nonce(2)]
    assert lost([nonce(2)], Found(lines, {})) == [nonce(2)]


def test_training_that_goes_on_from_before_an_acknowledged_step_is_a_loss() -> None:
    """Steps are not in the witness's file; the checkpoint must hold them."""
    assert lost([step(25), step(50)], Found((), {}, ({"step": 50},))) == []
    assert lost([step(25), step(50)], Found((), {}, ({"step": 50}, {"step": 25}))) == [step(50)]


def test_commits_and_bytes_are_counted_once() -> None:
    """Two barriers may be answered by one commit, and each run counts its bytes from nothing."""
    acked = [step(1, written=100), step(2, written=500), step(2, written=500), step(3, run="s", written=9), nonce(2)]
    assert commits(acked) == 3
    assert acked_bytes(acked) == 400


def test_rates_are_those_of_the_longest_run() -> None:
    """A run that was killed at once says nothing of the load."""
    acked = [step(1, at=0, written=0), step(2, at=10, written=1000), step(3, run="s", at=11), step(4, run="s", at=12)]
    assert rates(acked) == {"bytes": 100.0, "appends": 10.0}
    assert rates([step(1)]) == {}


def test_a_line_that_nobody_of_ours_wrote_is_refused() -> None:
    """A log that can't be read proves nothing."""
    assert parse('{"kind": "nonce", "at": 1, "token": "1.2", "commit": [1, 2], "more": 1}').commit == (1, 2)
    for line in (b"{}", b"[]", b"nonsense", b'{"kind": "nonce", "commit": null}'):
        with pytest.raises(Corrupt):
            parse(line)


def test_marks_are_measured_from_the_fault() -> None:
    """What happened before it belongs to another round."""

    def at(second: str, kind: str, **facts: Any) -> Happened:
        return Happened(workspace="w", at=f"2026-01-01T00:00:{second}+00:00", kind=kind, facts=facts)

    fault = marks.instant(at("10", ""))
    told = marks.after(
        [
            at("01", "promoted", reason="failover"),
            at("10.400", "promoted", reason="failover"),
            at("10.300", "fenced", instance="gpu-1", branch="b-1"),
            at("10.900", "failover", detected_at="2026-01-01T00:00:10.250+00:00"),
            at("12", "rented", machine="cpu"),
            at("13", "rented", machine="gpu"),
            at("14", "ack_set", members=""),
            at("15", "ack_set", members="gpu-2"),
        ],
        fault,
    )
    assert marks.detected_ms(told, fault) == 250
    assert (found := marks.promoted(told, reason="failover"))
    assert found.after_ms == 400
    assert (found := marks.rented_gpu(told))
    assert found.after_ms == 3000
    assert (found := marks.joined(told))
    assert found.after_ms == 5000
    assert marks.branch_of(told, "gpu-1") == "b-1"
    assert marks.branch_of(told, "gpu-2") == ""


def test_only_another_instance_counts_as_the_first_byte() -> None:
    """An answer that was under way when its primary died is not a failover."""
    assert parse_answer(Answer(0, "n\ncpu-1\n4\ntext\n", ""), "n", "gpu-1") == ("cpu-1", 4, "text")
    for answer in (
        Answer(0, "n\ngpu-1\n3\ntext\n", ""),
        Answer(0, "other\ncpu-1\n4\ntext\n", ""),
        Answer(0, "n\ncpu-1\n", ""),
        Answer(255, "n\ncpu-1\n4\ntext\n", ""),
    ):
        assert parse_answer(answer, "n", "gpu-1") is None


def test_a_merged_branch_is_found() -> None:
    """A negative control: divergent lines in the new primary's log mean that two histories were mixed."""
    promoted, old = b"1 a\n2 b\n", b"1 a\n2 b\n3 old\n"
    assert is_unmerged(old, promoted, b"1 a\n2 b\n3 new\n")
    assert is_unmerged(promoted, promoted, b"1 a\n2 b\n3 new\n"), "the standby had received everything"
    assert not is_unmerged(old, promoted, b"1 a\n2 b\n3 old\n4 new\n")
    assert not is_unmerged(old, promoted, b"1 a\n3 new\n")
