"""Real architectures with their families' real tokenizers go through `init` and `check`, some to a release.

Skipped where no tokenizers are at hand: see tests/support/real_models.py.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from live_world import ROLLOUT, LiveProject
from real_models import FAMILIES, FOLDER, save_real_model, tokenizer_folder
from typer.testing import CliRunner

from delivery.clients.processes.ports import free_ports
from flows.cli.main import app
from tasks.training.chat import REASONING

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

TRAINING = {"learning_rate": 5e-3, "epochs": 4.0}  # a random model of 64 dimensions says only what its LoRA teaches it
REFUSED = {"gptoss": "vLLM writes the prompts of gpt-oss itself"}


def quiz(path: Path, rows: int) -> Path:
    """Sums with the answer as JSON."""
    found = [{"query": f"{n} + 1?", "choices": [str(n), str(n + 1)], "gold": 1 - n % 2} for n in range(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def tokenizer_or_skip(name: str) -> Path | None:
    """The family's own tokenizer; None for a family that has letters."""
    found = tokenizer_folder(FAMILIES[name])
    if found is None and FAMILIES[name].tokenizer:
        pytest.skip(f"{FOLDER} names no folder with {FAMILIES[name].tokenizer}/tokenizer.json")
    return found


def slipway(*words: str) -> tuple[int, str]:
    """The command line, inside this process: one import of everything for all families."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    return (done.exit_code, done.output) if done.exception is None else (2, str(done.exception))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_goes_through_init_and_check(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    tokenizer = tokenizer_or_skip(name)
    model = save_real_model(tmp_path / "model", family, tokenizer)
    project = str(tmp_path / "quiz")
    status, said = slipway(
        "init", project, "--data", quiz(tmp_path / "rows.jsonl", 40), "--kind", "json", "--model", model
    )
    assert status == 0, said
    if not family.tokenizer:  # a token a letter
        for file in ("dataset.yaml", "training.yaml", "model.yaml"):
            path = tmp_path / "quiz" / file
            path.write_text(path.read_text().replace("_tokens: 128", "_tokens: 2048").replace(": 1024", ": 2048"))
    status, said = slipway("check", "--project", project, "--home", str(tmp_path / "home"))
    if name in REFUSED:
        assert (status, REFUSED[name] in said) == (2, True), said
        return
    assert status == 0, said
    learned = re.findall(r">>(?!>)(.*?)<<", said, re.DOTALL)[1:]  # the first is in the heading
    bare = ["".join(text.split()) for text in learned]
    for _, end in REASONING:  # where the prompt opens a block of reasoning
        bare = [text.removeprefix(end) for text in bare]
    assert bare == [f'{{"choice":"{letter}"}}{family.before_stop}{family.stop}' for letter in "BAB"], learned


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["qwen3", "llama3", "gemma3"])
def test_a_family_learns_to_answer_in_json_and_is_released_on_real_vllm(name: str, tmp_path: Path) -> None:
    live = made(name, tmp_path)
    try:
        live.slipway("up")
        built = live.slipway("build").stdout
        bundle = re.search(r"bundle (sha256:[0-9a-f]{64}): may be released", built)
        assert bundle is not None, built
        with users(live, tmp_path):
            released = live.slipway("release", bundle.group(1), "--by", "tester").stdout
        status = live.status()
        assert status["live"] == bundle.group(1), released
        assert list(status["shares"].values()) == [10_000]
        asked = {"model": "quiz", "messages": [{"role": "user", "content": "7 + 1?\nA) 7\nB) 8"}]}
        answer = httpx.post(f"{live.gateway_url}/v1/chat/completions", json=asked, timeout=60).raise_for_status().json()
        (choice,) = answer["choices"]
        assert choice["finish_reason"] == "stop"  # at the token that training ended the answer with
        assert json.loads(choice["message"]["content"])["choice"] in ("A", "B")
    finally:
        live.slipway("down")


def made(name: str, tmp_path: Path) -> LiveProject:
    """A project that `init` wrote, on free ports, with short stages and more training, for so small a model."""
    tokenizer = tokenizer_or_skip(name)
    model = save_real_model(tmp_path / "model", FAMILIES[name], tokenizer)
    folder, home = tmp_path / "quiz", tmp_path / "home"
    home.mkdir()
    rows = quiz(tmp_path / "rows.jsonl", 200)
    status, said = slipway("init", folder, "--data", rows, "--kind", "json", "--model", model)
    assert status == 0, said
    vllm, gateway, admin = free_ports(3)
    places = {"name": "live", "vllm": {"port": vllm, "cpu_kv_cache_gib": 0.25}}
    evals = yaml.safe_load((folder / "evals.yaml").read_text())
    changes = {
        "evals": {**evals, "gates": evals["gates"][:1]},  # a random base says nothing that one could compare with
        "environment": {**places, "gateway": {"port": gateway, "admin_port": admin}},
        "training": yaml.safe_load((folder / "training.yaml").read_text()) | TRAINING,
        "rollout": {**ROLLOUT, "checks": [*ROLLOUT["checks"], {"metric": "contract:valid_json", "max": 0.4}]},
    }
    for file, value in changes.items():
        (folder / f"{file}.yaml").write_text(yaml.safe_dump(value))
    return LiveProject(folder, home)


@contextmanager
def users(live: LiveProject, folder: Path) -> Iterator[None]:
    """They ask sums all the while."""
    prompts = folder / "prompts.jsonl"
    asked = [{"role": "user", "content": f"{n} + 1?\nA) {n}\nB) {n + 1}"} for n in range(50)]
    prompts.write_text("".join(json.dumps({"messages": [one]}) + "\n" for one in asked))
    words = ["--url", live.gateway_url, "--route", "quiz", "--rate", "6", "--users", "120", "--duration", "0"]
    argv = [
        sys.executable,
        "-m",
        "demo.traffic",
        *words,
        "--prompts",
        str(prompts),
        "--out",
        str(folder / "seen.jsonl"),
    ]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as asking:
        try:
            yield
        finally:
            asking.terminate()
