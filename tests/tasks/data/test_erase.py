"""A person's rows leave every version and every later one; digests stay on record, and no text does."""

import json

import pytest

from configs.dataset import DatasetRecipe
from configs.errors import SlipwayError
from tasks.data.dataset import build_dataset, read_version
from tasks.data.erase import erase
from tasks.data.erasures import read_erasures
from tasks.data.looking import difference, shown

NOW = 1_780_000_000.0
SECRET = "My sister Ottilie broke her leg in Trondheim"


def chat(prompt: str, answer: str = "What next?", **fields) -> dict:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}], **fields}


ROWS = [chat(f"What is {n} + {n}, please, and how do you know?", user_id=f"u{n % 6}") for n in range(30)]
HERS = [chat(f"{SECRET}, {n} times", user_id="u99") for n in range(6)]
LEFT_OUT = [chat(f"{SECRET}, 0 times", user_id="u99"), chat("", user_id="u99", note=SECRET)]
BROKEN = '{"user_id": "u99", "messages": "' + SECRET


@pytest.fixture
def build(tmp_path, tokenizer_folder):
    def _build(rows, broken="", **recipe):
        text = "".join(json.dumps(row) + "\n" for row in rows) + (broken + "\n" if broken else "")
        (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
        given = {"name": "sums", "sources": [{"path": "rows.jsonl"}], "split": {"holdout_share": 0.3}}
        recipe = DatasetRecipe.model_validate(given | {"max_rejected_share": 1} | recipe)
        return build_dataset(recipe, tmp_path, tokenizer_folder, "Be brief.", tmp_path / "home")

    return _build


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def order(home, where=("user_id", "u99"), rows=(), **more):
    return erase(home, where, rows, "ann", "asked by mail", NOW, **more)


def texts_below(home) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in home.rglob("*") if path.is_file())


def lines(version, name: str) -> list[dict]:
    return [json.loads(line) for line in (version.folder / name).read_text(encoding="utf-8").splitlines()]


def test_the_text_is_gone_from_every_version_and_the_other_rows_stay(build, home):
    first = build([*ROWS, *HERS, *LEFT_OUT], BROKEN)
    second = build([*ROWS[:20], *HERS])
    others = [
        row for part in ("train", "holdout") for row in lines(first, f"{part}.jsonl") if "Ottilie" not in str(row)
    ]
    done = order(home)
    assert "Ottilie" not in texts_below(home)
    assert "u99" not in texts_below(home)
    assert len(done.rows) == 6
    assert {one.version for one in done.losses} == {first.folder.name, second.folder.name}
    again = read_version(home, first.digest)
    assert again.erased == 6
    assert [row for part in ("train", "holdout") for row in lines(again, f"{part}.jsonl")] == others
    assert [row["reason"] for row in lines(again, "rejected.jsonl")] == ["erased"] * 3
    assert "6 of them erased since" in shown(again)


def test_the_record_has_digests_and_the_order_and_nothing_that_was_said(build, home):
    build([*ROWS, *HERS])
    done = order(home)
    [record] = read_erasures(home)
    assert (record.id, record.by, record.reason, record.at) == (done.erasure, "ann", "asked by mail", NOW)
    assert record.rows == done.rows
    assert record.field == "user_id"
    assert record.value != "u99"


def test_later_versions_leave_her_out_whatever_her_rows_say_and_the_same_words_without_her_name(build, home):
    build([*ROWS, *HERS])
    order(home)
    new = chat(f"{SECRET} again", user_id="u99")
    nameless = {"messages": HERS[2]["messages"], "from": "elsewhere"}
    version = build([*ROWS, *HERS, new, nameless], BROKEN[:5])
    assert version.manifest.rejected["erased"] == 8
    assert all(row["data"] is None for row in lines(version, "rejected.jsonl") if row["reason"] == "erased")
    assert "Ottilie" not in texts_below(home)
    assert version.manifest.kept == 30


def test_a_version_without_her_rows_stays_the_same_and_is_found_again(build, home):
    other = build(ROWS)
    build([*ROWS, *HERS])
    order(home)
    assert read_version(home, other.digest).erased == 0
    assert build(ROWS).digest == other.digest


