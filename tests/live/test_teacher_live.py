"""The base model on a real vLLM is the teacher: a passage and prompts become rows that say where they come from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LiveVllm

pytestmark = pytest.mark.live


def taught(vllm: LiveVllm, out: Path, *words: str) -> tuple[list[dict], list[dict]]:
    """Rows and failures of one run of the command."""
    place = ["--teacher", f"{vllm.url}/v1", "--model", vllm.model_name, "--out", str(out), "--temperature", "0"]
    command = [sys.executable, "-m", "flows.cli.main", "dataset", "teach", *place, "--max-tokens", "120", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    failed = out.with_name(f"{out.name}.failed.jsonl")
    found = [
        [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else [] for file in (out, failed)
    ]
    assert (done.returncode == 1) == bool(found[1])
    return found[0], found[1]


def test_a_real_model_answers_prompts_and_asks_about_a_passage(vllm: LiveVllm, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("What is the capital of France? Say one word.\nSay hello.\n")
    rows, failed = taught(vllm, tmp_path / "a.jsonl", "--prompts", str(tmp_path / "p.txt"))
    assert len(rows) + len(failed) == 2  # what a small model does not finish is kept with its reason
    assert all("cut" in one["reason"] for one in failed)
    for row in rows:
        assert row["messages"][-1]["content"].strip()
        assert row["taught"]["teacher"] == vllm.model_name
    again, _ = taught(vllm, tmp_path / "a.jsonl", "--prompts", str(tmp_path / "p.txt"))
    assert again[: len(rows)] == rows
    (tmp_path / "ice.md").write_text("Ice floats on water, because it is less dense than water.")
    rows, failed = taught(vllm, tmp_path / "b.jsonl", "--documents", str(tmp_path / "ice.md"))
    assert len(rows) + len(failed) == 1
    told = [row["taught"] for row in rows] + failed
    assert (told[0]["document"], told[0]["passage"]) == ("ice.md", 1)
