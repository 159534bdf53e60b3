"""What each layout makes of a row, and what it refuses rather than change."""

import json

import pytest

from configs.dataset import Filters, Turn
from delivery.build.layouts.known import LAYOUTS, recognise
from delivery.build.rows import Example, RawRow, Rejected
from delivery.build.sift import sift

QUESTION = {"role": "user", "content": "2 + 3?"}
ANSWER = {"role": "assistant", "content": "What do you get?"}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}


def outcome(data, reader=None, template=(), ignore=()) -> Example | Rejected:
    if not template and reader is None:
        reader = recognise([data])
        assert isinstance(reader, str), reader
    row = RawRow("rows.jsonl", 1, reader or "", data, template=template, ignore=ignore)
    result = sift([row], Filters(), lambda conversations: [1] * len(conversations), system_prompt="Be brief.")
    return (result.examples or result.rejected)[0]


def kept(data, **how) -> Example:
    found = outcome(data, **how)
    assert isinstance(found, Example), found
    return found


def refused(data, **how) -> Rejected:
    found = outcome(data, **how)
    assert isinstance(found, Rejected), found
    return found


def said(example: Example) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in example.messages]


PLAIN = [("user", "2 + 3?"), ("assistant", "What do you get?")]


@pytest.mark.parametrize(
    ("data", "reader"),
    [
        ({"messages": [QUESTION, ANSWER]}, "messages"),
        ({"messages": json.dumps([QUESTION, ANSWER])}, "messages"),
        ({"conversations": [QUESTION, ANSWER]}, "messages"),
        ({"messages": [QUESTION | {"name": None}, ANSWER | {"weight": 1, "tool_calls": None}]}, "messages"),
        ({"messages": [QUESTION, ANSWER], "tools": [], "system": ""}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "2 + 3?"}]}, ANSWER]}, "messages"),
        (
            {"conversations": [{"from": "human", "value": "2 + 3?"}, {"from": "gpt", "value": "What do you get?"}]},
            "sharegpt",
        ),
        ({"instruction": "2 + 3?", "input": "", "output": "What do you get?"}, "alpaca"),
        ({"instruction": "2 + 3?", "output": "What do you get?"}, "alpaca"),
        ({"prompt": "2 + 3?", "completion": "What do you get?"}, "prompt-completion"),
        ({"prompt": [QUESTION], "completion": [ANSWER]}, "prompt-completion"),
    ],
    ids=str,
)
def test_a_layout_is_recognised_and_gives_the_same_conversation(data, reader):
    assert recognise([data]) == reader
    found = kept(data)
    assert said(found) == PLAIN
    assert not found.changes
    assert not found.notices
    assert [set(m) for m in found.messages] == [{"role", "content"}] * 2


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"question": "a", "answer": "b"}], ("no layout that is known", "question, answer", "{question}", "reader")),
        ([{"messages": [QUESTION], "prompt": "a", "completion": "b"}], ("could be read as", "messages (1 rows)")),
        (
            [{"messages": [QUESTION]}, {"instruction": "a", "output": "b"}],
            ("messages (1 rows), alpaca (1 rows)", "name `reader`"),
        ),
        ([[1, 2], "text"], ("no row is an object",)),
        ([], ("no row is an object",)),
        ([{"messages": "hello"}], ("no layout that is known",)),
        ([{"question": "a", "answer": "b ** c\n#### 3"}], ("no layout that is known",)),
    ],
    ids=str,
)
def test_what_is_not_unmistakable_must_be_named(rows, words):
    problem = recognise(rows)
    for word in words:
        assert word in str(problem)


def test_a_few_bad_rows_do_not_hide_the_layout():
    assert recognise([{"messages": [QUESTION, ANSWER]}, {"broken": 1}, "text"]) == "messages"


def test_alpacas_input_stands_below_the_instruction_and_its_history_before():
    found = kept({"instruction": "Add.", "input": "2 3", "output": "5", "history": [["Hi", "Hello"]], "system": "S"})
    assert said(found) == [
        ("system", "S"),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Add.\n\n2 3"),
        ("assistant", "5"),
    ]


@pytest.mark.parametrize("speaker", ["tutor", "Human ", "", "bot"])
def test_an_unknown_speaker_is_not_guessed(speaker):
    turns = [{"from": speaker, "value": "a"}, {"from": "gpt", "value": "b"}]
    assert refused({"conversations": turns}).reason == "wrong-roles"


def test_content_parts_are_joined_and_counted_and_others_than_text_are_refused():
    parts = [{"type": "text", "text": "2 +"}, {"type": "text", "text": "3?"}]
    found = kept({"messages": [{"role": "user", "content": parts}, ANSWER]})
    assert said(found)[0] == ("user", "2 +\n3?")
    assert list(found.changes) == ["content-parts-joined"]
    picture = [{"type": "image_url", "image_url": {"url": "http://a/b.png"}}]
    assert refused({"messages": [{"role": "user", "content": parts + picture}, ANSWER]}).reason == "not-text"


