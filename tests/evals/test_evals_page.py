"""What docs/evals.md shows is what the settings take: every block of YAML, and every kind of scorer."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from places import ROOT

from configs.evals import EvalsConfig
from evals.samples import Reply, Sample
from evals.scorers.function import FunctionScorer
from evals.scorers.kinds import ScorerConfig
from evals.suites import SuiteConfig

PAGE = (ROOT / "docs" / "evals.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def suite(block: dict[str, Any]) -> SuiteConfig:
    return SuiteConfig.model_validate({"name": "s", "description": "d"} | block)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_block_of_settings_is_valid(block: str) -> None:
    data = yaml.safe_load(block)
    if "scorer" in data:
        suite(data)
    else:
        EvalsConfig.model_validate(data)


def test_every_kind_of_scorer_is_shown() -> None:
    shown = {suite(data).scorer.name for block in blocks("yaml") if "scorer" in (data := yaml.safe_load(block))}
    union, _ = get_args(ScorerConfig)
    assert shown == {get_args(kind.model_fields["name"].annotation)[0] for kind in get_args(union)}


def test_the_sample_and_the_function_work(tmp_path: Path) -> None:
    (sample,) = (Sample.model_validate(json.loads(block)) for block in blocks("json"))
    assert sample.replies == 2
    (code,) = blocks("python")
    (tmp_path / "scoring.py").write_text(code)
    (tmp_path / "suite").mkdir()
    (shown,) = (yaml.safe_load(block) for block in blocks("yaml") if "scoring.py" in block)
    config = suite(shown).scorer
    assert isinstance(config, FunctionScorer)
    assert config.at(tmp_path / "suite").judge(sample, (Reply("one two"),)) == (1.0, "2 words", None, None)
