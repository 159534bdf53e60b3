"""The examples for CI are what GitHub and GitLab read, and call commands that exist with options that they have."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from places import ROOT
from test_docs import command_problems

from flows.cli.main import app

EXAMPLES = ROOT / "docs" / "examples" / "ci"
SCHEMAS = {
    "github-actions.yaml": ("--builtin-schema", "vendor.github-workflows"),
    "gitlab-ci.yaml": ("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"),
}


def judged(file: Path, options: tuple[str, ...]) -> int:
    command = [sys.executable, "-m", "check_jsonschema", *options, str(file)]
    return subprocess.run(command, capture_output=True, check=False, timeout=100).returncode


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_example_is_valid_and_a_wrong_key_in_it_would_be_found(name: str, tmp_path: Path) -> None:
    text = (EXAMPLES / name).read_text()
    assert judged(EXAMPLES / name, SCHEMAS[name]) == 0
    wrong = tmp_path / name
    wrong.write_text(re.sub(r"^(\s*)(runs-on|script):", r"\1\2s:", text, count=1, flags=re.MULTILINE))
    assert judged(wrong, SCHEMAS[name]) == 1


@pytest.mark.parametrize("name", [*SCHEMAS, "Jenkinsfile"])
def test_every_command_in_an_example_exists_with_its_options(name: str) -> None:
    commands: Any = typer.main.get_command(app)
    called = re.findall(r"(?:- |run: |sh ')slipway ([^'\n]+)", (EXAMPLES / name).read_text())
    assert len(called) == 2
    assert [problem for one in called for problem in command_problems(commands, one)] == []


def test_the_pipeline_for_jenkins_closes_what_it_opens() -> None:
    """Jenkins has no schema; its own linter needs a server."""
    text = re.sub(r"//.*|'[^']*'", "", (EXAMPLES / "Jenkinsfile").read_text())
    depth = 0
    for sign in re.findall(r"[{}]", text):
        depth += 1 if sign == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert text.lstrip().startswith("pipeline {")
