"""What the Dockerfiles promise without an engine: a pinned root, a user without rights, and a narrow context."""

import re

import pytest
from places import ROOT

DOCKERFILES = sorted((ROOT / "images").glob("*/Dockerfile"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_an_image_is_pinned_has_no_rights_and_says_how_it_is(path) -> None:
    text = path.read_text()
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert all(stage.startswith("${BASE}") for stage in stages)
    assert len(stages) > 1, "what builds is not what runs"
    assert re.findall(r"^USER (\S+)$", stages[-1], re.MULTILINE) == ["10001:10001"]
    assert "\nHEALTHCHECK " in stages[-1]
    assert not re.search(r":latest|^ADD |password|token", text, re.MULTILINE | re.IGNORECASE)


def test_a_build_sees_nothing_that_is_not_named() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert not any(".slipway" in line or ".git" in line or "tests" in line for line in lines)
