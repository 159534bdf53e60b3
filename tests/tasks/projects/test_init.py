"""`slipway init` writes a folder that loads, from every usual shape of data, or says what to give instead."""

import csv
import json
from pathlib import Path

import pytest
from tiny_model import save_tiny_model

from configs.errors import SlipwayError
from configs.project import load_project
from evals.suites import FOLDER, require_suites
from tasks.projects.init import init


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
