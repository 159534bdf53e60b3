"""Real architectures with their families' real tokenizers go through `init` and `check`, some to a release.

Skipped where no tokenizers are at hand: see tests/support/real_models.py.
"""

import json
from pathlib import Path

import pytest
from real_models import FAMILIES, FOLDER, save_real_model, tokenizer_folder
from typer.testing import CliRunner

from flows.cli.main import app
from tasks.training.chat import REASONING

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

REFUSED = {"gptoss": "vLLM writes the prompts of gpt-oss itself"}


def quiz(path: Path, rows: int) -> Path:
    """Sums with the answer as JSON."""
    found = [{"query": f"{n} + 1?", "choices": [str(n), str(n + 1)], "gold": 1 - n % 2} for n in range(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def slipway(*words: str) -> tuple[int, str]:
    """The command line, inside this process: one import of everything for all families."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    return (done.exit_code, done.output) if done.exception is None else (2, str(done.exception))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_goes_through_init_and_check(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    tokenizer = tokenizer_folder(family)
    if tokenizer is None:
        pytest.skip(f"{FOLDER} names no folder with {family.tokenizer}/tokenizer.json")
    model = save_real_model(tmp_path / "model", family, tokenizer)
    project = str(tmp_path / "quiz")
    status, said = slipway("init", project, "--data", quiz(tmp_path / "rows.jsonl", 40), "--kind", "json", "--model", model)
    assert status == 0, said
    status, said = slipway("check", "--project", project, "--home", str(tmp_path / "home"))
    if name in REFUSED:
        assert (status, REFUSED[name] in said) == (2, True), said
        return
    assert status == 0, said
    learned = [part.partition("<<")[0] for part in said.split(">>")[2:]]  # the first is in the heading
    closing = tuple(f"\n{end}\n\n" for _, end in REASONING)
    bare = [text.removeprefix(next((end for end in closing if text.startswith(end)), "")) for text in learned]
    assert bare == [f'{{"choice": "{letter}"}}{family.stop}' for letter in "BAB"], learned
