"""The questions: at most three, only about what is unknown, most deciding first."""

import pytest

from dumont.advisor.question import QUESTIONS_MAX, questions
from dumont.advisor.reader.read import read
from dumont.advisor.workload import REFUSED, TASKS, Workload


@pytest.mark.parametrize("task", TASKS)
def test_no_task_asks_more_than_three_questions(task: str) -> None:
    """A form of ten fields is what the sentence was to spare people."""
    asked = questions(Workload.model_validate({"task": task}))
    assert len(asked) <= QUESTIONS_MAX and len({question.field for question in asked}) == len(asked)
    assert all(question.text.endswith("?") and question.field in Workload.model_fields for question in asked)
    assert bool(asked) is (task not in REFUSED)


def test_what_is_known_is_not_asked() -> None:
    """Asking again for what was said shows that nobody listened."""
    workload = read("QLoRA on a 7B, 2k examples, seq 1024, 3 epochs, under $20, in 5 hours").workload
    assert questions(workload) == ()


def test_a_loose_deadline_and_a_wish_for_the_cheapest_are_answers() -> None:
    """ "sem pressa, o mais barato" leaves nothing to ask about time and money."""
    workload = read("embeddings de 2 milhões de textos com bge-m3, o mais barato possível, sem pressa").workload
    assert questions(workload) == ()


def test_only_what_changes_the_choice_is_asked_once_the_ranking_has_said_so() -> None:
    """The ranking knows offers and estimates; the table of usual suspects does not."""
    asked = questions(Workload(task="llm-lora"), changing={"budget"})
    assert [question.field for question in asked] == ["budget"]
