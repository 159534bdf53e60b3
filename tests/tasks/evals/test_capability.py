"""Capability tasks: which are shipped, when two results are comparable, and what becomes of lm-eval's answers."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from configs.errors import ConfigError
from configs.evals import Capability, EvalsConfig, Gate
from tasks.evals.capability import SHIPPED, max_length, scores, shipped_tasks, task_version
from tasks.evals.capability_worker import answers_of, metrics_of

OWN = ("slipway_physical", "slipway_science")


def data(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "capability").mkdir(exist_ok=True)
    for name in ("piqa", "arc_easy"):
        (tmp_path / "capability" / f"{name}.jsonl").write_text('{"query": "Question: a", "choices": [], "gold": 0}\n')
    return {"SLIPWAY_DATA": str(tmp_path)}


def test_every_shipped_task_finds_its_data(tmp_path: Path) -> None:
    names = [path.stem for path in SHIPPED.glob("*.yaml")]
    found = shipped_tasks(names, data(tmp_path))
    assert sorted(found) == sorted(names)
    for name, task in found.items():
        parsed = yaml.safe_load(task.text)
        assert parsed["task"] == name
        assert Path(parsed["dataset_kwargs"]["data_files"]["test"]).is_file()


def test_a_task_that_is_not_shipped_is_left_to_lm_eval() -> None:
    assert shipped_tasks(["hellaswag"], {}) == {}


def test_missing_data_is_told_with_the_variable_and_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SLIPWAY_DATA") as unset:
        shipped_tasks(["local_piqa", "local_arc_easy"], {})
    assert len(unset.value.problems) == 2
    with pytest.raises(ConfigError, match="does not exist"):
        shipped_tasks(["local_piqa"], {"SLIPWAY_DATA": str(tmp_path)})


@pytest.mark.parametrize(
    ("content", "where", "what", "cure"),
    [
        (b"task: own\ndataset_kwargs:\n", "own.yaml: dataset_kwargs", "found None", ""),
        (b"task: own\ndataset_kwargs: {data_files: [a]}\n", "own.yaml: dataset_kwargs.data_files", "found ['a']", ""),
        (b"task: own\ndataset_kwargs: {data_files: {test: [a]}}\n", "own.yaml: dataset_kwargs.data_files.test", "", ""),
        (b"task: own\ndoc_to_text: {{query}}\n", "own.yaml: line 2, column 15", "cannot be a key", "in quotes"),
        (b"task: own\ndoc_to_text: !function own.text\n", "own.yaml: line 2, column 14", "!function", ""),
        (b"task: [own\n", "own.yaml: line 2", "not valid YAML", "in quotes"),
        (b"task: other\n", "own.yaml: task", "'other'", "task: own"),
        (b"- own\n", "own.yaml", "found a list", "`key: value`"),
        (b"task: \xff\n", "own.yaml", "not UTF-8 at byte 6", "save the file as UTF-8"),
        (b"task: own\ndataset_path: ${NOWHERE}\n", "own.yaml", "${NOWHERE} is not set", "set NOWHERE to the folder"),
    ],
)
def test_a_wrong_task_file_is_told_with_the_place_and_the_cure(
    tmp_path: Path, content: bytes, where: str, what: str, cure: str
) -> None:
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        shipped_tasks(["own"], {}, [tmp_path])
    [problem] = caught.value.problems
    assert problem.where.startswith(str(tmp_path / where))
    assert what in problem.what
    assert cure in problem.cure


def test_a_version_follows_task_limit_and_data_but_not_the_datas_place(tmp_path: Path) -> None:
    def version(folder: Path, limit: int | None = None, extra: str = "") -> str:
        folder.mkdir(exist_ok=True)
        environment = data(folder)
        with (folder / "capability" / "piqa.jsonl").open("a") as file:
            file.write(extra)
        task = shipped_tasks(["local_piqa"], environment)["local_piqa"]
        return task_version(Capability(task="local_piqa", limit=limit), task)

    first = version(tmp_path / "a")
    assert version(tmp_path / "b") == first
    assert version(tmp_path / "a", limit=3) != first
    assert version(tmp_path / "c", extra="{}\n") != first


@pytest.mark.parametrize("name", OWN)
def test_the_shipped_questions_are_sound(name: str) -> None:
    rows = [json.loads(line) for line in (SHIPPED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= 60
    assert len({row["query"] for row in rows}) == len(rows)
    for row in rows:
        assert len(set(row["choices"])) == len(row["choices"])
        assert 0 <= row["gold"] < len(row["choices"])
    places = [row["gold"] for row in rows]
    assert max(places.count(place) for place in set(places)) <= len(rows) / len(set(places)) + 1


class Models(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "base", "max_model_len": 512}]}')

    def log_message(self, *words: object) -> None: ...


def test_a_proxy_of_the_environment_is_not_asked_for_the_models_length(dead_proxy: None) -> None:
    with HTTPServer(("127.0.0.1", 0), Models) as vllm:
        asked = Thread(target=vllm.handle_request)
        asked.start()
        assert max_length(f"http://127.0.0.1:{vllm.server_port}", None) == 512
        asked.join()


def sample(number: int, name: str = "none", **values: Any) -> dict[str, Any]:
    return {"doc_id": number, "filter": name, "metrics": list(values), "filtered_resps": [["x"]], **values}


def test_answers_come_in_the_questions_order_with_their_numbers_only() -> None:
    samples = [("t", sample(10, acc=1.0, f1=(1, 2))), ("t", sample(9, acc=True)), ("t", sample(2, acc=float("nan")))]
    found = answers_of(samples)
    assert [(a["id"], a["values"]) for a in found] == [
        ("t/2", {}),
        ("t/9", {"acc,none": 1.0}),
        ("t/10", {"acc,none": 1.0}),
    ]


FILTERED = [
    ("t", sample(1, "strict", acc=0.0)),
    ("t", sample(2, "strict", acc=0.0)),
    ("t", sample(1, "flexible", acc=1.0)),
    ("t", sample(2, "flexible", acc=0.0)),
]
RESULTS: dict[str, Any] = {
    "higher_is_better": {"t": {"acc": True}},
    "results": {"t": {"acc,strict": 0.0, "acc,flexible": 0.5}},
}


def answered(samples: Any = FILTERED, results: Any = RESULTS) -> dict[str, Any]:
    return {"answers": answers_of(samples), "metrics": metrics_of(samples, results)}


def test_every_filter_of_a_task_can_be_gated_and_without_a_name_it_is_the_first() -> None:
    def values(metric: str) -> list[float | None]:
        return [s.score for s in scores(Capability(task="t", metric=metric), answered()).scores]

    assert values("acc") == values("acc,strict") == [0, 0]
    assert values("acc,flexible") == [1, 0]
    with pytest.raises(ConfigError, match="no metric 'acc,none'") as caught:
        values("acc,none")
    assert "acc,flexible, acc,strict" in caught.value.cure


@pytest.mark.parametrize(
    ("told", "said", "better"),
    [(True, None, "higher"), (False, None, "lower"), (None, "lower", "lower"), (True, "lower", "lower")],
)
def test_the_direction_is_the_tasks_unless_the_project_says_it(told: Any, said: Any, better: str) -> None:
    results = {**RESULTS, "higher_is_better": {"t": {"acc": told}}}
    assert scores(Capability(task="t", better=said), answered(results=results)).better == better


def test_a_metric_without_a_direction_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not say whether a higher acc,strict is better"):
        scores(Capability(task="t"), answered(results={**RESULTS, "higher_is_better": {}}))


def test_a_metric_that_is_no_mean_over_the_questions_is_refused() -> None:
    results = {**RESULTS, "results": {"t": {"acc,strict": 12.5, "acc,flexible": 0.5}}}
    with pytest.raises(ConfigError, match="no mean over its questions") as caught:
        scores(Capability(task="t"), answered(results=results))
    assert "acc,flexible" in caught.value.cure


def test_tasks_of_a_group_that_disagree_about_the_direction_have_none() -> None:
    samples = [("a", sample(1, acc=1.0)), ("b", sample(1, acc=0.0))]
    results = {"a": {"acc,none": 1.0}, "b": {"acc,none": 0.0}}
    for ways, expected in (((True, True), True), ((True, False), None)):
        directions = {"a": {"acc": ways[0]}, "b": {"acc": ways[1]}}
        found = metrics_of(samples, {"results": results, "higher_is_better": directions})
        assert found == {"acc,none": {"higher_is_better": expected, "is_mean": True}}


def test_a_question_without_a_value_is_unjudged() -> None:
    samples = [("t", sample(1, acc=1.0)), ("t", sample(2, acc="?"))]
    results = {"higher_is_better": {"t": {"acc": True}}, "results": {"t": {"acc,none": 1.0}}}
    found = scores(Capability(task="t"), answered(samples, results))
    assert [(s.id, s.score) for s in found.scores] == [("t/1", 1.0), ("t/2", None)]


def test_several_metrics_of_one_task_are_suites_of_their_own() -> None:
    both = (Capability(task="a"), Capability(task="a", metric="acc_norm"), Capability(task="b", metric="f1"))
    config = EvalsConfig(capability=both, gates=(Gate(suite="a/acc_norm", max_drop=0.1),))
    assert list(config.capability_suites) == ["a/acc", "a/acc_norm", "b"]


@pytest.mark.parametrize(
    "fields",
    [
        {"behaviour": ["a", "a"]},
        {"capability": [{"task": "a"}, {"task": "a"}]},
        {"capability": [{"task": "a"}, {"task": "a", "metric": "f1", "limit": 3}]},
        {"behaviour": ["a"], "capability": [{"task": "a"}]},
    ],
)
def test_ambiguous_suites_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EvalsConfig.model_validate({"gates": [{"suite": "a", "min_score": 0.5}], **fields})