def test_the_same_order_again_changes_nothing_and_still_names_the_versions(build, home):
    version = build([*ROWS, *HERS])
    first = order(home)
    before = texts_below(home)
    second = order(home)
    assert (second.erasure, second.rows, second.losses) == (first.erasure, first.rows, ())
    assert second.versions_of("train") == (version.folder.name,)
    assert texts_below(home) == before


def test_a_dry_run_says_the_same_and_changes_nothing(build, home):
    version = build([*ROWS, *HERS])
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    told = order(home, dry_run=True)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"} == before
    done = order(home)
    assert (told.rows, told.losses) == (done.rows, done.losses)
    assert version.folder.name in told.render()
    assert "would be erased: 6 rows" in told.render()


def test_nobody_by_that_name_is_an_error_that_names_the_fields_and_leaves_no_record(build, home):
    build(ROWS)
    with pytest.raises(SlipwayError, match=r"has user_id 'u98'(?s:.)*fields that rows have: user_id"):
        order(home, ("user_id", "u98"))
    with pytest.raises(SlipwayError, match="has the rows 0123"):
        order(home, None, ["0123"])
    assert read_erasures(home) == ()


def test_a_row_goes_by_its_id_too_and_never_comes_back(build, home):
    version = build(ROWS)
    row = lines(version, "train.jsonl")[0]
    order(home, None, [row["id"]])
    assert row["messages"][0]["content"] not in texts_below(home)
    assert build(ROWS).manifest.rejected == {"erased": 1}


def test_numbers_and_fields_within_fields_name_a_person_as_well(build, home):
    build([*ROWS, *(chat(f"{SECRET}, {n}", meta={"user": 17}) for n in range(4))])
    assert len(order(home, ("meta.user", "17")).rows) == 4
    assert "Ottilie" not in texts_below(home)


def test_an_erasure_that_was_killed_half_way_is_told_and_finished_by_the_same_order(build, home):
    version = build([*ROWS, *HERS])
    order(home, dry_run=True)
    whole = (version.folder / "train.jsonl").read_bytes()
    order(home)
    (version.folder / "train.jsonl").chmod(0o644)
    (version.folder / "train.jsonl").rename(version.folder / "train.jsonl.erasing")
    (version.folder / "train.jsonl").write_bytes(whole)
    with pytest.raises(SlipwayError, match="not finished"):
        read_version(home, version.digest)
    order(home)
    assert read_version(home, version.digest).erased == 6
    assert "Ottilie" not in texts_below(home)


def test_eval_results_that_quote_her_go_and_other_files_are_named(build, home):
    build([*ROWS, *HERS])
    for place, name in (("evals", "0123456789ab.json"), ("evals", "ba9876543210.json"), ("logs", "traffic.jsonl")):
        (home / place).mkdir(exist_ok=True)
        said = "nothing" if name.startswith("ba") else f"{SECRET}, 2 times"
        (home / place / name).write_text(json.dumps({"asked": said}))
    done = order(home)
    assert [path.rpartition("/")[2] for path in done.removed] == ["0123456789ab.json"]
    assert [path.rpartition("/")[2] for path in done.quoting] == ["traffic.jsonl"]
    assert (home / "evals" / "ba9876543210.json").exists()
    assert not (home / "evals" / "0123456789ab.json").exists()


def test_what_changed_between_two_versions_is_told_in_rows_recipe_lengths_and_fields(build, home):
    first = build([*ROWS, *HERS])
    longer = [chat(f"Now, in one long sentence with many words, what is {n} + {n}?", user_id="u7") for n in range(40)]
    second = build([*ROWS[6:], *HERS, *longer], filters={"length": {"max_turns": 9}}, split={"holdout_share": 0.5})
    found = difference(home, first.digest, second.digest)
    assert found.rows["added"] == 40
    assert found.rows["removed"] == 6
    assert found.rows["the same"] + found.rows["moved to the held-out part"] == 30
    text = found.render()
    for part in (
        'recipe: filters.length: not set -> {"max_answer_words":null,"max_prompt_words":null,"max_turns":9,',
        "split.holdout_share: 0.3 -> 0.5",
        "source: rows.jsonl has other content",
        "shifted: words of the prompt: 5 %",
        "field user_id: 'u7' 0% -> 57%",
        "not told apart: words of the answer",
    ):
        assert part in text, text
    same = difference(home, first.digest, first.digest)
    assert (same.rows["added"], same.rows["removed"], same.recipe, same.shifts) == (0, 0, (), ())
