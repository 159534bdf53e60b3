"""Filters of a recipe: each removes what it is asked for, says why, and is remembered by the version."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.dataset import DatasetRecipe
from configs.errors import SlipwayError
from configs.filters import NearDuplicateFilter
from delivery.build.overlap import SuiteQuestion
from tasks.data.dataset import build_dataset
from tasks.data.filters.near_duplicates import NearDuplicates, runs, similarity

FRUIT = ("apples", "pears", "plums", "figs", "dates", "limes", "kiwis", "melons", "grapes", "cherries")


def question(n: int) -> str:
    had = f"Tom has {n} {FRUIT[n % 10]} in his basket"
    return f"{had} and gives {n % 7} of them to friend number {n * 3}. How many are left?"


def chat(prompt: str, answer: str = "What would you do first?", **fields) -> dict:
    return {
        "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}],
        **fields,
    }


ROWS = [
    chat(question(n), f"Which number do you start with, and what happens to the {FRUIT[n % 10]}?") for n in range(30)
]


@pytest.fixture
def build(tmp_path, tokenizer_folder):
    def _build(rows, asked=(), home="home", **recipe):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        given = {"name": "sums", "sources": [{"path": "rows.jsonl"}], "split": {"holdout_share": 0.2}}
        parsed = DatasetRecipe.model_validate(given | {"max_rejected_share": 1} | recipe)
        return build_dataset(parsed, tmp_path, tokenizer_folder, "Be brief.", tmp_path / home, asked=asked)

    return _build


def lines(version, name: str) -> list[dict]:
    return [json.loads(line) for line in (version.folder / name).read_text(encoding="utf-8").splitlines()]


def reasons(version) -> list[tuple[int, str]]:
    return [(row["row"], row["reason"]) for row in lines(version, "rejected.jsonl")]


def test_a_recipe_without_filters_remembers_none_and_its_report_has_no_steps(build):
    version = build(ROWS)
    assert version.manifest.steps == ()
    assert not {"length", "language", "answers", "personal_data", "near_duplicates"} & set(
        version.manifest.recipe["filters"]
    )
    assert "steps" not in json.loads((version.folder / "report.json").read_text())


def test_rows_that_are_too_short_or_long_go_with_the_count_and_the_limit(build):
    rows = [*ROWS, chat("Why?", "Because."), chat(question(77), "so " * 60)]
    version = build(rows, filters={"length": {"min_prompt_words": 3, "max_answer_words": 50}})
    assert reasons(version) == [(31, "length"), (32, "length")]
    first, second = (row["detail"] for row in lines(version, "rejected.jsonl"))
    assert first == "what the user says has 1 words, min_prompt_words is 3"
    assert second == "messages.1 (assistant) has 60 words, max_answer_words is 50"
    assert lines(version, "rejected.jsonl")[0]["data"] == chat("Why?", "Because.")


def test_rows_in_another_language_go_and_texts_too_short_to_tell_stay(build):
    german = chat("Wie viele Äpfel hat Tom noch in seinem Korb, wenn er drei verschenkt?")
    mixed = chat(question(50), "Überlege zuerst, wie viele Äpfel am Anfang im Korb waren, und was dann geschieht.")
    version = build([*ROWS, german, mixed, chat("12 + 5", "17")], filters={"language": {"allowed": ["en"]}})
    assert reasons(version) == [(31, "language"), (32, "language")]
    assert "messages.1 (assistant) is de" in lines(version, "rejected.jsonl")[1]["detail"]
    both = build([*ROWS, german, mixed], filters={"language": {"allowed": ["en", "de"]}})
    assert both.manifest.rejected == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("As an AI language model, I have no feelings.", "refusal"),
        ("I cannot provide medical advice.", "refusal"),
        ("I’m unable to assist with this request.", "refusal"),
        ("You are such an idiot.", "toxic"),
        ("Just go die already.", "toxic"),
        ("Try AcmeTutor instead!", "pattern:competitor"),
        ("I'm sorry to hear that. What went wrong?", None),
        ("You cannot divide by zero; can you see why?", None),
        ("He called her an idiot in chapter two. Why?", None),
        ("I can't wait to see your result!", None),
    ],
)
def test_refusals_toxic_answers_and_patterns_of_ones_own_go_and_their_look_alikes_stay(build, answer, reason):
    own = [{"name": "competitor", "pattern": "acme ?tutor"}]
    version = build([*ROWS, chat(question(60), answer)], filters={"answers": {"patterns": own}})
    assert reasons(version) == ([] if reason is None else [(31, reason)])


def test_what_is_asked_is_no_answer_and_may_say_anything(build):
    version = build([*ROWS, chat("You are an idiot, I cannot help it. " + question(60))], filters={"answers": {}})
    assert version.manifest.rejected == {}


def test_near_duplicates_go_and_name_the_row_that_stays(build):
    twin = chat(question(3).replace("How many are left?", "How many are left now?"), ROWS[3]["messages"][1]["content"])
    version = build([*ROWS, twin], filters={"near_duplicates": {"similarity": 0.7}})
    assert reasons(version) == [(31, "near-duplicate")]
    [row] = lines(version, "rejected.jsonl")
    assert "with row 4 of rows.jsonl" in row["detail"]
    assert row["data"]["messages"] == twin["messages"]
    assert version.manifest.kept == 30
    assert sum(part.rows for part in version.manifest.parts.values()) == 30
    assert version.manifest.steps[0].rejected == 1


def test_numbers_make_other_tasks_of_the_same_words():
    first, second = runs(question(3)), runs(question(13))
    assert similarity(first, second) < 0.5


def test_across_the_split_only_rows_to_train_on_go_and_twins_on_one_side_stay(build):
    rows = [chat(question(n) + tail, f"Which {FRUIT[n % 10]}?") for n in range(30) for tail in ("", " Explain it.")]
    split = {"holdout_share": 0.3}
    before = build(rows, split=split, home="before")
    filtered = build(rows, split=split, filters={"near_duplicates": {"similarity": 0.6, "scope": "across-split"}})
    held = [row["id"] for row in lines(before, "holdout.jsonl")]
    assert [row["id"] for row in lines(filtered, "holdout.jsonl")] == held
    gone = {row["data"]["id"] for row in lines(filtered, "rejected.jsonl")}
    assert gone
    assert gone <= {row["id"] for row in lines(before, "train.jsonl")}
    trained = [runs(row["messages"][0]["content"]) for row in lines(filtered, "train.jsonl")]
    for row in lines(filtered, "holdout.jsonl"):
        mine = runs(row["messages"][0]["content"])
        assert max(similarity(mine, other) for other in trained) < 0.9
    pairs = [row["messages"][0]["content"].removesuffix(" Explain it.") for row in lines(filtered, "train.jsonl")]
    assert len(set(pairs)) < len(pairs)


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h"]), min_size=4, max_size=30).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=25), st.data())
def test_of_rows_that_say_the_same_exactly_the_first_stays_and_no_row_goes_without_a_near_one(texts, data):
    texts = texts + [data.draw(st.sampled_from(texts)) for _ in range(3)]
    index = NearDuplicates(NearDuplicateFilter(similarity=0.8))
    for text in texts:
        index.add(text)
    twins = list(index.twins(texts.__getitem__, [False] * len(texts)))
    gone = {twin.row for twin in twins}
    for twin in twins:
        assert twin.of not in gone
        assert twin.of < twin.row
        assert similarity(runs(texts[twin.row]), runs(texts[twin.of])) == pytest.approx(twin.similarity)
        assert twin.similarity >= 0.8
    stay = [text for number, text in enumerate(texts) if number not in gone]
    assert len(set(stay)) == len(stay)


def test_more_rows_change_nothing_about_the_rows_before_them(build):
    chosen = {"near_duplicates": {"similarity": 0.7}}
    few = build(ROWS[:20], filters=chosen, home="few")
    many = build([*ROWS, *(chat(question(n) + " Tell me.") for n in range(20))], filters=chosen, home="many")
    for part in ("train.jsonl", "holdout.jsonl"):
        assert {row["id"] for row in lines(few, part)} <= {row["id"] for row in lines(many, part)}


def test_rows_with_questions_of_the_suites_go_where_the_recipe_drops_them(build):
    asked = [
        SuiteQuestion("choir", "s1", question(4)),
        SuiteQuestion("choir", "s2", "Something else entirely, is it not?"),
    ]
    version = build(ROWS, asked, eval_overlap="drop")
    assert reasons(version) == [(5, "eval-overlap")]
    assert "it asks choir/s1" in lines(version, "rejected.jsonl")[0]["detail"]
    [step] = version.manifest.steps
    assert (step.name, step.rejected, step.settings["questions"]) == ("eval_overlap", 1, 2)
    assert build(ROWS, asked[1:], eval_overlap="drop").digest != version.digest


def test_a_version_remembers_each_step_with_version_settings_code_and_packages(build):
    chosen = {"language": {"allowed": ["en"]}, "length": {"max_turns": 1}, "near_duplicates": {}}
    steps = build(ROWS, filters=chosen).manifest.steps
    assert [step.name for step in steps] == ["length", "language", "near_duplicates"]
    assert all(step.version == 1 and step.code.startswith("sha256:") for step in steps)
    assert set(steps[1].packages) == {"py3langid"}
    assert steps[1].settings["allowed"] == ["en"]
    assert "filter language (version 1): 0 rejected, 0 changed" in build(ROWS, filters=chosen).render()


def test_settings_that_can_do_nothing_are_refused_with_the_way_out():
    def recipe(**filters):
        base = {"name": "x", "sources": [{"path": "x"}], "split": {"holdout_share": 0.5}}
        return DatasetRecipe.model_validate(base | {"filters": filters})

    for wrong, told in (
        ({"length": {}}, "no limit is set"),
        ({"length": {"min_answer_words": 9, "max_answer_words": 3}}, "no row fits both"),
        ({"answers": {"refusals": False, "toxic": False}}, "nothing is looked for"),
        ({"answers": {"patterns": [{"name": "toxic", "pattern": "x"}]}}, "a name of its own"),
        ({"answers": {"patterns": [{"name": "mine", "pattern": "("}]}}, "not a regular expression"),
        ({"language": {"allowed": ["xx"]}}, "allowed"),
        ({"near_duplicates": {"similarity": 0.2}}, "similarity"),
        ({"personal_data": {}}, "action"),
    ):
        with pytest.raises(ValidationError, match=told.replace("(", r"\(")):
            recipe(**wrong)


def test_filters_that_leave_too_little_stop_the_build_and_duplicates_do_not(build):
    with pytest.raises(SlipwayError, match=r"100\.0%"):
        build(ROWS, filters={"length": {"max_prompt_words": 2}}, max_rejected_share=0.2)
    doubled = [chat(question(n) + " Please.", "Which?") for n in range(30) for _ in range(2)]
    twins = [chat(row["messages"][0]["content"] + " Thanks", "Which?") for row in doubled[::2]]
    kept = build([*doubled, *twins], filters={"near_duplicates": {"similarity": 0.7}}, max_rejected_share=0.0)
    assert kept.manifest.rejected["near-duplicate"] >= 28
