"""Evaluating a subject against a stub of vLLM: what is asked, what is kept, and what happens when requests fail."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tutor_scorers import TUTOR_SCORERS

from configs.errors import SlipwayError
from configs.evals import Capability, EvalsConfig, Gate
from delivery.progress import silent
from evals.report import EvalReport
from tasks.evals.conversations import ATTEMPTS
from tasks.evals.evaluate import Subject, evaluate
from tasks.evals.require import require_evals

Body = dict[str, Any]
ENGINE = {"vllm version": "0.32.0+cpu", "vllm dtype": "float32"}
GUIDE = "How many apples does Tom have first?"


class StubVllm:
    """Answers chat completions with `answer(body)`: a text, a whole reply, or None to drop the connection."""

    def __init__(self, answer: Callable[[Body], Any]):
        self.answer = answer
        self.bodies: list[Body] = []
        self.keys: set[str | None] = set()
        self.now = self.most = 0
        self.lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with stub.lock:
                    stub.bodies.append(body)
                    stub.keys.add(self.headers.get("Authorization"))
                    stub.now += 1
                    stub.most = max(stub.most, stub.now)
                try:
                    self.respond(stub.answer(body))
                finally:
                    with stub.lock:
                        stub.now -= 1

            def respond(self, answer: Any) -> None:
                if answer is None:
                    self.close_connection = True
                    return
                status, reply = answer if isinstance(answer, tuple) else (200, completion(answer))
                data = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def completion(text: str | None, finish: str = "stop", prompt_tokens: int = 20) -> Body:
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": prompt_tokens},
    }


@pytest.fixture
def stub() -> Iterator[Callable[[Callable[[Body], Any]], StubVllm]]:
    started: list[StubVllm] = []

    def start(answer: Callable[[Body], Any]) -> StubVllm:
        started.append(StubVllm(answer))
        return started[-1]

    yield start
    for server in started:
        server.close()


def subject(**changes: Any) -> Subject:
    whole = {"name": "candidate", "model": "tutor-1", "system_prompt": "Guide.", "temperature": 0.0, "max_tokens": 64}
    return Subject(**{**whole, "identity": "sha256:adapter"} | changes)


def suite(folder: Path, name: str, rows: list[Body] | None, scorer: str, samples: str = "samples.jsonl") -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    config = {"name": name, "description": "d", "scorer": TUTOR_SCORERS[scorer], "samples": samples}
    (folder / name / "eval.yaml").write_text(json.dumps(config))  # JSON is YAML
    if rows is not None:
        (folder / name / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def problems(count: int) -> list[Body]:
    return [
        {
            "id": f"p{n}",
            "messages": [{"role": "user", "content": f"Problem {n}: 5 + {n}?"}],
            "fields": {"answer": str(1000 + n)},
        }
        for n in range(count)
    ]


def run(url: str, folder: Path, *names: str, who: Subject | None = None, **more: Any) -> EvalReport:
    config = EvalsConfig(behaviour=names, concurrency=4, gates=(Gate(suite=names[0], min_score=0.5),))
    whole: dict[str, Any] = {"suites_folders": (folder / "suites",), "engine": ENGINE, **more}
    return evaluate(who or subject(), url, config, folder, folder / "home", silent, **whole)


def test_each_sample_is_asked_as_it_is_served_and_scored(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(3), "asks-guiding-question")
    vllm = stub(lambda body: GUIDE if "Problem 1" not in body["messages"][1]["content"] else "It is 6.")
    report = run(vllm.url, tmp_path, "asks", api_key="secret")
    assert [sample.score for sample in report.suites["asks"].samples] == [1, 0, 1]
    assert report.prompt_tokens_mean == 20
    assert vllm.keys == {"Bearer secret"}
    body = next(b for b in vllm.bodies if "Problem 0" in b["messages"][1]["content"])
    assert body == {
        "model": "tutor-1",
        "messages": [{"role": "system", "content": "Guide."}, {"role": "user", "content": "Problem 0: 5 + 0?"}],
        "temperature": 0.0,
        "max_tokens": 64,
        "seed": 0,
    }


def test_a_proxy_of_the_environment_is_not_asked(stub: Any, tmp_path: Path, dead_proxy: None) -> None:
    suite(tmp_path / "suites", "guides", problems(2), "asks-guiding-question")
    report = run(stub(lambda body: GUIDE).url, tmp_path, "guides")
    assert all(sample.score is not None for sample in report.suites["guides"].samples)


def test_without_a_system_prompt_none_is_sent(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(1), "asks-guiding-question")
    vllm = stub(lambda body: GUIDE)
    run(vllm.url, tmp_path, "asks", who=subject(system_prompt=None))
    assert [m["role"] for m in vllm.bodies[0]["messages"]] == ["user"]


def test_the_settings_of_the_chat_template_and_the_prompts_place_are_those_that_are_served(
    stub: Any, tmp_path: Path
) -> None:
    suite(tmp_path / "suites", "asks", problems(1), "asks-guiding-question")
    vllm = stub(lambda body: GUIDE)
    who = subject(chat_template_kwargs={"enable_thinking": False}, system_place="first_user")
    run(vllm.url, tmp_path, "asks", who=who)
    assert vllm.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert vllm.bodies[0]["messages"] == [{"role": "user", "content": "Guide.\n\nProblem 0: 5 + 0?"}]


def test_what_suites_share_is_generated_once(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(5), "asks-guiding-question")
    suite(tmp_path / "suites", "withholds", None, "withholds-answer", "../asks/samples.jsonl")
    turns = [*problems(1)[0]["messages"], {"role": "assistant"}, {"role": "user", "content": "And now?"}]
    suite(tmp_path / "suites", "role", [{"id": "r", "messages": turns, "expected": "guide"}], "stays-in-role")
    vllm = stub(lambda body: GUIDE)
    report = run(vllm.url, tmp_path, "asks", "withholds", "role")
    assert len(vllm.bodies) == 6  # five problems, and the second turn of the conversation
    assert [report.suites[name].score for name in ("asks", "withholds", "role")] == [1, 1, 1]


def test_in_a_conversation_the_models_own_replies_stay(stub: Any, tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "scripted"},
        {"role": "user", "content": "three"},
    ]
    suite(tmp_path / "suites", "role", [{"id": "r", "messages": turns, "expected": "guide"}], "stays-in-role")
    vllm = stub(lambda body: f"What comes after {body['messages'][-1]['content']}?")
    report = run(vllm.url, tmp_path, "role")
    assert [m["content"] for m in vllm.bodies[1]["messages"]] == [
        "Guide.",
        "one",
        "What comes after one?",
        "two",
        "scripted",
        "three",
    ]
    assert report.suites["role"].samples[0].output == "What comes after one?\n---\nWhat comes after three?"


def test_no_more_requests_than_allowed_run_at_once(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(12), "asks-guiding-question")
    gate = threading.Barrier(4, timeout=10)

    def answer(body: Body) -> str:
        gate.wait()  # only four at a time get through here, and never fewer
        return GUIDE

    vllm = stub(answer)
    run(vllm.url, tmp_path, "asks")
    assert vllm.most == 4


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((500, "boom"), "HTTP 500: boom"),
        ((200, "no json"), "not a chat completion"),
        ((200, {"choices": []}), "not a chat completion"),
        ((200, completion(None)), "reply 1 is empty"),
        ((200, completion("")), "reply 1 is empty"),
    ],
)
def test_what_cannot_be_judged_is_neither_right_nor_wrong(stub: Any, tmp_path: Path, answer: Any, reason: str) -> None:
    suite(tmp_path / "suites", "asks", problems(3), "asks-guiding-question")
    vllm = stub(lambda body: answer if "Problem 1" in body["messages"][1]["content"] else GUIDE)
    result = run(vllm.url, tmp_path, "asks").suites["asks"]
    assert (result.score, result.n, result.unjudged) == (1.0, 2, 1)
    assert reason in result.samples[1].reason


def test_a_reply_cut_off_by_max_tokens_is_known_as_such(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "withholds", problems(1), "withholds-answer")
    vllm = stub(lambda body: (200, completion("Let me think about", finish="length")))
    assert "cut off" in run(vllm.url, tmp_path, "withholds").suites["withholds"].samples[0].reason


def test_a_dropped_connection_is_tried_again(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(1), "asks-guiding-question")
    answers = iter([None] * (ATTEMPTS - 1) + [GUIDE])
    vllm = stub(lambda body: next(answers))
    assert run(vllm.url, tmp_path, "asks", retry_delay_s=0).suites["asks"].score == 1
    assert len(vllm.bodies) == ATTEMPTS


def test_an_error_status_is_not_tried_again(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(1), "asks-guiding-question")
    vllm = stub(lambda body: (500, "boom"))
    run(vllm.url, tmp_path, "asks")
    assert len(vllm.bodies) == 1


def test_many_failures_are_an_error_and_no_low_score(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(40), "asks-guiding-question")
    vllm = stub(lambda body: (500, "EngineCore encountered an issue"))
    with pytest.raises(SlipwayError, match=r"3 requests failed.*EngineCore") as caught:
        run(vllm.url, tmp_path, "asks")
    assert "vLLM still runs" in caught.value.cure
    assert len(vllm.bodies) <= 10  # it stops, instead of asking them all
    assert not list(tmp_path.glob("home/evals/*"))


def test_a_vllm_that_is_gone_is_an_error(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(5), "asks-guiding-question")
    vllm = stub(lambda body: GUIDE)
    vllm.close()
    with pytest.raises(SlipwayError, match="no connection after 3 attempts"):
        run(vllm.url, tmp_path, "asks", retry_delay_s=0)


@pytest.mark.parametrize("status", [401, 404])
def test_a_model_that_is_not_served_is_an_error_at_once(stub: Any, tmp_path: Path, status: int) -> None:
    suite(tmp_path / "suites", "asks", problems(1), "asks-guiding-question")
    vllm = stub(lambda body: (status, "The model `tutor-1` does not exist."))
    with pytest.raises(SlipwayError, match="'tutor-1' be evaluated"):
        run(vllm.url, tmp_path, "asks")


def test_the_same_again_is_not_asked_again(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(3), "asks-guiding-question")
    vllm = stub(lambda body: GUIDE)
    first = run(vllm.url, tmp_path, "asks")
    again = run(vllm.url, tmp_path, "asks", who=subject(name="production", model="tutor-2"))
    assert len(vllm.bodies) == 3
    assert (again.subject, again.model, again.suites) == ("production", "tutor-2", first.suites)


@pytest.mark.parametrize(
    "change",
    [
        {"identity": "sha256:other"},
        {"system_prompt": "Other."},
        {"temperature": 0.5},
        {"max_tokens": 32},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"system_place": "first_user"},
    ],
)
def test_another_subject_is_asked(stub: Any, tmp_path: Path, change: Body) -> None:
    suite(tmp_path / "suites", "asks", problems(3), "asks-guiding-question")
    vllm = stub(lambda body: GUIDE)
    run(vllm.url, tmp_path, "asks")
    run(vllm.url, tmp_path, "asks", who=subject(**change))
    assert len(vllm.bodies) == 6


def test_another_version_of_a_suite_is_asked(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(3), "asks-guiding-question")
    vllm = stub(lambda body: GUIDE)
    run(vllm.url, tmp_path, "asks")
    suite(tmp_path / "suites", "asks", problems(4), "asks-guiding-question")
    assert run(vllm.url, tmp_path, "asks").suites["asks"].n == 4


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": "another", "value": {}}'])
def test_a_damaged_stored_result_is_replaced(stub: Any, tmp_path: Path, damage: str) -> None:
    suite(tmp_path / "suites", "asks", problems(1), "asks-guiding-question")
    vllm = stub(lambda body: GUIDE)
    first = run(vllm.url, tmp_path, "asks")
    (stored,) = tmp_path.glob("home/evals/*.json")
    stored.write_text(damage)
    assert run(vllm.url, tmp_path, "asks") == first
    run(vllm.url, tmp_path, "asks")
    assert len(vllm.bodies) == 2


def test_a_result_that_finds_no_room_is_said_and_asked_again_once_there_is_some(
    stub: Any, tmp_path: Path, tiny_disk: Path
) -> None:
    suite(tmp_path / "suites", "asks", problems(2), "asks-guiding-question")
    (tmp_path / "home").symlink_to(tiny_disk)
    filler = tiny_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(100_000))
    vllm = stub(lambda body: GUIDE)
    with pytest.raises(SlipwayError, match="cannot write eval results: No space left on device") as caught:
        run(vllm.url, tmp_path, "asks")
    assert "home/evals" in caught.value.where
    assert "make room there" in caught.value.cure
    assert not list((tiny_disk / "evals").glob("*"))
    filler.unlink()
    report = run(vllm.url, tmp_path, "asks")
    assert len(vllm.bodies) == 4
    assert run(vllm.url, tmp_path, "asks") == report
    assert len(vllm.bodies) == 4


def test_a_result_with_failed_requests_is_not_kept(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(3), "asks-guiding-question")
    broken = [(500, "boom")]
    vllm = stub(lambda body: broken.pop() if broken else GUIDE)
    assert run(vllm.url, tmp_path, "asks").suites["asks"].unjudged == 1
    assert run(vllm.url, tmp_path, "asks").suites["asks"].unjudged == 0


def test_held_out_rows_are_evaluated(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "held", None, "withholds-answer", "holdout")
    turns = [{"role": "user", "content": "5 + 7?"}, {"role": "assistant", "content": "What is 5 + 5?"}]
    holdout = tmp_path / "holdout.jsonl"
    holdout.write_text(json.dumps({"id": "h", "messages": turns, "fields": {"answer": "12"}}))
    vllm = stub(lambda body: "Twelve!")
    assert run(vllm.url, tmp_path, "held", holdout=holdout).suites["held"].score == 0


def test_progress_is_told(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(3), "asks-guiding-question")
    told: list[tuple[int, int]] = []
    config = EvalsConfig(behaviour=("asks",), gates=(Gate(suite="asks", min_score=0.5),))
    evaluate(
        subject(),
        stub(lambda body: GUIDE).url,
        config,
        tmp_path,
        tmp_path / "home",
        lambda done, total, text: told.append((done, total)),
        suites_folders=(tmp_path / "suites",),
        engine=ENGINE,
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_task_without_its_data_is_told_before_anything_is_asked(stub: Any, tmp_path: Path) -> None:
    vllm = stub(lambda body: GUIDE)
    config = EvalsConfig(capability=(Capability(task="local_piqa"),), gates=(Gate(suite="local_piqa", max_drop=0.05),))
    with pytest.raises(SlipwayError, match="SLIPWAY_DATA"):
        evaluate(subject(), vllm.url, config, tmp_path, tmp_path / "home", silent, engine=ENGINE, environment={})
    assert vllm.bodies == []


def test_another_engine_is_asked_anew_and_the_same_one_is_not(stub: Any, tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(3), "asks-guiding-question")
    vllm = stub(lambda body: GUIDE)
    for changed in ({}, {}, {"vllm dtype": "bfloat16"}, {"vllm context": "384"}, {"vllm version": "0.33.0"}, {}):
        report = run(vllm.url, tmp_path, "asks", engine={**ENGINE, **changed})
        assert report.engine == {**ENGINE, **changed}
    assert len(vllm.bodies) == 3 * 4


def test_a_second_run_for_the_stacks_own_noise_is_kept_by_itself_and_asks_in_other_batches(
    stub: Any, tmp_path: Path
) -> None:
    suite(tmp_path / "suites", "asks", problems(6), "asks-guiding-question")
    answers = iter([GUIDE] * 6 + ["It is 6."] * 6)
    vllm = stub(lambda body: next(answers))
    first = run(vllm.url, tmp_path, "asks")
    noise = run(vllm.url, tmp_path, "asks", again=True)
    assert (first.suites["asks"].score, noise.suites["asks"].score) == (1.0, 0.0)
    assert noise.engine["run"] == "again, 2 requests at a time"
    assert run(vllm.url, tmp_path, "asks").suites == first.suites
    assert run(vllm.url, tmp_path, "asks", again=True).suites == noise.suites
    assert len(vllm.bodies) == 12


def test_a_gates_slices_name_a_field_that_the_samples_have(tmp_path: Path) -> None:
    suite(tmp_path / "suites", "asks", problems(3), "asks-guiding-question")
    gate = {"suite": "asks", "slices": [{"field": "answer"}, {"field": "kind"}]}
    config = EvalsConfig.model_validate({"behaviour": ["asks"], "gates": [gate]})
    with pytest.raises(SlipwayError, match=r"(?s)slices\.1\.field.*no sample of asks has the field 'kind'.*answer"):
        require_evals(config, [tmp_path / "suites"], None, {})
    with pytest.raises(ValueError, match="has slices, which only the samples of a behaviour suite have"):
        EvalsConfig.model_validate({"capability": [{"task": "t"}], "gates": [{**gate, "suite": "t"}]})
