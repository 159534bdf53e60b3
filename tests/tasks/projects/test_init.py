"""`slipway init` writes a folder that loads, from every usual shape of data, or says what to give instead."""

import csv
import json
from pathlib import Path

import pytest
from tiny_model import CHATML, save_tiny_model

from configs.errors import SlipwayError
from configs.project import load_project
from evals.suites import FOLDER, require_suites
from tasks.projects.init import init
from tasks.training.template import problems_with_template, read_template


def jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def require_whole(folder: Path) -> None:
    project = load_project(folder)
    require_suites(project.evals.behaviour, (*project.suite_folders, FOLDER), project.contract)


def test_a_csv_of_labelled_sentences_becomes_a_classifier(tmp_path: Path) -> None:
    with (tmp_path / "mail.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([f"mail, number {n}", ("spam", "not spam")[n % 2]] for n in range(30))
    folder, found = init(tmp_path / "mail", tmp_path / "mail.csv")
    assert found is not None
    assert found.kind == "classify"
    project = load_project(folder)
    assert project.route == "mail"
    assert "spam, not spam" in project.prompts.adapter
    require_whole(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "rows.csv is empty"),
        ("text,label\n", "rows.csv holds no row that can be read"),
    ],
)
def test_data_without_a_row_is_refused_with_what_it_lacks(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(SlipwayError, match=said):
        init(tmp_path / "bot", tmp_path / "rows.csv")
    assert not (tmp_path / "bot").exists()


def test_share_gpt_rows_become_a_chat_project(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "Good morning to you."}]
    data = jsonl(tmp_path / "rows.jsonl", [{"conversations": turns}] * 3)
    folder, found = init(tmp_path / "bot", data)
    assert found is not None
    assert (found.kind, found.reader) == ("chat", "sharegpt")
    require_whole(folder)


@pytest.mark.parametrize("kind", ["chat", "json", "classify", "tutor"])
def test_a_project_without_data_loads_and_says_where_rows_go(tmp_path: Path, kind: str) -> None:
    folder, found = init(tmp_path / "bot", kind=kind)  # type: ignore[arg-type]
    assert found is None
    project = load_project(folder)
    assert (project.dataset_folder / str(project.dataset.sources[0].path)).is_file()
    require_whole(folder)


def test_a_base_model_may_be_a_folder(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    folder, _ = init(tmp_path / "bot", model=str(model))
    assert load_project(folder).model.path == model


def test_the_longest_answer_fits_into_what_a_request_may_bring(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": json.dumps({"name": "x" * 20 * n})} for n in range(10)]
    project = load_project(init(tmp_path / "bot", jsonl(tmp_path / "rows.jsonl", rows), kind="json")[0])
    assert project.prompts.sampling.max_tokens >= len('{"name": "') + 180 / 2


def test_rows_of_wide_letters_get_room_for_more_tokens(tmp_path: Path) -> None:
    rows = [{"question": "退款需要多少天" * 20, "answer": "十四天"}] * 3
    project = load_project(init(tmp_path / "bot", jsonl(tmp_path / "rows.jsonl", rows), kind="chat")[0])
    assert project.training.max_sequence_tokens >= 140 * 1.2


@pytest.mark.parametrize(("answer", "thinks"), [("Yes.", False), ("<think>Hm.</think>Yes.", True)])
def test_a_template_that_thinks_or_writes_the_date_gets_settings_by_the_rows(
    tmp_path: Path, answer: str, thinks: bool
) -> None:
    model = save_tiny_model(tmp_path / "model")
    dated = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b') %}{% endif %}{{ date_string }}"
    )
    block = "{% if enable_thinking is false %}{{ '<think></think>' }}{% endif %}"
    (model / "chat_template.jinja").write_text(dated + CHATML + block)
    data = jsonl(tmp_path / "rows.jsonl", [{"question": f"{n}?", "answer": answer} for n in range(3)])
    project = load_project(init(tmp_path / "bot", data, str(model), "chat")[0])
    assert project.prompts.chat_template_kwargs == {"enable_thinking": thinks, "date_string": "26 Jul 2026"}
    assert problems_with_template(read_template(model), project.prompts.chat_template_kwargs) == []


def test_a_template_without_settings_gets_none(tmp_path: Path) -> None:
    folder, _ = init(tmp_path / "bot", model=str(save_tiny_model(tmp_path / "model")))
    assert load_project(folder).prompts.chat_template_kwargs == {}
    assert "chat_template_kwargs" not in (folder / "prompts.yaml").read_text()


@pytest.mark.parametrize(
    ("model", "said"),
    [("some/model", "--model some/model@COMMIT"), ("nowhere", "there is no folder nowhere")],
)
def test_a_model_that_is_not_pinned_or_not_there_is_refused_and_nothing_is_written(
    tmp_path: Path, model: str, said: str
) -> None:
    with pytest.raises(SlipwayError, match=said):
        init(tmp_path / "bot", model=model)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "bot").mkdir()
    (tmp_path / "bot" / "mine.txt").write_text("keep me")
    with pytest.raises(SlipwayError, match="is there already"):
        init(tmp_path / "bot")
    assert (tmp_path / "bot" / "mine.txt").read_text() == "keep me"


def test_a_name_that_is_no_route_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlipwayError, match="cannot be a route"):
        init(tmp_path / "my bot!")
