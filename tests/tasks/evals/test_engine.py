"""Which engine answers, as results are keyed by it."""

from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from stub_vllm import StubVllm

from configs.errors import SlipwayError
from configs.project import Project, load_project
from tasks.evals.engine import asked_for, engine_of, plugin_digest


def project(**vllm: Any) -> Project:
    found = load_project(ROOT / "configs" / "tutor")
    config = found.environment.vllm.model_copy(update={"python": Path("/bin/true"), **vllm})
    environment = found.environment.model_copy(update={"vllm": config})
    return Project(**{**vars(found), "environment": environment})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_whatever_an_answer_can_depend_on_is_named(base: Path, tmp_path: Path) -> None:
    with StubVllm() as vllm:

        def engine(changed: Project | None = None, **environment: str) -> dict[str, str]:
            return engine_of(changed or project(), base, tmp_path, vllm.url, environment=environment)

        first = engine()
        assert first["vllm version"] == "0.32.0+stub"
        assert first["vllm max-model-len"] == "1024"
        assert engine() == first
        assert engine(project(port=9999)) == first
        assert engine(VLLM_NO_USAGE_STATS="1", VLLM_API_KEY="secret", VLLM_LOGGING_LEVEL="DEBUG") == first
        others = [
            engine(project(dtype="bfloat16")),
            engine(project(extra_args=("--quantization", "fp8"))),
            engine(project(max_lora_rank=64)),
            engine(project(max_concurrent_sequences=4)),
            engine(VLLM_ATTENTION_BACKEND="FLASHINFER"),
        ]
        (base / "tokenizer.json").write_text('{"other": 1}')
        others.append(engine())
        (base / "tokenizer.json").write_text("{}")
        (base / "chat_template.jinja").write_text("{{ messages }}")
        others.append(engine())
    assert len({tuple(sorted(one.items())) for one in [first, *others]}) == 8


def test_a_vllm_that_does_not_answer_is_told() -> None:
    with pytest.raises(SlipwayError, match="does not say its version"):
        asked_for("http://127.0.0.1:9")


def test_the_plugin_is_named_by_what_stands_in_it(tmp_path: Path) -> None:
    assert plugin_digest() == plugin_digest() != plugin_digest(tmp_path)
    before = plugin_digest(tmp_path)
    (tmp_path / "a.py").write_text("x = 1\n")
    assert plugin_digest(tmp_path) != before
