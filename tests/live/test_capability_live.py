"""Real lm-eval in its own process, against a stub of vLLM's completions: the shortest answer is the likeliest one."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from configs.errors import SlipwayError
from configs.evals import Capability, EvalsConfig, Gate
from tasks.evals.capability import SHIPPED
from tasks.evals.evaluate import Subject, evaluate

pytestmark = pytest.mark.live

ENGINE = {"vllm version": "0.32.0+stub"}


class Completions(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked = 0
    broken = False
    prompts: tuple[list[int], ...] | list[list[int]] = ()

    def do_GET(self) -> None:
        self.send_json(200, {"data": [{"id": "base", "max_model_len": 1024}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked += 1
        type(self).prompts = [*self.prompts, body["prompt"][0]]
        if self.broken:
            self.send_json(500, {"error": "EngineCore encountered an issue"})
            return
        if "prompt_logprobs" not in body:
            self.send_json(200, {"choices": [{"index": 0, "text": "The answer is (B). B!"}]})
            return
        count = len(body["prompt"][0])
        likely = [None, *[{"7": {"logprob": -1.0, "rank": 2, "decoded_token": "x"}}] * (count - 1)]
        self.send_json(200, {"choices": [{"index": 0, "text": "", "prompt_logprobs": likely}]})

    def send_json(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def vllm() -> Iterator[tuple[str, type[Completions]]]:
    handler = type("Handler", (Completions,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One token a byte, so that lengths are known."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = pre_tokenizers.ByteLevel.alphabet()
    made = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(sorted(letters))}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="a").save_pretrained(folder)
    return folder


def test_lm_eval_runs_the_shipped_tasks_and_is_not_asked_twice(
    vllm: tuple[str, type[Completions]], tokenizer: Path, tmp_path: Path
) -> None:
    url, handler = vllm
    entries = (
        Capability(task="slipway_physical", limit=10),
        Capability(task="slipway_science", limit=10),
        Capability(task="slipway_science", metric="acc_norm", limit=10),
    )
    config = EvalsConfig(capability=entries, gates=(Gate(suite="slipway_physical", max_drop=0.1),))
    subject = Subject("base", "base", None, 0.0, 64, "sha256:base")
    told: list[tuple[int, int, str]] = []
    report = evaluate(subject, url, config, tokenizer, tmp_path, lambda *event: told.append(event), engine=ENGINE)
    assert list(report.suites) == ["slipway_physical", "slipway_science/acc", "slipway_science/acc_norm"]
    for name, task in (("slipway_physical", "slipway_physical"), ("slipway_science/acc", "slipway_science")):
        rows = [json.loads(line) for line in (SHIPPED / f"{task}.jsonl").read_text().splitlines()][:10]
        shortest = [min(range(len(row["choices"])), key=lambda n: len(row["choices"][n])) for row in rows]
        expected = [float(n == row["gold"]) for n, row in zip(shortest, rows, strict=True)]
        assert [sample.score for sample in report.suites[name].samples] == expected
    assert handler.asked == 10 * 2 + 10 * 4
    assert told[-1][:2] == (60, 60)
    assert (
        evaluate(subject, url, config, tokenizer, tmp_path, lambda *event: None, engine=ENGINE).suites == report.suites
    )
    assert handler.asked == 60
    assert sorted(path.suffix for path in (tmp_path / "evals").iterdir()) == [".json", ".json", ".json", ".log"]


def test_what_lm_eval_cannot_do_is_told(vllm: tuple[str, type[Completions]], tokenizer: Path, tmp_path: Path) -> None:
    url, handler = vllm
    handler.broken = True
    entry = Capability(task="slipway_physical", limit=2)
    config = EvalsConfig(capability=(entry,), gates=(Gate(suite="slipway_physical", max_drop=0.1),))
    subject = Subject("base", "base", None, 0.0, 64, "sha256:base")
    with pytest.raises(SlipwayError, match=r"vLLM failed under lm-eval.*500"):
        evaluate(subject, url, config, tokenizer, tmp_path, lambda *event: None, engine=ENGINE)
    assert [path.name for path in (tmp_path / "evals").iterdir() if path.suffix != ".json"] == ["lm-eval.log"]


QUESTIONS = [{"query": "Sky?", "choices": ["blue", "purple"], "gold": 0}] * 3
TASKS = {
    "told_low": """
task: told_low
output_type: multiple_choice
doc_to_text: "{{query}}"
doc_to_choice: "{{choices}}"
doc_to_target: gold
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: false}
""",
    "in_words": """
task: in_words
output_type: generate_until
doc_to_text: "{{query}}"
doc_to_target: "B"
generation_kwargs: {until: ["\\n"], max_gen_toks: 8}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
filter_list:
  - {name: strict, filter: [{function: regex, regex_pattern: "^(B)"}, {function: take_first}]}
  - {name: flexible, filter: [{function: regex, regex_pattern: "(B)!"}, {function: take_first}]}
""",
}
SOURCE = """
dataset_path: json
dataset_kwargs: {data_files: {test: "${TASK_FOLDER}/questions.jsonl"}}
test_split: test
"""


def test_questions_are_asked_with_the_tokenizers_bos_filters_and_directions_as_the_task_says(
    vllm: tuple[str, type[Completions]], tokenizer: Path, tmp_path: Path
) -> None:
    """A tokenizer that begins each text with BOS, as Gemma's and Llama's do."""
    from tokenizers import processors
    from transformers import AutoTokenizer

    with_bos = AutoTokenizer.from_pretrained(tokenizer, bos_token="b")
    bos = with_bos.bos_token_id
    with_bos.backend_tokenizer.post_processor = processors.TemplateProcessing("b $A", special_tokens=[("b", bos)])
    with_bos.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "evals" / "capability").mkdir(parents=True)
    for name, text in TASKS.items():
        (tmp_path / "evals" / "capability" / f"{name}.yaml").write_text(text + SOURCE)
    rows = "".join(json.dumps(row) + "\n" for row in QUESTIONS)
    (tmp_path / "evals" / "capability" / "questions.jsonl").write_text(rows)
    url, handler = vllm
    metrics = ("exact_match,strict", "exact_match,flexible")
    entries = (Capability(task="told_low"), *(Capability(task="in_words", metric=metric) for metric in metrics))
    config = EvalsConfig(capability=entries, gates=(Gate(suite="told_low", max_drop=0.1),))
    report = evaluate(
        Subject("base", "base", None, 0.0, 64, "sha256:base"),
        url,
        config,
        tmp_path / "tokenizer",
        tmp_path / "home",
        lambda *event: None,
        engine=ENGINE,
        suites_folders=(tmp_path / "evals",),
    )
    assert {prompt[0] for prompt in handler.prompts} == {bos}
    assert all(prompt[1] != bos for prompt in handler.prompts)
    scores = {name: (result.score, result.better) for name, result in report.suites.items()}
    assert scores == {
        "told_low": (1.0, "lower"),
        "in_words/exact_match,strict": (0.0, "higher"),
        "in_words/exact_match,flexible": (1.0, "higher"),
    }
