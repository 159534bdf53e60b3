"""What differs between two builds of one adapter, file by file and tensor by tensor."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from delivery.build.difference import AdapterDifference, compare_files, compare_tensors

ONES = numpy.ones((2, 2), numpy.float32)
NUMBERS = arrays(numpy.float32, (2, 2), elements=st.floats(-1e3, 1e3, width=32))


def test_the_same_bytes_need_no_look_at_tensors():
    assert AdapterDifference(files=compare_files({"a": "1"}, {"a": "1"})).render() == "the same bytes in every file"


def test_a_file_that_only_one_has_differs():
    assert compare_files({"a": "1", "b": "2"}, {"a": "1", "c": "3"}) == ("b", "c")


@given(st.dictionaries(st.sampled_from("abc"), NUMBERS))
def test_equal_tensors_do_not_differ(tensors):
    assert compare_tensors(tensors, {name: one.copy() for name, one in tensors.items()}) == ()


@given(NUMBERS, NUMBERS)
def test_what_differs_is_measured_and_nothing_else_is_named(first, second):
    found = compare_tensors({"x": first, "y": ONES}, {"x": second, "y": ONES})
    assert bool(found) == (not numpy.array_equal(first, second))
    for one in found:
        assert one.name == "x"
        assert one.largest == pytest.approx(numpy.abs(first.astype(float) - second.astype(float)).max())


def test_the_difference_is_said_by_the_norm_of_the_first_and_the_worst_comes_first():
    first = {"little": ONES, "much": ONES}
    second = {"little": ONES * numpy.float32(1.001), "much": ONES * 3}
    much, little = compare_tensors(first, second)
    assert (much.name, much.relative, much.largest) == ("much", pytest.approx(2.0), 2.0)
    assert little.relative == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ({}, "it is missing"),
        ({"x": ONES, "z": ONES}, "it is new"),
        ({"x": numpy.ones((3, 2), numpy.float32)}, "shape (3, 2) instead of (2, 2)"),
        ({"x": ONES * numpy.float32("nan")}, "numbers that are not finite"),
    ],
)
def test_what_cannot_be_measured_is_said(second, what):
    assert what in compare_tensors({"x": ONES}, second)[0].what


def test_of_many_the_worst_are_shown_and_the_rest_counted():
    first = {f"t{n}": ONES for n in range(9)}
    found = compare_tensors(first, {name: one * 2 for name, one in first.items()})
    text = AdapterDifference(files=("adapter_model.safetensors",), tensors=found, compared=9).render()
    assert "9 of 9 tensors differ" in text
    assert text.endswith("and 4 that differ less")


def test_other_bytes_with_equal_tensors_are_said_so():
    text = AdapterDifference(files=("adapter_model.safetensors",), compared=9).render()
    assert text == "other bytes in adapter_model.safetensors; all 9 tensors are equal"
