"""How numbers are found in a tutor's words."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.numbers import mentions, normalised, value_of


def found(text: str) -> list[str]:
    return [str(mention.value) for mention in mentions(normalised(text))]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("12", ["12"]),
        ("It is 12.", ["12"]),
        ("12.0 and $12 and 12% and 12cm", ["12"] * 4),
        ("**12** or `12` or $12$ or \\boxed{12}", ["12"] * 4),
        ("112, 1.12, 120", ["112", "28/25", "120"]),
        ("1,200 and 1200 and 1,200.50", ["1200", "1200", "2401/2"]),
        ("1,200, and then 3", ["1200", "3"]),
        ("12,13", ["12", "13"]),
        ("12-13", ["12", "13"]),
        ("3/4", ["3/4"]),
        ("½ and 2½", ["1/2", "5/2"]),
        ("2 1/2", ["5/2"]),
        ("\\frac{3}{4}", ["3/4"]),
        ("24 / 12", ["24", "12"]),
        ("7x8 or 7×8", ["7", "8", "7", "8"]),
        ("-4, (-4), 5 - 4, 5-4", ["-4", "-4", "5", "4", "5", "4"]),
        ("\u22124", ["-4"]),
        ("twelve", ["12"]),
        ("Twenty-five", ["25"]),
        ("one hundred and twenty", ["120"]),
        ("twelve hundred", ["1200"]),
        ("two thousand and five", ["2005"]),
        ("seven hundred forty two", ["742"]),
        ("3 thousand", ["3000"]),
        ("a dozen, two dozen", ["12", "24"]),
        ("six and seven", ["6", "7"]),
        ("two, three", ["2", "3"]),
        ("three quarters, a third, one half, half", ["3/4", "1/3", "1/2", "1/2"]),
        ("two and a half, 4 and a half", ["5/2", "9/2"]),
        ("１２", ["12"]),
        (".5", ["1/2"]),
    ],
)
def test_numbers_are_found_however_they_are_written(text: str, values: list[str]) -> None:
    assert found(text) == values


@pytest.mark.parametrize(
    "text",
    [
        "the 12th term",
        "3x",
        "10:12",
        "v1.2.3",
        "1/2/2024",
        "the third step",
        "twenty-fifth",
        "someone",
        "1/0",
        "A4",
        "",
    ],
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert found(text) == []


def test_a_division_is_told_from_a_fraction() -> None:
    assert [m.reduced for m in mentions("12/4 6/8 3/4")] == [False, False, True]


def test_the_bare_word_one_is_vague() -> None:
    assert [m.vague for m in mentions("which one is 1 or twenty one")] == [True, False, False]


@pytest.mark.parametrize(
    ("answer", "value"),
    [("12", 12), ("$1,200", 1200), ("12 apples", 12), ("3/4", Fraction(3, 4)), ("-4", -4), ("2.5 l", Fraction(5, 2))],
)
def test_an_expected_answer_is_one_number(answer: str, value: Fraction) -> None:
    assert value_of(answer) == value


@pytest.mark.parametrize("answer", ["", "blue", "3 or 4", "10:12"])
def test_an_answer_that_is_not_one_number_has_no_value(answer: str) -> None:
    assert value_of(answer) is None


@given(st.integers(0, 10_000_000))
def test_an_integer_is_found_whole_with_and_without_separators(number: int) -> None:
    assert found(f"You get {number}, and {number:,}.") == [str(number), str(number)]


@given(st.integers(1, 999), st.integers(1, 999))
def test_a_number_is_never_found_inside_another(number: int, other: int) -> None:
    assert found(f"{number}{other}") == [str(int(f"{number}{other}"))]


@given(st.integers(0, 999_999))
def test_spelled_numbers_have_the_value_that_they_spell(number: int) -> None:
    assert found(spelled(number)) == [str(number)]


@given(st.text(max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    found(text)


def spelled(number: int) -> str:
    units = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    small = [*units.split(), "seventeen", "eighteen", "nineteen"]
    tens = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    if number < 20:
        return small[number]
    if number < 100:
        return tens[number // 10] + (f"-{small[number % 10]}" if number % 10 else "")
    if number < 1000:
        return f"{small[number // 100]} hundred" + (f" and {spelled(number % 100)}" if number % 100 else "")
    rest = number % 1000
    joined = f" {'and ' if rest < 100 else ''}{spelled(rest)}" if rest else ""
    return f"{spelled(number // 1000)} thousand{joined}"
