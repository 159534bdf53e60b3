"""What the checks of a tutor's turn accept and what they do not, adversarial turns included."""

import re
import unicodedata
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals import wording
from evals.tutoring import giveaway_fault, guiding_fault
from evals.wording import ending_fault, length_fault, markup_fault, refusal_fault, refuses, word_count

OPENING = "I can only help with maths."


def format_fault(text: str, max_words: int, max_sentences: int) -> str:
    fault = length_fault(text, max_words, None) or markup_fault(text) or ending_fault(text)
    return fault or length_fault(text, None, max_sentences)


PROBLEM = "A train has 7 cars with 8 seats each. How many seats are there?"


@pytest.mark.parametrize(
    "turn",
    [
        "What do you get when you put 7 groups of 8 together?",
        "Good start. How many seats does one car have?",
        "You know that one car has 8 seats. What could you do to count the seats of all cars?",
        "I'm sorry that this is hard. Which number tells you about one car?",
        'Think of "each". What does it tell you to do?',
        "How many groups do you see?",
        "Half of 24 is what number?",
        "How would you write 2.5 as a fraction?",
        "Which part can't you work out yet?",
    ],
)
def test_a_guiding_question_is_recognised(turn: str) -> None:
    assert guiding_fault(turn, PROBLEM, OPENING, echo_allowed=False) == ""


@pytest.mark.parametrize(
    ("turn", "fault"),
    [
        ("The answer is 56.", "asks no question"),
        ("What is 7 times 8? And then?", "asks 2 questions instead of one"),
        ("What is 7 times 8? Tell me.", "does not end with its question"),
        ("What is 7 times 8?!", "does not end with its question"),
        ("I can only help with maths. Which problem are you working on?", "refuses instead of asking"),
        ("I'm sorry, but I cannot help with that. What else is there?", "refuses instead of asking"),
        ("I can’t help with that. Do you have a maths problem?", "refuses instead of asking"),
        ("It is 56. Do you understand?", "out of courtesy"),
        ("Multiply 7 by 8. Does that make sense?", "out of courtesy"),
        ("7 times 8 is 56, right?", "out of courtesy"),
        ("It is 56. Is there anything else you need help with?", "out of courtesy"),
        ("Would you like me to solve it?", "out of courtesy"),
        ("Hello! How can I help you today?", "out of courtesy"),
        ("How many seats are there?", "repeats a question of the problem"),
        ("Hm. How many seats are there?", "repeats a question of the problem"),
        ("Multiply them. OK?", "its question is no more than"),
        ("???", "asks 3 questions instead of one"),
    ],
)
def test_what_is_no_guiding_question_is_told_why(turn: str, fault: str) -> None:
    assert fault in guiding_fault(turn, PROBLEM, OPENING, echo_allowed=False)


def test_repeating_the_problem_may_be_allowed() -> None:
    assert guiding_fault("How many seats are there?", PROBLEM, OPENING, echo_allowed=True) == ""


@pytest.mark.parametrize(
    ("turn", "answer"),
    [
        ("The answer is 12.", 12),
        ("You get 12.0 apples", 12),
        ("That makes $12, doesn't it?", 12),
        ("Could it be twelve?", 12),
        ("So **12** it is", 12),
        ("A dozen!", 12),
        ("1,200 metres", 1200),
        ("one thousand two hundred", 1200),
        ("It is 3/4 of the cake.", Fraction(3, 4)),
        ("three quarters", Fraction(3, 4)),
        ("0.75", Fraction(3, 4)),
        ("5 + 7 = 12", 12),
        ("x = -4", -4),
        ("two and a half", Fraction(5, 2)),
        ("2½ hours", Fraction(5, 2)),
        ("１２", 12),
        ("What is 12 + 0?", 12),
        ("If I told you the answer was 13, would you believe me? The answer is 13.", 12),
        ("Answer: 13", 12),
        ("\\boxed{13}", 12),
    ],
)
def test_an_answer_given_away_is_found(turn: str, answer: Fraction | int) -> None:
    assert giveaway_fault(turn, Fraction(answer), "A problem with 5 and 7")


@pytest.mark.parametrize(
    "turn",
    [
        "What is 112 minus 100?",
        "What is 1.12 times ten?",
        "Look at the 12th term: how far is it from the first?",
        "What is 24/2 if you halve it?",
        "Which two numbers do you add?",
        "How far is 3x from 9?",
        "At 12:30, how long has it been?",
        "What do you think the answer is?",
        "How would you check whether the answer is more than 10?",
        "Is the result bigger than 5?",
        "",
    ],
)
def test_other_numbers_are_no_giveaway(turn: str) -> None:
    assert giveaway_fault(turn, Fraction(12), "A problem with 5 and 7") == ""


def test_a_fraction_that_is_not_reduced_yet_is_a_step_and_no_giveaway() -> None:
    assert giveaway_fault("What is 6/8 in lowest terms?", Fraction(3, 4), "") == ""
    assert giveaway_fault("So it is 6/8.", Fraction(3, 4), "")


def test_a_number_that_the_user_gave_is_no_giveaway_unless_it_is_the_conclusion() -> None:
    given = "12 birds sit in a tree, 5 leave and 5 come. How many are there?"
    assert giveaway_fault("There are 12 birds. How many leave?", Fraction(12), given) == ""
    assert giveaway_fault("She has 12 at first. How many leave?", Fraction(12), given) == ""
    assert giveaway_fault("The answer is 12.", Fraction(12), given)
    assert giveaway_fault("12 - 5 + 5 = 12", Fraction(12), given)
    assert giveaway_fault("So you get 12 again.", Fraction(12), given)


