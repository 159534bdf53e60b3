import socket
from collections.abc import Iterator

import pytest
from stub_vllm import StubVllm, error

from delivery.clients.vllm import VllmClient, VllmError, VllmUnavailableError


@pytest.fixture
def vllm() -> Iterator[StubVllm]:
    with StubVllm() as stub:
        yield stub


@pytest.fixture
def client(vllm: StubVllm) -> Iterator[VllmClient]:
    with VllmClient(vllm.url, timeout_s=2.0) as client:
        yield client


def loads(vllm: StubVllm) -> list[dict]:
    return [body for path, body in vllm.posts if path == "/v1/load_lora_adapter"]


def test_lists_every_name_with_its_folder(client: VllmClient) -> None:
    client.load_adapter("tutor-1", "/a/1")
    assert client.models() == {"base": "/models/base", "tutor-1": "/a/1"}


def test_loading_the_same_adapter_again_does_nothing(client: VllmClient, vllm: StubVllm) -> None:
    client.load_adapter("tutor-1", "/a/1")
    client.load_adapter("tutor-1", "/a/1")
    assert loads(vllm) == [{"lora_name": "tutor-1", "lora_path": "/a/1"}]


def test_a_name_is_never_given_to_another_folder(client: VllmClient, vllm: StubVllm) -> None:
    client.load_adapter("tutor-1", "/a/1")
    with pytest.raises(VllmError, match="serves tutor-1 from /a/1, not from /a/2"):
        client.load_adapter("tutor-1", "/a/2")
    assert len(loads(vllm)) == 1


def test_a_relative_folder_is_made_absolute_because_vllm_runs_elsewhere(
    client: VllmClient, vllm: StubVllm, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client.load_adapter("tutor-1", "adapters/1")
    assert loads(vllm)[0]["lora_path"] == str(tmp_path / "adapters/1")


def test_a_refusal_carries_vllms_own_words(client: VllmClient, vllm: StubVllm) -> None:
    vllm.refuse_load = (400, "LoRA rank 32 is greater than max_lora_rank 16.")
    with pytest.raises(VllmError, match=r"HTTP 400: LoRA rank 32 is greater than max_lora_rank 16\."):
        client.load_adapter("tutor-1", "/a/1")


def test_a_load_that_is_not_listed_afterwards_is_an_error(client: VllmClient, vllm: StubVllm) -> None:
    vllm.forgets_loads = True
    with pytest.raises(VllmError, match="accepted adapter tutor-1 from /a/1, but does not list it"):
        client.load_adapter("tutor-1", "/a/1")


def test_unloading_twice_is_fine_and_the_base_model_stays(client: VllmClient) -> None:
    client.load_adapter("tutor-1", "/a/1")
    client.unload_adapter("tutor-1")
    client.unload_adapter("tutor-1")
    assert client.models() == {"base": "/models/base"}
    with pytest.raises(VllmError, match="base is the base model"):
        client.unload_adapter("base")
    assert client.models() == {"base": "/models/base"}


def test_a_probe_asks_for_one_real_token(client: VllmClient, vllm: StubVllm) -> None:
    client.probe("base")
    path, body = vllm.posts[-1]
    assert (path, body["model"], body["max_tokens"]) == ("/v1/completions", "base", 1)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (500, error(500, "EngineCore encountered an issue."), "HTTP 500: EngineCore encountered an issue"),
        (200, {"model": "base", "choices": [], "usage": {}}, "not usable"),
        (200, {"error": "engine died"}, "not usable"),
        (
            200,
            {"model": "other", "choices": [{"finish_reason": "stop"}], "usage": {"completion_tokens": 1}},
            "not usable",
        ),
    ],
)
def test_a_probe_fails_without_a_real_answer(client: VllmClient, vllm: StubVllm, status, body, words) -> None:
    vllm.completion = (status, body)
    with pytest.raises(VllmError, match=words):
        client.probe("base")


def test_an_unknown_name_fails_its_probe(client: VllmClient) -> None:
    with pytest.raises(VllmError, match="The model `gone` does not exist"):
        client.probe("gone")


def test_verify_wants_the_name_listed_with_its_folder(client: VllmClient) -> None:
    with pytest.raises(VllmError, match="does not serve tutor-1"):
        client.verify("tutor-1", "/a/1")
    client.load_adapter("tutor-1", "/a/1")
    client.verify("tutor-1", "/a/1")
    with pytest.raises(VllmError, match="not from /a/2"):
        client.verify("tutor-1", "/a/2")


def test_health_tells_a_dead_engine_from_a_dead_server(client: VllmClient, vllm: StubVllm) -> None:
    assert (client.health(), client.healthy()) == (200, True)
    vllm.health = 503
    assert (client.health(), client.healthy()) == (503, False)


def test_a_server_that_is_not_there_is_unavailable_not_refusing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        with VllmClient(f"http://127.0.0.1:{taken.getsockname()[1]}", timeout_s=1.0) as client:
            assert client.health() == 0
            with pytest.raises(VllmUnavailableError, match="cannot be reached to list the models"):
                client.models()


def test_a_server_that_never_answers_is_given_up_after_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with VllmClient(url, timeout_s=0.05, slow_timeout_s=0.05) as client:
            assert not client.healthy()
            with pytest.raises(VllmUnavailableError, match="did not answer a probe as base in time"):
                client.probe("base")


def test_the_api_key_is_sent() -> None:
    with VllmClient("http://127.0.0.1:1", api_key="k") as client:
        assert client._http.headers["authorization"] == "Bearer k"


def test_another_server_on_that_port_is_recognised(client: VllmClient, vllm: StubVllm) -> None:
    vllm.cards = {"x": {"root": "/x"}}
    with pytest.raises(VllmError, match="not a vLLM server"):
        client.models()
