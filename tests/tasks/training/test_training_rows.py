"""The loss is on what the assistant says, on all of it, and on nothing else."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import CHATML, conversation, tiny_tokenizer

from configs.errors import SlipwayError
from tasks.training.chat import Chat
from tasks.training.loss_mask import audit
from tasks.training.rows import IGNORED, order_of, tokenise

STOP = frozenset({1})


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def chat(tokenizer):
    return Chat(tokenizer, STOP)


def fed(rows):
    return [(row.input_ids, row.labels) for row in rows]


def test_every_assistant_turn_carries_loss_up_to_and_with_its_end_of_turn_token(tokenizer, chat):
    (row,) = tokenise([("a", chat.with_system(conversation(7, turns=2), "Be brief."), None)], chat, 512)
    spoken = "".join(tokenizer.decode([t]) for t, label in zip(row.input_ids, row.labels, strict=True) if label == t)
    assert spoken == "Which number comes after 7?<|im_end|>Which number comes after 8?<|im_end|>"
    assert {label for t, label in zip(row.input_ids, row.labels, strict=True) if label != t} == {IGNORED}


def test_the_row_is_tokenised_as_it_will_be_served(tokenizer, chat):
    messages = chat.with_system(conversation(3), "Be brief.")
    (row,) = tokenise([("a", messages, None)], chat, 512)
    whole = tokenizer.apply_chat_template(messages, tokenize=True)["input_ids"]
    assert row.input_ids == whole[: len(row.input_ids)]
    assert tokenizer.decode(whole[len(row.input_ids) :]) == "\n"  # the model has stopped before
    assert tokenizer.decode(row.input_ids).startswith("<|im_start|>system\nBe brief.<|im_end|>")


def test_a_row_with_its_own_system_message_keeps_that_one_alone(chat):
    own = [{"role": "system", "content": "Mine."}, *conversation(1)]
    assert chat.with_system(own, "Yours.") == own


def test_rows_that_are_too_long_are_listed_and_never_cut(chat):
    rows = [(f"r{i}", conversation(i), None) for i in range(3)] + [("long", conversation(1, turns=9), None)]
    with pytest.raises(SlipwayError) as caught:
        tokenise(rows, chat, 120)
    assert [p.where for p in caught.value.problems] == ["row long"]
    assert "max_sequence_tokens is 120" in str(caught.value)


def test_a_row_without_assistant_turn_is_an_error(chat):
    with pytest.raises(SlipwayError, match="nothing would carry loss"):
        tokenise([("mute", [{"role": "user", "content": "Hello?"}], None)], chat, 512)


def test_no_rows_at_all_is_an_error(chat):
    with pytest.raises(SlipwayError, match="no row to train on"):
        tokenise([], chat, 512)


def test_an_answer_that_would_merge_with_the_prompt_is_trained_behind_the_prompts_own_tokens(tokenizer, chat):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "\n Hello"}]
    (row,) = tokenise([("edge", messages, None)], chat, 512)
    sent = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True)["input_ids"]
    assert row.input_ids[: len(sent)] == sent
    assert row.labels[len(sent) :] == tokenizer("\n Hello<|im_end|>")["input_ids"]


def test_a_template_that_does_not_end_turns_with_a_stop_token_is_refused():
    chat = Chat(tiny_tokenizer(CHATML.replace("<|im_end|>", "</s>")), STOP)
    with pytest.raises(SlipwayError, match="no token at which vLLM stops"):
        tokenise([("a", conversation(1), None)], chat, 512)


def test_a_template_that_hides_earlier_answers_is_trained_behind_the_history_that_it_shows():
    hides = "{% for m in messages %}{% if loop.last or m['role'] == 'user' %}" + CHATML.split("%}", 1)[1].replace(
        "{% endfor %}", "{% endif %}{% endfor %}", 1
    )
    rows = tokenise([("a", conversation(1, turns=2), None)], Chat(tiny_tokenizer(hides), STOP), 512)
    assert [row.spoken for row in rows] == [
        ("Which number comes after 1?<|im_end|>",),
        ("Which number comes after 2?<|im_end|>",),
    ]


@settings(max_examples=60, deadline=None)
@given(answers=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1, max_size=3))
def test_whatever_is_said_the_audit_agrees_or_the_row_is_refused(answers):
    tokenizer = tiny_tokenizer()
    messages = [m for a in answers for m in ({"role": "user", "content": "?"}, {"role": "assistant", "content": a})]
    try:
        rows = tokenise([("x", messages, None)], Chat(tokenizer, STOP), 4096)
    except SlipwayError:
        assert any(not a.strip() or "<|im" in a for a in answers)
        return
    assert audit(rows, fed(rows), tokenizer).turns == len(answers)


def test_the_audit_counts_and_shows_what_carries_the_loss(tokenizer, chat):
    rows = tokenise([(f"r{i}", conversation(i, turns=2), None) for i in range(8)], chat, 512)
    proof = audit(rows, fed(rows), tokenizer)
    assert (proof.rows, proof.turns, proof.end_of_turn) == (8, 16, ("<|im_end|>",))
    assert proof.samples[0]["loss_on"][0] == "Which number comes after 0?<|im_end|>"
    assert "Which number" not in proof.samples[0]["no_loss_on"]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda ids, labels: list(ids), id="loss on the prompt too"),
        pytest.param(lambda ids, labels: [IGNORED] * len(ids), id="loss on nothing"),
        pytest.param(lambda ids, labels: [IGNORED if v == 1 else v for v in labels], id="no end of turn"),
        pytest.param(lambda ids, labels: [IGNORED, *labels[:-1]], id="shifted by one"),
        pytest.param(lambda ids, labels: [v if v == IGNORED else v + 1 for v in labels], id="other tokens"),
        pytest.param(
            lambda ids, labels: labels[: len(labels) // 2] + [IGNORED] * (len(labels) - len(labels) // 2),
            id="only the first turn",
        ),
    ],
)
def test_the_audit_stops_a_wrong_mask_and_names_the_row(tokenizer, chat, spoil):
    rows = tokenise([(f"r{i}", conversation(i, turns=2), None) for i in range(3)], chat, 512)
    wrong = fed(rows)
    wrong[1] = (rows[1].input_ids, spoil(rows[1].input_ids, rows[1].labels))
    with pytest.raises(SlipwayError, match="the loss mask of row r1 is wrong"):
        audit(rows, wrong, tokenizer)


def test_the_audit_stops_rows_that_were_cut(tokenizer, chat):
    rows = tokenise([("r", conversation(1), None)], chat, 512)
    with pytest.raises(SlipwayError, match="other tokens"):
        audit(rows, [(rows[0].input_ids[:-3], rows[0].labels[:-3])], tokenizer)


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=60),
    batch=st.integers(1, 9),
    epochs=st.sampled_from([0.5, 1, 1.5, 2, 3]),
    seed=st.integers(0, 99),
)
def test_the_order_uses_every_row_once_an_epoch_and_is_always_the_same(lengths, batch, epochs, seed):
    order = order_of(lengths, batch, epochs, seed)
    assert order == order_of(lengths, batch, epochs, seed)
    assert len(order) == max(1, round(epochs * len(lengths)))
    uses = Counter(order)
    assert set(uses) <= set(range(len(lengths)))
    assert max(uses.values()) - min((uses[i] for i in range(len(lengths))), default=0) <= 1


def test_the_order_puts_rows_of_similar_length_into_one_batch():
    lengths = [(i * 37) % 200 for i in range(160)]
    order = order_of(lengths, 8, 1, 0)
    batches = [[lengths[i] for i in order[at : at + 8]] for at in range(0, 160, 8)]
    assert sum(max(b) - min(b) for b in batches) / len(batches) < 25
    assert order_of(lengths, 8, 1, 1) != order
