"""The lock files: every direct dependency at a version that pyproject allows, and not a word of where it was found."""

import json
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import ROOT

ROOT = ROOT
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIPELINE = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["dependency-groups"]["dev"]]
WANTED = {
    "pipeline-cpu": PIPELINE,
    "pipeline-cuda": PIPELINE,
    "clients": PYPROJECT["dependency-groups"]["clients"],
    "gateway": PYPROJECT["dependency-groups"]["gateway"],
    "vllm-cpu": PYPROJECT["dependency-groups"]["vllm"],
    "vllm-cuda": PYPROJECT["dependency-groups"]["vllm-gpu"],
}
ABROAD = re.compile(r"https?://|git\+|file:|^-|@\s*\S+/", re.MULTILINE)


def lock(name: str) -> str:
    return (ROOT / "locks" / f"{name}.txt").read_text()


def pins(text: str) -> dict[str, str]:
    """Version by name; every line that is no comment must be an exact pin."""
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            pin = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)(\s*;.*)?", line.strip())
            assert pin is not None, line
            found[canonicalize_name(pin[1])] = pin[2]
    return found


def problems(text: str, wanted: list[str]) -> list[str]:
    found = pins(text)
    requirements = [Requirement(line) for line in wanted]
    return [
        f"{need}: locked is {found.get(canonicalize_name(need.name))}"
        for need in requirements
        if not need.specifier.contains(found.get(canonicalize_name(need.name), "0"), prereleases=True)
        or canonicalize_name(need.name) not in found
    ]


@pytest.mark.parametrize("name", WANTED)
def test_every_direct_dependency_is_locked_within_its_range(name: str) -> None:
    assert problems(lock(name), WANTED[name]) == []


@pytest.mark.parametrize("name", WANTED)
def test_a_lock_names_no_index_no_host_and_no_folder(name: str) -> None:
    assert ABROAD.findall(lock(name)) == []


def test_the_lock_of_the_clients_in_javascript_names_none_either_and_pins_all() -> None:
    packages = json.loads((ROOT / "tests" / "clients" / "package-lock.json").read_text())["packages"]
    assert all(one["version"] and one["integrity"] and "resolved" not in one for name, one in packages.items() if name)
    assert packages[""]["dependencies"] == {
        name: packages[f"node_modules/{name}"]["version"] for name in packages[""]["dependencies"]
    }


def test_every_lock_is_looked_at() -> None:
    assert {path.stem for path in (ROOT / "locks").glob("*.txt")} == set(WANTED)


def test_cpu_and_cuda_are_the_same_release_of_torch_and_of_vllm() -> None:
    for kind in ("pipeline", "vllm"):
        cpu, cuda = (pins(lock(f"{kind}-{build}"))["torch"] for build in ("cpu", "cuda"))
        assert cpu == f"{cuda}+cpu"
    assert pins(lock("vllm-cpu"))["vllm-cpu"] == pins(lock("vllm-cuda"))["vllm"]


def test_the_gateways_image_holds_what_the_pipeline_is_tested_with() -> None:
    pipeline = pins(lock("pipeline-cpu"))
    assert {name: pipeline.get(name) for name in pins(lock("gateway"))} == pins(lock("gateway"))


@pytest.mark.parametrize(
    ("text", "wanted", "said"),
    [
        ("a==2.0\n", ["a>=1,<2"], ["a<2,>=1: locked is 2.0"]),
        ("b==1.0\n", ["a>=0", "B[x]>=1"], ["a>=0: locked is None"]),
    ],
)
def test_what_is_missing_or_out_of_range_would_be_found(text: str, wanted: list[str], said: list[str]) -> None:
    assert problems(text, wanted) == said


@pytest.mark.parametrize(
    "line",
    ["--index-url https://host/simple", "-f wheels", "a @ file:///x/a.whl", "a @ wheels/a.whl", "# from http://h"],
)
def test_an_index_or_a_folder_in_a_lock_would_be_found(line: str) -> None:
    assert ABROAD.findall(f"a==1.0\n{line}\n")
