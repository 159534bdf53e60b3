"""A question that is trained on is found, whatever stands around it; one that only sounds alike is not."""

import pytest

from configs.errors import SlipwayError
from delivery.build.overlap import SuiteQuestion, find_overlap, refuse_overlap

QUESTION = "A choir stands in 6 rows with 13 singers in each row. How many singers are there?"


def overlap(*texts: str, question: str = QUESTION):
    return find_overlap(
        [SuiteQuestion("sums", "choir", question)], [(f"row{n}", [text]) for n, text in enumerate(texts)]
    )


@pytest.mark.parametrize(
    "text",
    [
        QUESTION,
        QUESTION.upper(),
        QUESTION.rstrip("?") + " ?",
        f"  {QUESTION}\n",
        f"Answer this, please: {QUESTION} Think step by step.",
        "In town a choir stands in 6 rows with 13 singers in each row. How many singers are there in all?",
    ],
)
def test_a_question_is_found_in_other_spellings_and_in_longer_texts(text):
    [found] = overlap("Hello.", text).found
    assert found.row == "row1"


@pytest.mark.parametrize(
    "text",
    [
        "A choir stands in 7 rows with 12 singers in each row. How many singers are there?",
        "A choir stands in rows. How many singers are there?",
        "How many?",
    ],
)
def test_the_same_words_with_other_numbers_are_another_question(text):
    assert overlap(text).found == ()


def test_a_short_question_is_found_only_where_it_is_all_that_is_asked():
    assert overlap("Hi!", question="Hi").found
    assert not overlap("Hi, how are you?", question="Hi").found


def test_each_question_is_counted_once_with_the_row_that_holds_most_of_it():
    longer = f"Please: {QUESTION}"
    found = overlap(longer, QUESTION, longer).found
    assert [(one.row, one.share) for one in found] == [("row1", 1.0)]


def test_the_refusal_counts_by_suite_and_shows_a_few():
    asked = [SuiteQuestion(suite, f"s{n}", f"Question number {n}?") for suite in ("a", "b") for n in range(9)]
    result = find_overlap(asked, [(f"row{n}", [f"question number {n}"]) for n in range(5)])
    assert result.by_suite() == {"a": 5, "b": 5}
    with pytest.raises(SlipwayError) as caught:
        refuse_overlap("sums", result)
    text = str(caught.value)
    for part in ("trains on 10 of 18", "suite a: 5 of 9", "s0 (the same in row row0)", "eval_overlap: allow", "; ..."):
        assert part in text
    assert "s3" not in text
    refuse_overlap("sums", find_overlap(asked, []))