def test_a_text_that_looks_like_a_list_stays_the_text_that_it_is():
    for text in ('["a", "b"]', '{"type": "text"}', "[1, 2"):
        found = kept({"messages": [QUESTION | {"content": text}, ANSWER | {"content": text}]})
        assert said(found) == [("user", text), ("assistant", text)]


@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        ({"messages": [{"role": "system", "content": "Own."}, QUESTION, ANSWER]}, "Own."),
        ({"messages": [{"role": "developer", "content": "Own."}, QUESTION, ANSWER]}, "Own."),
        ({"system": "Own.", "messages": [QUESTION, ANSWER]}, "Own."),
        ({"system": "Own.", "prompt": "2 + 3?", "completion": "What do you get?"}, "Own."),
        ({"system": "Own.", "instruction": "2 + 3?", "output": "What do you get?"}, "Own."),
        (
            {
                "system": "Own.",
                "conversations": [{"from": "user", "value": "2 + 3?"}, {"from": "model", "value": "What do you get?"}],
            },
            "Own.",
        ),
    ],
    ids=str,
)
def test_a_system_prompt_of_a_rows_own_is_kept_and_noticed(data, prompt):
    found = kept(data)
    assert said(found) == [("system", prompt), *PLAIN]
    assert found.notices == ("own-system-prompt",)
    assert "system" not in found.fields


def test_the_projects_own_prompt_in_a_row_is_nothing_to_notice():
    assert kept({"system": " Be brief.", "messages": [QUESTION, ANSWER]}).notices == ()


def test_two_system_prompts_are_refused():
    row = {"system": "One.", "messages": [{"role": "system", "content": "Two."}, QUESTION, ANSWER]}
    assert refused(row).reason == "two-system-prompts"


@pytest.mark.parametrize(
    "more",
    [
        {"images": ["a.png"]},
        {"audio": {"bytes": "x"}},
        {"functions": [{"name": "f"}]},
        {"label": False},
        {"weight": 0},
        {"weight": 0.5},
        {"train": False},
        {"loss_mask": [0, 1]},
        {"rejected": "no"},
    ],
    ids=str,
)
def test_a_field_without_which_the_row_says_something_else_refuses_it_unless_it_is_left_out_on_purpose(more):
    row = {"messages": [QUESTION, ANSWER]} | more
    [name] = more
    found = refused(row, reader="messages")
    assert (found.reason, f"ignore: [{name}]" in found.detail) == ("changes-meaning", True)
    assert said(kept(row, reader="messages", ignore=(name,))) == PLAIN


def test_harmless_fields_are_kept_beside_the_row():
    found = kept({"messages": [QUESTION, ANSWER], "label": "sums", "weight": 1, "images": [], "id": 7, "none": None})
    assert found.fields == {"label": "sums", "weight": 1, "images": [], "id": 7}


def test_a_name_is_left_out_and_counted_and_several_speakers_in_one_role_are_refused():
    found = kept({"messages": [QUESTION | {"name": "Ann"}, ANSWER]})
    assert list(found.changes) == ["name-left-out"]
    talk = [QUESTION | {"name": "Ann"}, ANSWER, QUESTION | {"name": "Bob"}, ANSWER]
    assert refused({"messages": talk}).reason == "several-names"


@pytest.mark.parametrize(
    "turn",
    [
        {"reasoning_content": "Hm."},
        {"function_call": {"name": "f"}},
        {"refusal": "No."},
        {"weight": 0.3},
        {"weight": "0"},
        {"tool_calls": [{"function": {"name": "f", "arguments": "not json"}}]},
        {"audio": {"id": 1}},
    ],
    ids=str,
)
def test_what_a_message_brings_and_training_cannot_use_is_refused(turn):
    assert refused({"messages": [QUESTION, ANSWER | turn]}).reason == "wrong-shape"


def test_tools_and_their_calls_are_kept_and_noticed():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}
    talk = [
        QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
        ANSWER,
    ]
    for tools in ([TOOL], json.dumps([TOOL]), [TOOL["function"]]):
        found = kept({"messages": talk, "tools": tools})
        assert found.as_row()["tools"] == [TOOL]
        assert found.messages[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 2, "b": 3}}
        assert found.messages[1]["content"] == ""
        assert found.notices == ("tools",)
    said = [
        {"from": "human", "value": "2 + 3?"},
        {"from": "function_call", "value": '{"name": "add", "arguments": {}}'},
    ]
    said += [{"from": "observation", "value": "5"}, {"from": "gpt", "value": "Five."}]
    found = kept({"conversations": said, "tools": json.dumps([TOOL])})
    assert [m["role"] for m in found.messages] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize(
    "roles", [["user", "tool", "assistant"], ["user", "assistant", "tool", "assistant"], ["user", "tool"]], ids=str
)
def test_a_tool_that_nobody_called_is_refused(roles):
    assert refused({"messages": [{"role": role, "content": "a"} for role in roles]}).reason == "wrong-roles"


def test_a_turn_of_weight_0_stays_in_the_conversation_and_is_noticed_unless_nothing_else_is_learned():
    found = kept({"messages": [QUESTION, ANSWER | {"weight": 0}, QUESTION, ANSWER | {"weight": 1}]})
    assert [m.get("weight") for m in found.messages] == [None, 0, None, None]
    assert found.notices == ("turns-not-learned",)
    assert refused({"messages": [QUESTION, ANSWER | {"weight": 0}]}).reason == "nothing-learned"


