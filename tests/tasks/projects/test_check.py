"""`slipway check` says what would happen with a project, on a model of a few thousand weights."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_model import save_tiny_model

from configs.errors import SlipwayError
from configs.project import Project, load_project
from configs.training_place import TrainingBudget, TrainingPlace
from evals.suites import FOLDER as SHIPPED
from flows.cli.check import render
from tasks.projects.check import Expected, check
from tasks.projects.init import init
from tasks.projects.training_time import training_time
from tasks.training.model import model_revision


def made(tmp_path: Path, rows: list[dict[str, object]], **more: str) -> Project:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = save_tiny_model(tmp_path / "model")
    folder, _ = init(tmp_path / "quiz", data, str(model), **more)  # type: ignore[arg-type]
    return load_project(folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    tmp_path = tmp_path_factory.mktemp("check")
    rows: list[dict[str, object]] = [{"question": f"{n}?", "choices": ["x", "y"], "answer": n % 2} for n in range(40)]
    rows.append(rows[0])
    rows.append({"question": "", "choices": [], "answer": 7})
    return check(made(tmp_path, rows, kind="json"), tmp_path / "home")


def test_rows_are_counted_with_the_reasons_of_those_that_are_left_out(found: Expected) -> None:
    text = render(found, colours=False)
    assert "rows: 42 read, 40 kept" in text
    assert "rejected: duplicate 1" in text


def test_what_the_model_learns_to_say_is_marked_and_nothing_else(found: Expected) -> None:
    learned = ["".join(text for text, is_learned in row.parts if is_learned) for row in found.rows]
    assert learned == ['{"choice": "A"}<|im_end|>', '{"choice": "B"}<|im_end|>', '{"choice": "A"}<|im_end|>']
    assert '>>{"choice": "A"}<|im_end|><<' in render(found, colours=False)


def test_a_gate_that_too_few_samples_cannot_satisfy_is_said_before_training(found: Expected) -> None:
    assert any(
        "with 12 samples a candidate as good as production cannot pass max_drop 0.1" in text for text in found.warnings
    )
    assert "what the gate can show with so many samples" in render(found, colours=False)


def test_time_memory_lengths_and_what_the_plan_detects_are_said(found: Expected) -> None:
    text = render(found, colours=False)
    assumed = ("training: about", "(2 x 28 rows)", "this machine's CPU while it serves, too")
    for word in (*assumed, "GiB", "tokens a row: 50 % within", "0-shadow", "1-canary"):
        assert word in text


def test_what_a_training_is_above_its_budget_and_what_it_costs_is_said_before_it(tmp_path: Path) -> None:
    project = made(tmp_path, [{"question": f"{n}?", "choices": ["x", "y"], "answer": n % 2} for n in range(40)])
    place = TrainingPlace(cost_per_hour=3600, currency="USD", budget=TrainingBudget(tokens=100))
    environment = project.environment.model_copy(update={"training": place})
    found = check(replace(project, environment=environment), tmp_path / "home")
    assert found.cost == pytest.approx(found.training.seconds)
    assert any(
        "stopped at its budget: it takes about" in text and "budget.tokens is 100" in text for text in found.warnings
    )
    assert f"{found.cost:.2f} USD" in render(found, colours=False)


def test_what_such_a_training_took_here_is_the_best_estimate(tmp_path: Path) -> None:
    project = made(tmp_path, [{"question": f"{n}?", "choices": ["x", "y"], "answer": n % 2} for n in range(40)])
    base, home = Path(str(project.model.path)), tmp_path / "home"
    settings = project.training.model_dump(mode="json")

    def trained(name: str, tokens: int, **changes: object) -> None:
        folder = home / "trainings" / name
        folder.mkdir(parents=True)
        run = {"model_revision": model_revision(base), "config": settings} | changes
        (folder / "run.json").write_text(json.dumps(run))
        done = {"trained_tokens": tokens, "seconds": 10.0, "host": socket.gethostname()} | changes
        (folder / "done.json").write_text(json.dumps(done))

    trained("a" * 12, 7770)
    trained("b" * 12, 1, host="another")
    trained("c" * 12, 1, model_revision="sha256:another")
    trained("d" * 12, 1, config=settings | {"batch_size": 999})
    found = training_time(project.training, [10] * 40, 10, base, home)
    assert found.tokens_per_s == 777
    assert "measured" in found.source


def test_data_of_which_nothing_can_be_kept_ends_with_the_reasons(tmp_path: Path) -> None:
    project = made(tmp_path, [{"question": "why?", "answer": "because"}])
    (tmp_path / "rows.jsonl").write_text('{"other": 1}\n{"other": 2}\n')
    with pytest.raises(SlipwayError, match=r"no row would be kept(?s:.)*missing-field 2"):
        check(project, tmp_path / "home")


def test_rows_that_ask_the_questions_of_a_suite_end_it_and_the_suite_is_named(tmp_path: Path) -> None:
    samples = (SHIPPED / "asks-guiding-question" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line)["messages"][0]["content"] for line in samples]
    project = made(tmp_path, [{"question": text, "answer": "Why?"} for text in asked])
    evals = project.evals.model_copy(update={"behaviour": ("asks-guiding-question",)})
    with pytest.raises(SlipwayError, match=r"trains on \d+ of (?s:.)*asks-guiding-question: (?s:.)*eval_overlap: drop"):
        check(replace(project, evals=evals), tmp_path / "home")


def test_what_the_suites_share_with_the_rows_is_said(found: Expected) -> None:
    assert "overlap with the suites: the suites ask held-out rows alone" in render(found, colours=False)
