"""Text reaches training unchanged, or the change has a name; control tokens do not pass for text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.dataset import Filters
from delivery.build.report import RowTally
from delivery.build.rows import RawRow
from delivery.build.sift import sift
from delivery.build.text import ControlTokens, repaired


@pytest.mark.parametrize(
    ("text", "after", "kinds"),
    [
        ("plain", "plain", []),
        ("\ufeffmarked", "marked", ["byte-order-mark"]),
        ("in\ufeffside", "in\ufeffside", []),
        (" around\n", "around", ["outer-space"]),
        ("a\r\nb\rc", "a\nb\nc", ["line-ends"]),
        ("cafe\u0301", "caf\u00e9", ["unicode-nfc"]),
        ("\ufeff cafe\u0301\r\n", "caf\u00e9", ["byte-order-mark", "unicode-nfc", "line-ends", "outer-space"]),
        ("\u00a0no-break\u00a0", "no-break", ["outer-space"]),
    ],
)
def test_each_repair_has_a_name(text, after, kinds):
    assert repaired(text) == (after, kinds)


@given(st.text())
def test_a_text_is_repaired_once_and_never_changed_without_a_name(text):
    after, kinds = repaired(text)
    assert (after == text) == (not kinds)
    assert "".join(after.split()) == "".join(unicodedata.normalize("NFC", text.lstrip("\ufeff")).split())


FOREIGN = [
    *("<|im_start|>", "<|eot_id|>", "<|start_header_id|>", "<|endoftext|>", "<|user|>", "<|channel|>"),
    *("[INST]", "[/INST]", "<s>", "</s>", "<<SYS>>", "<</SYS>>", "<bos>", "<eos>", "<pad>", "<BOS_TOKEN>"),
    *("<start_of_turn>", "<end_of_turn>", "<end_of_image>", "<unused7>", "<｜begin▁of▁sentence｜>", "<｜User｜>"),
    *("[|assistant|]", "[AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[gMASK]", "[SYSTEM_PROMPT]", "<|START_OF_TURN_TOKEN|>"),
]


@pytest.mark.parametrize("token", FOREIGN)
def test_control_tokens_of_any_family_are_seen(token):
    assert ControlTokens.foreign(f"It is {token}, I think") == token


@pytest.mark.parametrize(
    "text",
    [
        "a <b> c",
        "x <| y |> z",
        "[1] [a] [INSTALL]",
        "if a<s and b>t",
        "<|>",
        "a || b",
        "f(x)|>g",
        "<sub>2</sub>",
        "<start>",
    ],
)
def test_ordinary_text_is_no_control_token(text):
    assert ControlTokens.foreign(text) is None


def test_the_base_models_own_tokens_are_seen_in_other_spellings_too():
    control = ControlTokens(["<file_sep>", "</s>"], ["<think>"])
    assert control.own("a <file_sep> b", "assistant") == "<file_sep>"
    assert control.own("a \uff1cfile_sep\uff1e b", "user") == "<file_sep>"  # NFKC, as some tokenizers normalise
    assert control.own("<think>", "user") == "<think>"
    assert control.own("<think>", "assistant") is None
    assert control.own("<file>", "user") is None


def row(question: str, answer: str = "Why?", **more) -> RawRow:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return RawRow("rows.jsonl", 1, "messages", {"messages": turns, **more})


def sifted(*rows: RawRow, **filters):
    return sift(rows, Filters(**filters), lambda asked: [1] * len(asked), ControlTokens(["<file_sep>"]))


def test_foreign_control_tokens_are_rejected_and_may_be_kept_and_noticed():
    [rejected] = sifted(row("What is <|eot_id|>?")).rejected
    assert (rejected.reason, "<|eot_id|>" in rejected.detail) == ("control-token", True)
    [example] = sifted(row("What is <|eot_id|>?"), foreign_control_tokens="keep").examples
    assert example.notices == ("foreign-control-token",)


def test_the_base_models_own_are_never_kept():
    [rejected] = sifted(row("a", "b <file_sep>"), foreign_control_tokens="keep").rejected
    assert rejected.reason == "special-token"


def test_the_report_counts_rows_by_kind_and_shows_the_first_of_each():
    tally = RowTally()
    result = sifted(*(row(f" question {n}", kind="sum") for n in range(5)), row("<s>"), row("\ufeffmarked"))
    for outcome in (*result.examples, *result.rejected):
        tally.add(outcome)
    report = tally.report()
    assert (report.read, report.kept) == (7, 6)
    assert report.counts("changed") == {"outer-space": 5, "byte-order-mark": 1}
    assert report.counts("rejected") == {"control-token": 1}
    assert report.fields == {"kind": 5}
    first = report.changed["outer-space"].examples[0]
    assert (first.what, first.before, first.after) == ("messages.0.content", " question 0", "question 0")
    assert len(report.changed["outer-space"].examples) == 3