def test_preference_pairs_keep_prompt_and_both_answers():
    for row in (
        {"prompt": "2 + 3?", "chosen": "Why?", "rejected": "5"},
        {"prompt": [QUESTION], "chosen": [ANSWER | {"content": "Why?"}], "rejected": [ANSWER | {"content": "5"}]},
        {"chosen": [QUESTION, ANSWER | {"content": "Why?"}], "rejected": [QUESTION, ANSWER | {"content": "5"}]},
        {"prompt": "2 + 3?", "chosen": [QUESTION, ANSWER | {"content": "Why?"}], "rejected": "5"},
    ):
        assert recognise([row]) == "preference"
        found = kept(row | {"score": 0.5}).as_row()
        assert found["prompt"] == [QUESTION]
        assert found["chosen"] == [{"role": "assistant", "content": "Why?"}]
        assert found["rejected"] == [{"role": "assistant", "content": "5"}]
        assert found["fields"] == {"score": 0.5}
        assert "messages" not in found


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "no-preference"),
        ({"chosen": [QUESTION, ANSWER], "rejected": [QUESTION, ANSWER]}, "no-preference"),
        ({"chosen": "b", "rejected": "c"}, "wrong-shape"),
        ({"prompt": "a", "chosen": "", "rejected": "c"}, "empty-content"),
        ({"prompt": [QUESTION, ANSWER], "chosen": [ANSWER], "rejected": "c"}, "wrong-roles"),
        ({"prompt": "a", "chosen": [ANSWER, QUESTION, ANSWER], "rejected": "c"}, "wrong-roles"),
    ],
    ids=str,
)
def test_a_pair_that_prefers_nothing_or_answers_nothing_is_refused(row, reason):
    assert refused(row).reason == reason


JSON_BOT = (
    Turn(role="user", content="{query}\n{choices|lettered}"),
    Turn(role="assistant", content='{{"choice": "{gold|letter}"}}'),
)


def test_columns_are_mapped_by_a_template():
    row = {"query": "Fog is around:", "choices": ["a marsh", "a desert"], "gold": 1, "id": 3}
    found = kept(row, template=JSON_BOT)
    assert said(found) == [("user", "Fog is around:\nA) a marsh\nB) a desert"), ("assistant", '{"choice": "B"}')]
    assert found.fields == {"id": 3}


@pytest.mark.parametrize(
    ("content", "written"),
    [
        ("{text}", "Zoë said {gold}"),
        ("{number} {float} {flag}", "7 0.5 true"),
        ("{list}", "a\nb"),
        ("{list|json}", '["a", "b"]'),
        ("{list[1]}", "b"),
        ("{list[gold]}", "a"),
        ("{nested.title}", "T"),
        ("{dotted.name}", "D"),
        ("{nested[title]}", "T"),
        ("{text|json}", '"Zoë said {gold}"'),
        ("{{gold}}", "{gold}"),
    ],
)
def test_a_template_writes_each_kind_of_value(content, written):
    row = {"text": "Zoë said {gold}", "number": 7, "float": 0.5, "flag": True, "list": ["a", "b"], "gold": 0}
    row |= {"nested": {"title": "T"}, "dotted.name": "D", "title": "title"}
    template = (Turn(role="user", content=content), Turn(role="assistant", content="x"))
    assert said(kept(row, template=template))[0] == ("user", written)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{missing}", "missing-field"),
        ("{null}", "missing-field"),
        ("{text.__class__}", "missing-field"),
        ("{nested}", "wrong-shape"),
        ("{text!r}", "missing-field"),
        ("{text|upper}", "bad-template"),
        ("{text[0][1]}", "bad-template"),
        ("{}", "bad-template"),
        ("{list[7]}", "missing-field"),
        ("{text|letter}", "wrong-shape"),
        ("{empty}", "empty-content"),
    ],
)
def test_a_template_evaluates_nothing_and_names_what_it_cannot_fill(content, reason):
    row = {"text": "a", "null": None, "nested": {"a": 1}, "list": ["a"], "empty": ""}
    template = (Turn(role="user", content=content), Turn(role="assistant", content="x"))
    assert refused(row, template=template).reason == reason


def test_every_layout_refuses_any_value_rather_than_break():
    odd = [
        None,
        True,
        3,
        0.5,
        "",
        "x",
        [],
        [None],
        [[]],
        {},
        {"role": 1},
        [{"role": "user"}],
        [{"from": 1}],
        "[1]",
        "{}",
    ]
    keys = {"messages", "conversations", "instruction", "input", "output", "history", "prompt", "completion", "chosen"}
    keys |= {"rejected", "question", "answer", "system", "tools"}
    for reader in LAYOUTS:
        for key in keys:
            for value in odd:
                row = {"messages": [QUESTION, ANSWER], "prompt": "a", "chosen": "b", "rejected": "c", "answer": "d"}
                outcome(row | {key: value}, reader=reader)
                outcome({key: value}, reader=reader)
