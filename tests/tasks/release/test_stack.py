"""`slipway stack`: a changed serving stack goes through the gate that an adapter goes through."""

from pathlib import Path

import pytest
import yaml
from bundle_place import Place
from typer.testing import CliRunner

from configs.canonical import short
from configs.environment import VllmConfig
from configs.errors import SlipwayError
from flows.cli.main import app
from tasks.release.stack import compare_stacks

pytestmark = pytest.mark.live


def test_a_stack_that_answers_alike_passes_and_what_differs_is_named(tmp_path: Path) -> None:
    place = Place(tmp_path, min_score=0.0)
    changed = tmp_path / "bfloat16.yaml"
    changed.write_text(yaml.safe_dump({"vllm": {"dtype": "bfloat16", "port": 1}}))
    words = ["stack", short(place.parent.digest), "--environment", str(changed), "--context", "2048"]
    words += ["--project", str(place.folder), "--home", str(place.home)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "  vllm dtype: float32 -> bfloat16" in done.stdout
    assert "  vllm max-model-len: 4096 -> 2048\n\n" in done.stdout  # nothing else
    assert f"the changed stack under bundle {short(place.parent.digest)}: passes the eval gate" in done.stdout
    assert not list((place.home / "environments").glob("stack-*"))


def test_the_gate_refuses_a_stack_and_the_command_says_so_with_status_1(tmp_path: Path) -> None:
    place = Place(tmp_path, min_score=1.0)
    changed = VllmConfig(dtype="float16")
    found = compare_stacks(place.project, place.home, place.parent.digest, changed)
    assert not found.gate.passed
    assert found.changed == {"vllm dtype": ("float32", "float16")}
    assert "REFUSED by the eval gate" in found.render()


def test_a_stack_that_differs_in_nothing_is_not_compared(tmp_path: Path) -> None:
    place = Place(tmp_path, min_score=0.0)
    with pytest.raises(SlipwayError, match="both stacks are the same"):
        compare_stacks(place.project, place.home, place.parent.digest, VllmConfig(dtype="float32"))