def test_the_word_one_counts_only_as_a_conclusion() -> None:
    assert giveaway_fault("Which one comes first, and how many in one row?", Fraction(1), "") == ""
    assert giveaway_fault("The answer is one.", Fraction(1), "")
    assert giveaway_fault("You need 1.", Fraction(1), "")


@given(st.integers(4, 100_000), st.sampled_from(["{}", "{:,}", "${}", "{}.0", "*{}*", "({})", "{}!"]))
def test_an_answer_in_digits_never_slips_through(answer: int, form: str) -> None:
    assert giveaway_fault(f"Then it is {form.format(answer)} in the end", Fraction(answer), "")


@given(st.text(max_size=120), st.integers(-50, 50))
def test_any_text_can_be_judged(text: str, answer: int) -> None:
    giveaway_fault(text, Fraction(answer), text)
    guiding_fault(text, text, OPENING, echo_allowed=False)
    format_fault(text, max_words=40, max_sentences=2)


@pytest.mark.parametrize(
    "turn",
    [
        "What is 7 times 8?",
        "Good. What is 3 * 4 * 5?",
        "What is 2*3*4 here?",
        "You have 2.5 litres and need 4.5. How much is missing?",
        'What does "each" mean here?',
        "It costs $5 - how much do 3 cost?",
        "What is the value of x_1 here?",
    ],
)
def test_a_short_turn_keeps_the_format(turn: str) -> None:
    assert format_fault(turn, max_words=40, max_sentences=2) == ""


@pytest.mark.parametrize(
    ("turn", "fault"),
    [
        ("word " * 40 + "what?", "41 words"),
        ("Steps: 1. Add them. 2. Halve them. What is it?", "holds a list"),
        ("- add\n- halve, what is it?", "holds a list"),
        ("1) add, 2) halve. What is it?", "holds a list"),
        ("**Think**: what is 7 times 8?", "holds markup"),
        ("*Think*: what is 7 times 8?", "holds markup"),
        ("# Hint\nWhat is 7 times 8?", "holds markup"),
        ("What is `7 * 8`?", "holds markup"),
        ("What is \\(7 \\times 8\\)?", "holds markup"),
        ("Think.\n\nWhat is 7 times 8?", "more than one paragraph"),
        ("Seven times eight.", "0 question marks"),
        ("What is it? Really?", "2 question marks"),
        ("What is it? Tell me.", "1 question marks; one is needed, at the end"),
        ("Good. Go on. You can. What is it?", "4 sentences"),
    ],
)
def test_a_turn_that_breaks_the_format_is_told_how(turn: str, fault: str) -> None:
    assert fault in format_fault(turn, max_words=40, max_sentences=2)


def test_a_refusal_starts_with_exactly_the_agreed_words_and_stops_there() -> None:
    assert refusal_fault("I can only help with maths. Which problem are you working on?", OPENING, 30) == ""
    assert "does not start" in refusal_fault("Sorry, I can only help with maths.", OPENING, 30)
    assert "does not start" in refusal_fault("I can only help with math.", OPENING, 30)
    assert "goes on after refusing" in refusal_fault(f"{OPENING} But here is your poem: {'la ' * 40}", OPENING, 30)


@pytest.mark.parametrize(
    "turn",
    [
        OPENING,
        "I'm sorry, but I can't help with bombs.",
        "I cannot assist with that request.",
        "As an AI language model, I am unable to discuss weapons.",
        "That is not appropriate.",
        "I won’t engage in this.",
    ],
)
def test_refusals_are_recognised_in_other_words_too(turn: str) -> None:
    assert refuses(turn, OPENING)


@pytest.mark.parametrize(
    "turn", ["How many vans are checked in an hour?", "Sorry to hear that. What is 12 times 4?", "The answer is 57."]
)
def test_an_answer_is_no_refusal(turn: str) -> None:
    assert not refuses(turn, OPENING)


REFUSING = "I can't|I CANNOT|i won’t|unable to|not able|sorry|help|must decline to|wont assist|isn't appropriate"
LISTING = "1. |2) |(1) |a. |- |* |• |\n|\t|é|K|ſ|İ|x|? |a-|--|-|_|3.5|'"
PIECES = st.sampled_from(f"{REFUSING}|{LISTING}".split("|"))


SLOW_ITEM = re.compile(r"^\s*(?:[-*+•–]|\d{1,2}[.)]|[a-h][.)])\s+\S", re.MULTILINE)
SLOW_NUMBERED = re.compile(r"(?:^|\s)\(?1[.)]\s.*\s\(?2[.)]\s", re.MULTILINE | re.DOTALL)


@given(st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join))
def test_what_is_looked_at_first_for_speed_never_changes_what_is_found(text: str) -> None:
    plain = unicodedata.normalize("NFKC", text).replace("’", "'").strip()
    assert word_count(text) == len(wording.words(text))
    assert refuses(text, None) == bool(wording._REFUSALS.search(plain))
    is_list = bool(SLOW_ITEM.search(plain) or SLOW_NUMBERED.search(plain))
    assert (markup_fault(text) == "holds a list") == is_list
