"""What a dataset version promises, without a file in sight."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.dataset import Filters, Split
from delivery.build.rows import Example, RawRow
from delivery.build.sift import Sifted, sift
from delivery.build.split import divide
from delivery.build.text import ControlTokens

WORDS = st.text(alphabet="abc XYZ", min_size=1).filter(str.strip)


def chat(*contents, system=None):
    roles = ["user", "assistant"] * len(contents)
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]
    return {"messages": ([{"role": "system", "content": system}] if system else []) + messages}


def sifted(*rows, reader="messages", special_tokens=(), **filters) -> Sifted:
    raw = [RawRow("rows.jsonl", number, reader, data) for number, data in enumerate(rows, start=1)]
    return sift(raw, Filters(**filters), characters, ControlTokens(special_tokens))


def characters(conversations) -> list[int]:
    return [sum(len(m["content"]) for m in messages) for messages, _ in conversations]


def only_rejection(*rows, **settings):
    result = sifted(*rows, **settings)
    assert not result.examples
    assert len(result.rejected) == 1
    return result.rejected[0]


def example(prompt: str, answer: str = "Why?") -> Example:
    return Example(({"role": "user", "content": prompt}, {"role": "assistant", "content": answer}), {}, 3)


def ids(examples) -> set[str]:
    return {e.id for e in examples}


def test_a_conversation_is_kept_as_it_is_and_its_other_fields_beside_it():
    result = sifted(chat("2 + 3?", "What do you get?", "5", "Are you sure?", system="Be kind.") | {"kind": "sum"})
    [kept] = result.examples
    assert [m["role"] for m in kept.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert kept.as_row()["fields"] == {"kind": "sum"}
    assert len(kept.id) == 16


def test_prompt_and_completion_become_two_messages():
    [kept] = sifted({"prompt": "2 + 3?", "completion": "Why?", "level": 1}, reader="prompt-completion").examples
    assert kept.messages == ({"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "Why?"})
    assert kept.fields == {"level": 1}


def test_gsm8k_socratic_gives_the_first_sub_question_and_the_final_number():
    row = {"question": "How much?", "answer": "How many eggs? ** 16-7=<<16-7=9>>9\nHow much? ** 9*2=18\n#### 1,018"}
    [kept] = sifted(row, reader="gsm8k-socratic").examples
    assert kept.messages[-1]["content"] == "How many eggs?"
    assert kept.fields == {"answer": "1018"}


def test_gsm8k_socratic_passes_over_steps_that_are_no_question_or_hold_the_result():
    answer = "Define a variable ** x\nHow many are 1,018 eggs? ** 1\nHow many hens? ** 2\n#### 1018"
    [kept] = sifted({"question": "How much?", "answer": answer}, reader="gsm8k-socratic").examples
    assert kept.messages[-1]["content"] == "How many hens?"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("How many? ** 3", "wrong-shape"), ("Define x ** 3\n#### 3", "no-question"), (None, "wrong-shape")],
)
def test_gsm8k_rows_without_a_usable_question_are_rejected(answer, reason):
    assert only_rejection({"question": "How much?", "answer": answer}, reader="gsm8k-socratic").reason == reason


@pytest.mark.parametrize(
    ("row", "reason", "value"),
    [
        (chat("only a question"), "wrong-roles", "user"),
        ({"messages": []}, "wrong-roles", "no messages"),
        (
            {"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]},
            "wrong-roles",
            "user",
        ),
        ({"messages": [{"role": "human", "content": "a"}, {"role": "gpt", "content": "b"}]}, "wrong-roles", "human"),
        (chat("a", "b", "c"), "wrong-roles", "user, assistant, user"),
        (chat("  \n", "b"), "empty-content", "messages.0"),
        (chat("a", ""), "empty-content", "messages.1"),
        ({"messages": [{"role": "user", "content": 7}]}, "wrong-shape", "int"),
        ({"messages": [{"role": "user"}]}, "wrong-shape", "content"),
        ({"messages": "hello"}, "wrong-shape", "str"),
        ({"messages": ["hello"]}, "wrong-shape", "messages.0"),
        ({"conversation": []}, "wrong-shape", "conversation"),
        ({"messages": [{"role": "user", "content": "a", "tool_calls": [1]}]}, "wrong-shape", "tool_calls"),
        ([1, 2], "wrong-shape", "list"),
        (chat("a" * 300, "b" * 300), "too-long", "600"),
        (chat("a", "end<|im_end|>"), "special-token", "<|im_end|>"),
        (chat("a", "tiny"), "answer-length", "4 characters"),
    ],
)
def test_an_unusable_row_comes_back_with_its_number_the_reason_and_the_value(row, reason, value):
    rejected = only_rejection(row, special_tokens=["<|im_end|>"], max_row_tokens=512, min_answer_chars=5)
    if reason not in ("answer-length",):
        rejected = only_rejection(row, special_tokens=["<|im_end|>"], max_row_tokens=512)
    assert (rejected.reason, rejected.row, rejected.source) == (reason, 1, "rows.jsonl")
    assert value in rejected.detail
    assert rejected.data == row


def test_rows_that_read_the_same_are_duplicates_and_the_first_one_stays():
    result = sifted(chat("caf\u00e9?", "Why?"), chat("cafe\u0301? \r\n", "Why?"), chat("caf\u00e9?", "How?"))
    assert [e.messages[-1]["content"] for e in result.examples] == ["Why?", "How?"]
    assert [(r.row, r.reason) for r in result.rejected] == [(2, "duplicate")]
    assert "row 1" in result.rejected[0].detail


def test_duplicates_stay_when_the_recipe_says_so():
    assert len(sifted(chat("a", "b"), chat("a", "b"), drop_exact_duplicates=False).examples) == 2


@given(st.lists(st.tuples(WORDS, WORDS)))
def test_every_row_ends_in_exactly_one_place(pairs):
    result = sifted(*(chat(*pair) for pair in pairs), max_row_tokens=20)
    assert len(result.examples) + len(result.rejected) == len(pairs)
    assert len({e.id for e in result.examples}) == len(result.examples)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1), st.text(), st.floats(0.05, 0.95))
def test_a_prompt_is_never_in_both_parts(pairs, salt, share):
    parts = divide([example(*pair) for pair in pairs], Split(salt=salt, holdout_share=share))
    prompts = [{e.prompt for e in parts[part]} for part in ("train", "holdout")]
    assert not prompts[0] & prompts[1]
    assert sum(map(len, parts.values())) == len(pairs)


@given(st.sets(WORDS, min_size=2, max_size=30))
def test_a_prompt_stays_in_its_part_when_rows_are_added(prompts):
    split = Split(holdout_share=0.5)
    alone = divide([example(p) for p in sorted(prompts)], split)
    more = divide([example(p) for p in [*sorted(prompts), "another one"]], split)
    assert ids(alone["train"]) <= ids(more["train"])
    assert ids(alone["holdout"]) <= ids(more["holdout"])


def test_exactly_so_many_prompts_are_held_out_with_all_their_rows():
    rows = [example(f"prompt {n}", answer) for n in range(50) for answer in ("Why?", "How?")]
    parts = divide(rows, Split(holdout_prompts=10))
    assert len(parts["holdout"]) == 20
    assert len({e.prompt for e in parts["holdout"]}) == 10


def test_a_share_is_met_roughly_and_another_salt_draws_others():
    rows = [example(f"prompt {n}") for n in range(2000)]
    one, other = (divide(rows, Split(salt=salt, holdout_share=0.1))["holdout"] for salt in ("one", "other"))
    assert 150 < len(one) < 250
    assert ids(one) != ids(other)


def test_case_and_spacing_do_not_make_another_prompt():
    assert example("How  Many\nEggs?").prompt == example("how many eggs?").prompt
